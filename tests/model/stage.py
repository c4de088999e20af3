"""The stage on which the rules of `machine.py` act: a world on a loop of its own, who calls there, and how a step is made and looked at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from tests.model.callers import Caller, Watcher
from tests.model.channel import LocalChannel, Rpc
from tests.model.checks import AtTheBorder, Checks
from tests.model.rest import Rest, settled
from tests.model.watched import Judge
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import VirtualLoop
from virtrpc.v1 import types_pb2
from virtrpc_drivers.sim.faults import ANY, Rule
from virtrpc_drivers.sim.hypervisor import SimHypervisor


class Stage(RuleBasedStateMachine):
    """`shape` is whose habits the hosts have. `steps` counts what was done."""

    shape = "qemu"
    names = "abc"

    def __init__(self) -> None:
        super().__init__()
        self._loop = VirtualLoop()
        self._faults: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _loop, context: self._faults.append(context))
        self._threads = threading.active_count()
        self._world: World | None = None
        self._callers: list[Caller] = []
        self._begun: list[tuple[str, Any]] = []
        self._asked: list[Rpc] = []
        self._watchers: list[Watcher] = []
        self._turns: int | None = None
        self._ending, self._failed = "rest", False
        self.steps = 0

    async def _begin(self, parameters: str, workers: int) -> None:
        self._wishes = Wishes()
        border = AtTheBorder(lambda: self._there, self._wishes)
        self._world = world = World(Judge(border.call_sent, border.abort_sent), parameters, workers, self.names)
        self._wishes.record = world.record
        self._channel = LocalChannel(world.core)
        await self._channel.open()
        self._checks = Checks(world, self._channel, self._wishes, border)
        await world.start()
        await asyncio.sleep(1)
        await self._look()

    def _call(self, method: str, request: Any, leave: str, who: str = "unix") -> None:
        caller = Caller(self._channel, method, request, leave, self._told, who)
        self._callers.append(caller)
        self._wishes.listens(caller)

    def _told(self, job: types_pb2.Job) -> None:
        kept = self._there.journal.as_told(job.job_id, job.revision)
        state = types_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
        assert kept is not None, f"[stored first] job {job.job_id} was told and is not stored"
        assert kept.state.value == state, f"[stored first] job {job.job_id} was told {state}, and is stored {kept.state}"
        assert job.cancel_requested == (kept.cancel_reason is not None), (
            f"[stored first] the cancel of job {job.job_id} was told before it was stored"
        )

    def _send(self, method: str, request: Any) -> None:
        async def take(_answer: Any) -> None:
            """Whatever it says."""

        self._asked.append(self._channel.begin(method, request, take))

    # How a step is made

    @property
    def _there(self) -> World:
        assert self._world is not None
        return self._world

    def _job(self, number: int) -> str:
        held = self._there.journal.held
        # Those that are not over come first: to the others little can happen.
        known = sorted(held, key=lambda job_id: (not held[job_id].finished, job_id))
        return known[-1 - number % len(known)] if known else ""

    def _uuid(self, verb: str, guest: str) -> str:
        return ANY if verb in ("list", "connect") else self._there.uuids[guest]

    def _fault(self, guest: str, rule: Rule) -> None:
        self._do(lambda: self._there.sims[self._there.home(guest)].faults.add(rule))

    def _on(self, guest: str, act: Callable[[SimHypervisor, str], object]) -> None:
        sim, uuid = self._there.sims[self._there.home(guest)], self._there.uuids[guest]
        if uuid in sim.domains:
            self._do(lambda: act(sim, uuid))

    def _do(self, act: Callable[[], object], seconds: float = 0.0) -> None:
        async def step() -> None:
            act()
            await asyncio.sleep(seconds)
            await self._look()

        self._guarded(step())

    async def _look(self) -> None:
        """Look at everything, as soon as the pace allows."""
        if self._turns is None:
            await settled()
        else:
            for _ in range(self._turns):
                await asyncio.sleep(0)
        self._checks.all(settled=self._turns is None)
        for caller in self._callers:
            caller.check_end()
        for fault in self._channel.faults:
            raise fault
        assert not self._faults, f"[left behind] the loop was told of {self._faults}"

    def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        self.steps += 1
        try:
            self._loop.run_until_complete(work)
        except BaseException:
            self._failed = True
            raise

    # How it ends

    def teardown(self) -> None:
        """Let everything go, let it come to rest, and look once more."""
        try:
            if self._world is not None and not self._failed:
                rest = Rest(self._world, self._channel, self._checks, self._callers, self._watchers, self._asked)
                self._turns = None
                self._guarded(self._end(rest))
                assert threading.active_count() <= self._threads, "[left behind] threads"
                assert not self._faults, f"[left behind] the loop was told of {self._faults}"
        finally:
            self._abandon()

    async def _end(self, rest: Rest) -> None:
        if self._ending == "close":
            await rest.close()
            return
        if self._ending == "drain":
            self._wishes.drained = True
            await self._there.core.jobs.drain(60.0)
        await rest.come()
        await self._look()
        await rest.check()
        await self._look()
        await rest.close()

    def _abandon(self) -> None:
        """Nothing of it may disturb the next one."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()
