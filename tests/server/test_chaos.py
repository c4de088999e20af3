"""Random schedules on two simulated hosts, on virtual time: whatever is done to the core, what it promises holds afterwards.

A failure prints the seed and the steps; `replay(SEED)` runs that schedule alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import pytest

from tests.server.world import World
from tests.virtual_time import run
from virtrpc.v1 import job_pb2, query_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.sim.control import Stranger
from virtrpc_drivers.sim.events import EventRule
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import ACTIVE_STATES
from virtrpc_server.errors import Refusal
from virtrpc_server.jobs import Order
from virtrpc_server.lookup import Lookup
from virtrpc_server.records import Job, JobState, OnDisconnect
from virtrpc_server.slow import SlowReads
from virtrpc_server.store import MemoryStore
from virtrpc_server.verbs import ASKING
from virtrpc_server.watching import Watches

SCHEDULES = 30
"""In each of the groups, of which each is one test."""
GROUPS = 8
STEPS = 40
AUDIT_SECONDS = 20.0
OVER_SECONDS = 300.0
MIB = 1 << 20
XML = "<domain type='test'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
VERBS = (
    "Suspend", "Resume", "Start", "Start", "Shutdown", "Reboot", "Destroy", "Destroy", "Define", "Create", "Undefine", "ManagedSave", "ManagedSave",
    "ManagedSave", "RemoveManagedSave", "SetMemory", "SetMemory", "SetMemory", "SetUserPassword", "DetachDevice", "Migrate", "Migrate",
    "CreateSnapshot", "RevertToSnapshot", "DeleteSnapshot",
)  # fmt: skip


WEDGED = ("*", "ManagedSave", "Suspend", "SetMemory", "Destroy", "cancel", "Migrate", "Start", "snapshots")
READS = ("read", "list", "sample", "connect", "cancel", "probe")


class FlakyStore(MemoryStore):
    """Takes its time now and then, and fails now and then; remembers what it holds."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.flaky = True
        self.held: dict[str, Job] = {}

    async def put(self, job: Job) -> None:
        """Write, in time."""
        if self.flaky and self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.choice((0.0, 0.01, 0.5)))
        if self.flaky and self._chance.random() < 0.03:
            raise OSError("no space left")
        await super().put(job)
        self.held[job.id] = job


