"""The stage on which the rules of `machine.py` act: a world on a loop of its own, who calls there, and how a step is made and looked at."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any
from unittest import mock

from hypothesis.stateful import RuleBasedStateMachine

from tests.model import requests
from tests.model.border import AtTheBorder
from tests.model.callers import Caller, Watcher
from tests.model.channel import Channel, LocalChannel, Rpc
from tests.model.checks import Checks
from tests.model.endings import Endings
from tests.model.past import Past
from tests.model.rest import TURNS_TO_REST, Rest, settled
from tests.model.standing import Standing
from tests.model.watched import Judge
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import VirtualLoop
from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.faults import ANY, Rule
from virtrpc_server.records import CancelReason

ALL = 1_000_000
"""More than anybody writes at a time."""


class Stage(RuleBasedStateMachine):
    """`shape` is whose habits the hosts have. `steps` counts what was done."""

    shape = "qemu"
    names = "abc"
    restarts = True
    """Whether the server can be killed here."""

    def __init__(self) -> None:
        super().__init__()
        # What is kept by a weak reference must not depend on when a collection runs.
        gc.disable()
        # Nor may anything on when a thread is done.
        self._at_once = mock.patch("virtrpc_server.acceptance._sealed", _sealed)
        self._at_once.start()
        self._loop = self._new_loop()
        self._faults: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _loop, context: self._faults.append(context))
        self._threads = threading.active_count()
        self._world: World | None = None
        self._callers: list[Caller] = []
        self._begun: list[tuple[str, Any]] = []
        self._asked: list[tuple[str, Any, Rpc]] = []
        self._lost: list[Caller] = []
        """Those who lost their stream when the server ended last."""
        self._watchers: list[Watcher] = []
        self._turns: int | None = None
        self._every, self._ending, self._failed = 0.0, "rest", False
        self.steps = 0

    async def _begin(self, parameters: dict[str, object], workers: int) -> None:
        self._wishes = Wishes()
        standing = Standing(lambda: self._there)
        border = AtTheBorder(lambda: self._there, self._wishes, standing)
        self._world = world = World(Judge(border.call_sent, border.abort_sent), parameters, workers, self.names)
        self._wishes.record = world.record
        self._local = LocalChannel()
        await self._local.serve(world.core)
        self._channel = await self._connect(world)
        endings = Endings(world, self._local, self._wishes)
        world.journal.judge = endings.ended
        self._past = border.past = Past(world, self._local, self._wishes)
        self._standing = standing
        self._checks = Checks(world, self._local, self._wishes, border, endings, standing, self._past)
        await world.start()
        # Somebody sees it all.
        for what in ("WatchJobs", "WatchDomains"):
            self._watch(what, 0.0)
        if isinstance(self._loop, VirtualLoop):
            self._loop.before_time_passes(self._glance)
        await asyncio.sleep(1)
        await self._look()

    # What another stage may have otherwise

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return VirtualLoop()

    async def _connect(self, _world: World) -> Channel:
        """Where callers call."""
        return self._local

    async def _come_to_rest(self) -> bool:
        """Let the loop go on as far as the pace allows; whether nothing more happens at this moment."""
        if self._turns is None:
            rests = await settled()
            self._checks.border()
            assert rests, f"[rest] the loop turned {TURNS_TO_REST} times in one moment"
            return True
        for _ in range(self._turns):
            await asyncio.sleep(0)
        return False

    # Who calls

    def _verb(self, verb: str, guest: str, number: int = 0, **how: Any) -> None:
        self._do(lambda: self._begin_one(verb, guest, number, **how))

    def _begin_one(
        self, verb: str, guest: str, number: int, *, wait: float = 30.0, run: float = 0.0, leave: str = "withdraw", who: str = "unix"
    ) -> None:
        here = self._there.home(guest)
        to = ("a" if number < 2 else "b") if verb in ("DefineDomain", "CreateDomain") else next(name for name in "ab" if name != here)
        how = requests.options(wait, run, leave, f"request {len(self._begun)}")
        request = requests.request(verb, self._there.uuids[guest], to, number, how)
        if verb == "ListSnapshots":
            self._send(verb, request)
        else:
            self._begun.append((verb, request))
            self._call(verb, request, leave, who)

    def _call(self, method: str, request: Any, leave: str, who: str = "unix") -> None:
        caller = Caller(self._channel, method, request, leave, self._told, who)
        self._callers.append(caller)
        self._wishes.listens(caller)

    def _told(self, job: types_pb2.Job) -> None:
        self._past.told(job)
        kept = self._there.journal.as_told(job.job_id, job.revision)
        state = types_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
        assert kept is not None, f"[stored first] job {job.job_id} was told and is not stored"
        assert kept.state.value == state, f"[stored first] job {job.job_id} was told {state}, and is stored {kept.state}"
        wished = kept.cancel_reason not in (None, CancelReason.FOREIGN)
        assert job.cancel_requested == wished, f"[stored first] the cancel of job {job.job_id} was told before it was stored"

    def _send(self, method: str, request: Any) -> None:
        async def take(_answer: Any) -> None:
            """Whatever it says."""

        self._asked.append((method, request, self._channel.begin(method, request, take)))

    # How the server ends and begins again

    async def _end_life(self, *, how: str, taken: int = ALL) -> None:
        """Kill the server, with the first `taken` of what was being written; or have it drain before."""
        world = self._there
        if how != "kill":
            over = {job.id for job in world.journal.held.values() if job.finished}
            await self._drain(how)
            # Of those that were accepted in that very moment the journal has heard since.
            self._wishes.drained |= world.journal.offered.keys() - over
        here = [caller for caller in self._callers if caller.reason is None]
        answered = [request.job_id for method, request, rpc in self._asked if method == "CancelJob" and rpc.reason == "OK"]
        self._local.kill()
        self._lost = [caller for caller in here if not caller.left]
        await world.kill(taken)
        self._past.server_ends(self._callers, answered)
        self._wishes.server_ended(world.journal.held)
        assert await settled(), "[rest] a server that was killed has no rest"
        left = [task for task in asyncio.all_tasks() if _is_of_server(task)]
        assert not left, f"[left behind] {left}"

    async def _drain(self, how: str) -> None:
        draining = self._loop.create_task(self._there.core.jobs.drain(60.0 if how == "drain for long" else 2.0))
        await asyncio.sleep(0.3)
        if how == "cancel in a drain":
            self._cancel(self._job(0))
        elif how == "kill in a drain":
            draining.cancel()
        await asyncio.wait([draining])

    def _cancel(self, job_id: str) -> None:
        if job_id:
            self._wishes.cancelled.add(job_id)
            self._send("CancelJob", job_pb2.CancelJobRequest(job_id=job_id))

    async def _next_life(self) -> None:
        """Start the server again; who watches goes on where it was."""
        await self._there.begin_again()
        await self._local.serve(self._there.core)
        self._standing.life_begins()
        self._past.life_begins()
        for watcher in self._watchers:
            watcher.resume()

    def _come_back(self, caller: Caller, how: str) -> None:
        """One who has lost its stream follows its job, or repeats its verb; without its job's id only that is left to it."""
        if how == "watch" and caller.job_id:
            self._call("WatchJob", job_pb2.WatchJobRequest(job_id=caller.job_id), "", caller.who)
        elif how:
            self._call(caller.method, caller.wanted, caller.leaves, caller.who)

    # How a step is made

    @property
    def now(self) -> float:
        """Loop time in seconds."""
        return self._loop.time()

    @property
    def _there(self) -> World:
        assert self._world is not None
        return self._world

    def _job(self, number: int, verbs: Collection[str] = ()) -> str:
        held = {job_id: job for job_id, job in self._there.journal.held.items() if not verbs or job.verb in verbs}
        # Those that are not over come first: to the others little can happen.
        known = sorted(held, key=lambda job_id: (not held[job_id].finished, job_id))
        return known[-1 - number % len(known)] if known else ""

    def _trouble(self, guest: str, verb: str, **what: Any) -> None:
        """The next call of this kind is in for it, on the host where the guest is."""
        everywhere = verb in ("list", "connect")
        trouble = Rule(verb=verb, uuid=ANY if everywhere else self._there.uuids[guest], times=1, **what)
        self._do(lambda: self._there.sims[self._there.home(guest)].faults.add(trouble))

    def _announce(self, host: str) -> None:
        sim = self._there.sims[host]
        for uuid in sim.domains:
            sim.emit(uuid, Change.OTHER)

    def _change(self, guest: str, actions: Sequence[str], name: str) -> None:
        uuid, driver = self._there.uuids[guest], self._there.drivers[self._there.home(guest)]
        for action in actions:
            with contextlib.suppress(DriverError):
                control.apply(driver, control.Stranger(action=action, uuid=uuid, name=name, xml=requests.XML.format(name, uuid, 64)))

    def _watch(self, what: str, pause: float) -> None:
        self._watchers.append(Watcher(self._channel, what, pause, self._told))

    def _do(self, act: Callable[[], object], seconds: float = 0.0) -> None:
        async def step() -> None:
            act()
            await asyncio.sleep(seconds or self._every)
            await self._look()

        self._guarded(step())

    async def _look(self) -> None:
        """Look at everything, as soon as the pace allows."""
        settled = await self._come_to_rest()
        self._checks.all(settled=settled)
        self._answered(settled=settled)
        for caller in self._callers:
            caller.check_end()
        for fault in self._channel.faults:
            raise fault
        assert not self._faults, f"[left behind] the loop was told of {self._faults}"

    def _answered(self, *, settled: bool) -> None:
        """Who called once and calls again has one job; and what need not wait for a hypervisor has been answered."""
        jobs: dict[tuple[str, str], str] = {}
        for caller in self._callers:
            if caller.leaves and caller.job_id:
                other = jobs.setdefault(caller.request, caller.job_id)
                assert other == caller.job_id, f"[once] the same request has the jobs {other} and {caller.job_id}"
        if not settled or not self._there.journal.idle:
            return
        for caller in self._callers:
            assert caller.accepted or not caller.leaves, "[answered] a verb was neither accepted nor refused"
        cancels = [rpc for method, _, rpc in self._asked if method == "CancelJob" and rpc.reason is None]
        assert not cancels, "[answered] a cancel waits for something"
        reads = sum(rpc.reason is None for method, _, rpc in self._asked if method == "ListSnapshots")
        out = sum(self._there.record.reads_out.values())
        assert self._there.workers or reads <= out, f"[answered] {reads} slow reads wait, and {out} are at a hypervisor"

    def _glance(self) -> bool:
        """Before time passes nothing is under way on the loop: look at what has changed."""
        touched, self._there.record.touched = self._there.record.touched, set()
        if not touched or not self._local.open:
            return False

        async def glance() -> None:
            try:
                self._checks.glance(touched)
            except AssertionError as fault:
                self._there.record.faults.append(str(fault))

        task = self._loop.create_task(glance())
        task.add_done_callback(lambda done: done.exception())
        return True

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
                rest = Rest(self._world, self._local, self._channel, self._callers, self._watchers, [rpc for *_, rpc in self._asked], self._wishes)
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
            if not self.restarts:
                await self._there.core.jobs.drain(60.0)
                await rest.close()
                return
            await self._end_life(how="drain for long")
            await self._next_life()
        await rest.come()
        await self._look()
        await rest.check()
        await self._look()
        await rest.close()

    def _abandon(self) -> None:
        """Nothing of it may disturb the next one."""
        if isinstance(self._loop, VirtualLoop):
            self._loop.before_time_passes(None)
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()
        self._at_once.stop()
        gc.enable()


async def _sealed(digest: str, _options: types_pb2.JobOptions) -> str:
    """A fingerprint as it is kept of a request with a secret, without its slow hash."""
    return f"scrypt:{digest}"


def _is_of_server(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "virtrpc_server" in code.co_filename