class Schedule:
    """One random schedule. `steps` is what was done, in words."""

    def __init__(self, seed: int) -> None:
        self.random = chance = random.Random(seed)
        self.steps: list[str] = []
        self.store = FlakyStore(chance)
        shape = chance.choice(("qemu", "qemu", "vz"))
        # A call that is on its way to a hypervisor which has not seen it yet, and whose process dies, is beyond anybody's knowledge.
        memory = chance.choice(("remembers=0", f"remembers=1&latency={chance.choice((0, 0.05, 0.5))}"))
        common = (
            f"shape={shape}&abort={chance.choice(('handle', 'domain'))}&{memory}&lock_seconds={chance.choice((1, 5))}"
            f"&read_latency={chance.choice((0, 0.02))}&kill_seconds={chance.choice((0, 12))}&save_seconds=4&migrate_seconds=4&shutdown_seconds=2"
            f"&abort_seconds={chance.choice((0, 0.2))}&reconnect_seconds={chance.choice((0.1, 3, 20))}"
        )
        self.steps.append(common)
        workers = chance.choice(("", "&workers=3", "&workers=5"))
        self.uris = (f"sim://a/?domains=3&running=2&seed={seed % 9999}&{common}{workers}", f"sim://b/?domains=2&running=1&transient=1&{common}")
        self.callers: list[asyncio.Task[None]] = []
        self.told: dict[str, list[Job]] = {}
        self.unstored: list[str] = []
        self.number = 0

    async def run(self) -> None:
        """Do it, let everything go, and check."""
        self.world = world = World(*self.uris, store=self.store, audit_seconds=AUDIT_SECONDS, saves=1, migrations=1)
        self._listen_in()
        self.slow = SlowReads(world.hosts)
        async with world:
            watchers = [Watcher(self, "domains"), Watcher(self, "jobs")]
            for _ in range(STEPS):
                self._step()
                await asyncio.sleep(self.random.choice((0, 0, 0, 0.001, 0.01, 0.1, 0.5, 2, 6)))
            if self.random.random() < 0.1:
                await self._close_in_the_middle(watchers)
                return
            if self.random.random() < 0.1:
                await self._drain()
            await self._let_go()
            self._check_jobs()
            await asyncio.sleep(2 * AUDIT_SECONDS)
            self._check_cache()
            for watcher in watchers:
                watcher.check()
                await watcher.close()

    def _listen_in(self) -> None:
        publish = self.world.jobs.publish

        def listening(job: Job) -> None:
            self.told.setdefault(job.id, []).append(job)
            held = self.store.held.get(job.id)
            if held is None or (held.state, held.cancel_reason) != (job.state, job.cancel_reason):
                self.unstored.append(f"{job.id} {job.state} {job.cancel_reason}, stored: {held.state if held else None}")
            publish(job)

        self.world.jobs.publish = listening  # type: ignore[method-assign]

    async def _close_in_the_middle(self, watchers: list[Watcher]) -> None:
        self.steps.append("close")
        for watcher in watchers:
            await watcher.close()
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)
        assert not self.unstored

    async def _drain(self) -> None:
        self.steps.append("drain")
        await self.world.jobs.drain(60.0)
        assert all(run.job.state is JobState.RUNNING or self.store.flaky for run in self.world.jobs._runs.values())

    # What is done

    def _step(self) -> None:
        acts: list[Callable[[], None]] = [
            *[self._verb] * 8, *[self._cancel] * 2, *[self._leave] * 3, self._wedge, self._wedge, self._release, self._stop, self._continue,
            self._foreign, self._lose, self._events, self._stranger, self._fail, self._watch_job, self._read,
        ]  # fmt: skip
        self.random.choice(acts)()

    def _host(self) -> str:
        return self.random.choice("aab")

    def _uuid(self, host: str) -> str:
        domains = list(self.world.sims[host].domains)
        # One domain is in demand.
        return self.random.choice([*domains[:1] * 3, *domains]) if domains else "0" * 8 + "-0000-4000-8000-" + "0" * 12

    def _verb(self) -> None:
        host, verb = self._host(), self.random.choice(VERBS)
        self._order(host, self._operation(host, verb))

    def _operation(self, host: str, verb: str) -> op.AnyOperation:
        uuid = self._uuid(host)
        match verb:
            case "Define" | "Create":
                number = self.random.randrange(4)
                new = f"aaaaaaaa-0000-4000-8000-00000000000{number}"
                name = f"new-{self.random.choice((number, 0))}"
                return getattr(op, verb)(uuid=new, name=name, xml=XML.format(name, new))  # type: ignore[no-any-return]
            case "SetMemory":
                return op.SetMemory(uuid=uuid, memory_bytes=self.random.choice((32, 64, 512)) * MIB)
            case "CreateSnapshot":
                return op.CreateSnapshot(uuid=uuid, name=f"s{self.random.randrange(3)}", xml="<domainsnapshot/>")
            case "RevertToSnapshot" | "DeleteSnapshot":
                return getattr(op, verb)(uuid=uuid, name=f"s{self.random.randrange(3)}")  # type: ignore[no-any-return]
            case "DetachDevice":
                return op.DetachDevice(uuid=uuid, xml="<disk type='file' device='disk'><target dev='vda'/></disk>")
            case "SetUserPassword":
                return op.SetUserPassword(uuid=uuid, user="root", password="x")
            case "Migrate":
                other = "b" if host == "a" else "a"
                return op.Migrate(uuid=uuid, destination_uri=f"sim://{other}/", persist_destination=True, undefine_source=self.random.random() < 0.5)
            case _:
                return getattr(op, verb)(uuid=uuid)  # type: ignore[no-any-return]

    def _order(self, host: str, operation: op.AnyOperation) -> None:
        chance = self.random
        asks = operation.verb in ASKING
        more: dict[str, Any] = {
            "wait_limit": chance.choice((0.0, 1.0, 30.0, 30.0)),
            "run_limit": chance.choice((1.0, 20.0) if asks else (None, None, 1.0, 20.0)),
            "on_disconnect": chance.choice(list(OnDisconnect)),
            "destination_host": {"a": "b", "b": "a"}[host] if operation.verb == "Migrate" else "",
        }
        if chance.random() < 0.2:
            more |= {"owner": "me", "request_id": f"{operation.verb} {operation.uuid} {chance.randrange(2)}", "fingerprint": repr(operation)}
        self.steps.append(f"{host} {operation.verb} {operation.uuid[-2:]} {more}")
        self.callers.append(asyncio.get_running_loop().create_task(self._caller(self.world.order(operation, host, **more))))

    async def _caller(self, order: Order) -> None:
        with suppress(Refusal, OSError), self.world.jobs.accept(order) as listener:
            await listener.stored()
            await self._follow(listener.updates())

    async def _follow(self, updates: AsyncIterator[Job]) -> None:
        seen = [job async for job in updates]
        assert [job.finished for job in seen].count(True) == 1
        assert seen[-1].finished
        assert [job.revision for job in seen] == sorted({job.revision for job in seen})

    def _watch_job(self) -> None:
        if self.told:
            watched = self.world.jobs.watch(self.random.choice(list(self.told)))
            self.callers.append(asyncio.get_running_loop().create_task(self._follow(watched)))

    def _read(self) -> None:
        async def read() -> None:
            with suppress(Refusal):
                await self.slow.ask(entry, lambda: self.world.drivers[entry.host].snapshots(entry.uuid))

        entries = [*self.world.domains.all()]
        if entries:
            entry = self.random.choice(entries)
            self.steps.append(f"{entry.host} read snapshots {entry.uuid[-2:]}")
            self.callers.append(asyncio.get_running_loop().create_task(read()))

    def _cancel(self) -> None:
        if self.told:
            job_id = self.random.choice(list(self.told)[-6:])
            self.steps.append(f"cancel {self.world.jobs.known(job_id).verb}")
            self.world.jobs.keep(self._cancelled(job_id))

    async def _cancelled(self, job_id: str) -> None:
        await self.world.jobs.cancel(job_id)

    def _leave(self) -> None:
        here = [caller for caller in self.callers if not caller.done()]
        if here:
            self.steps.append("leave")
            self.random.choice(here).cancel()

    def _wedge(self) -> None:
        host, verb = self._host(), self.random.choice(WEDGED)
        rule = Rule(verb=verb, uuid=self._uuid(host), step=self.random.choice((1, 2, -1)), wedge=True, times=1, stubborn=self.random.random() < 0.2)
        self.steps.append(f"{host} wedge {verb} {rule.uuid[-2:]} at {rule.step}")
        self.world.sims[host].faults.add(rule)

    def _fail(self) -> None:
        host, verb = self._host(), self.random.choice((*VERBS, *READS))
        reason = self.random.choice((Reason.FAILED, Reason.FOREIGN_JOB, Reason.WRONG_STATE, Reason.ABORTED)) if verb in VERBS else Reason.FAILED
        step = self.random.choice((1, -1) if verb in VERBS else (0, -1))
        self.steps.append(f"{host} fail {verb} {reason}")
        self.world.sims[host].faults.add(Rule(verb=verb, step=step, reason=reason, seconds=self.random.choice((0, 0.5)), times=1))

    def _release(self) -> None:
        host = self._host()
        self.steps.append(f"{host} release")
        self.world.sims[host].faults.clear()

    def _stop(self) -> None:
        host = self._host()
        uuid = self._uuid(host)
        self.steps.append(f"{host} stop guest {uuid[-2:]}")
        if uuid in self.world.sims[host].domains:
            self.world.sims[host].stop_guest(uuid)

    def _continue(self) -> None:
        host = self._host()
        uuid = self._uuid(host)
        self.steps.append(f"{host} continue guest {uuid[-2:]}")
        if uuid in self.world.sims[host].domains:
            self.world.sims[host].continue_guest(uuid)

    def _foreign(self) -> None:
        host = self._host()
        uuid = self._uuid(host)
        self.steps.append(f"{host} foreign job {uuid[-2:]}")
        self.world.sims[host].foreign_job(uuid, seconds=self.random.choice((0.5, 4.0, None)))

    def _lose(self) -> None:
        host, process = self._host(), self.random.random() < 0.7
        self.steps.append(f"{host} lost, process={process}")
        self.world.drivers[host].lose(process=process)

    def _events(self) -> None:
        host, action = self._host(), self.random.choice(("drop", "repeat", "delay", "reorder"))
        self.steps.append(f"{host} events {action}")
        self.world.sims[host].events.rules.append(EventRule(action=action, seconds=3.0, times=3))  # type: ignore[arg-type]

    def _stranger(self) -> None:
        host, action = self._host(), self.random.choice(("start", "stop", "crash", "pause", "unpause", "undefine", "rename", "autostart"))
        self.number += 1
        uuid = self._uuid(host)
        self.steps.append(f"{host} stranger {action} {uuid[-2:]}")

        async def act() -> None:
            with suppress(DriverError):
                await self.world.drivers[host].simulate(Stranger(action=action, uuid=uuid, name=f"renamed-{self.number}"))

        self.world.jobs.keep(act())

    # What holds afterwards

    async def _let_go(self) -> None:
        world = self.world
        self.store.flaky = False
        for sim in world.sims.values():
            sim.faults.clear()
            sim.events.rules.clear()
            sim.events.flush()
            for uuid in list(sim.domains):
                sim.continue_guest(uuid)
            for job in [job for jobs in sim._foreign.values() for job in jobs if job.verb != "MigrateIncoming"]:
                job.end()
        async with asyncio.timeout(OVER_SECONDS):
            while not self._quiet():  # noqa: ASYNC110 # nothing announces all of it
                await asyncio.sleep(1)

    def _quiet(self) -> bool:
        jobs, done = self.world.jobs, all(caller.done() for caller in self.callers)
        return done and not (jobs._runs or jobs._ghosts or self.slow._out) and all(host.connected for host in self.world.hosts)

    def _check_jobs(self) -> None:
        world = self.world
        assert not self.unstored
        for caller in self.callers:
            assert caller.cancelled() or caller.exception() is None, caller.exception()
        for job_id, forms in self.told.items():
            assert [form.finished for form in forms].count(True) == 1, job_id
            assert forms[-1].finished, job_id
            assert forms[-1] == world.jobs.known(job_id) == self.store.held[job_id]
            assert forms[-1].problem is None or forms[-1].problem.reason != "INTERNAL"
            assert (forms[-1].state is JobState.SUCCEEDED) == (forms[-1].problem is None)
            if forms[-1].state is JobState.PREEMPTED and forms[-1].problem is not None:
                assert world.jobs.known(forms[-1].problem.metadata["job_id"]).started is not None
        assert set(self.store.held) == set(self.told)
        assert [job.id for job in world.jobs.before(None)] == sorted(self.told, reverse=True)
        assert list(world.jobs.conditions) == []
        assert not any(world.jobs.feed.news.waiting(job_id) for job_id in self.told)
        for host in world.hosts:
            for slots in (host.budget, host.destroys, *host.limits.values()):
                assert slots.idle

    def _check_cache(self) -> None:
        world = self.world
        for name, sim in world.sims.items():
            held = {entry.uuid: entry for entry in world.domains.on_host(name)}
            assert held.keys() == sim.domains.keys()
            for uuid, domain in sim.domains.items():
                entry = held[uuid]
                assert entry.state is not None
                assert entry.config is not None
                assert (entry.name, entry.state.value.state, entry.state.value.id) == (domain.name, domain.state, domain.id)
                assert entry.state.value.has_managed_save == (domain.image is not None)
                assert entry.config.value == domain.config_value()
                assert world.domains.by_name(domain.name, name) == [entry]
                assert entry.active == (domain.state in ACTIVE_STATES)


class Watcher:
    """Applies every batch as the contract says, slowly, and resumes now and then."""

    def __init__(self, schedule: Schedule, what: str) -> None:
        world = schedule.world
        lookup = Lookup(world.hosts, world.domains)
        self._watches = Watches(world.hosts, world.domains, world.jobs, lookup)
        self._random, self._what, self._world = random.Random(schedule.random.random()), what, world
        self.held: dict[str, Any] = {}
        self._token = ""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _open(self) -> AsyncGenerator[Any, None]:
        domains = self._what == "domains"
        read = (query_pb2.WatchDomainsResponse if domains else job_pb2.WatchJobsResponse).FromString
        token = self._token
        stream = (
            self._watches.domains(query_pb2.WatchDomainsRequest(resume_token=token))
            if domains
            else self._watches.jobs(job_pb2.WatchJobsRequest(resume_token=token))
        )
        async with aclosing(stream) as bodies:  # type: ignore[type-var]  # both are generators
            async for body in bodies:
                yield read(body)

    async def _watch(self) -> None:
        while True:
            async with aclosing(self._open()) as batches:
                async for batch in batches:
                    self._apply(batch)
                    await asyncio.sleep(self._random.choice((0, 0, 1, 3)))
                    if self._random.random() < 0.1:
                        break

    def _apply(self, batch: Any) -> None:
        if batch.reset:
            self.held.clear()
        for change in batch.changes:
            if self._what == "domains":
                if change.HasField("current"):
                    domain = change.current
                    self.held[f"{domain.host} {domain.uuid}"] = (domain.name, domain.id)
                else:
                    self.held.pop(f"{change.removed.domain.host} {change.removed.domain.uuid}", None)
            elif change.HasField("current"):
                self.held[change.current.job_id] = change.current.revision
        self._token = batch.resume_token

    def check(self) -> None:
        """What it holds is the present state."""
        assert not self._task.done(), self._task.exception()
        if self._what == "jobs":
            assert self.held == {job.id: job.revision for job in self._world.jobs.before(None)}
            return
        entries = {f"{entry.host} {entry.uuid}": entry for entry in self._world.domains.all()}
        assert self.held == {key: (entry.name, entry.state.value.id or 0) for key, entry in entries.items() if entry.state}

    async def close(self) -> None:
        """Leave."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def replay(seed: int) -> None:
    """Run one schedule."""
    schedule = Schedule(seed)

    async def play() -> None:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with asyncio.timeout(10_000):
            await schedule.run()
        for caller in schedule.callers:
            caller.cancel()
        await asyncio.gather(*schedule.callers, return_exceptions=True)
        assert not schedule.unstored
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left
        assert not faults

    try:
        run(play())
    except BaseException as error:
        steps = "\n  ".join(schedule.steps)
        raise AssertionError(f"seed {seed}: {error!r}\n  {steps}") from error


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_happens_the_promises_hold(group: int) -> None:
    """Random verbs, cancels, leaves, wedges, losses and strangers: one end for each job, nothing held, the cache and watchers true, no task left."""
    for seed in range(group * SCHEDULES, (group + 1) * SCHEDULES):
        replay(seed)
