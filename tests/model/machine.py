"""Anything anybody can do to a server and its hypervisors, in any order: the rules of a hypothesis state machine, on virtual time.

After each step `checks.py` looks at what was done and told. Every argument is a plain value and every job a number (0 is the
newest), so that what hypothesis prints of a failure is a script that replays it: see replay.py.
"""

from __future__ import annotations

import contextlib

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model import requests
from tests.model.callers import Watcher
from tests.model.stage import Stage
from virtrpc.v1 import job_pb2, snapshot_pb2, types_pb2
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.control import Stranger
from virtrpc_drivers.sim.events import EventRule
from virtrpc_drivers.sim.faults import Rule

guests = st.sampled_from(("a1", "a1", "a1", "c1", "new1", "b1", "a1", "a2", "c2", "b2", "new2", "a3"))
"""Much is about one domain: what is done to another one meets nothing."""
hosts = st.sampled_from(("a", "b", "c"))
newest = st.integers(0, 5)
numbers = st.integers(0, 2)
seconds = st.sampled_from((0.001, 0.05, 0.5, 1.0, 2.0, 4.0, 6.0, 11.0, 16.0, 31.0, 70.0))
leaves = st.sampled_from(tuple(requests.LEAVES))
callers = st.sampled_from(("unix", "unix", "tcp"))
pauses = st.sampled_from((0.0, 0.5, 3.0, 20.0))
FAULTS = ("SetMemory", "ManagedSave", "Suspend", "Destroy", "Migrate", "Start", "CreateSnapshot", "Define", "read", "list", "sample", "cancel",
          "probe", "connect", "snapshots", "*")  # fmt: skip
REASONS = (Reason.FAILED, Reason.FOREIGN_JOB, Reason.WRONG_STATE, Reason.ABORTED)


class Machine(Stage):
    """One server, its hypervisors and everybody who uses them."""

    @initialize(
        abort=st.sampled_from(("handle", "domain")),
        hypervisor=st.sampled_from(("", "remembers=0", "latency=0.05", "latency=0.5")),
        late=st.sampled_from((0, 0.02)),
        kill=st.sampled_from((0, 12)),
        abort_takes=st.sampled_from((0, 0.2)),
        back_after=st.sampled_from((0.1, 3, 20)),
        workers=st.sampled_from((0, 3, 5)),
        ending=st.sampled_from(("rest", "rest", "rest", "rest", "drain", "close")),
    )
    def begin_with(
        self, abort: str, hypervisor: str, late: float, kill: int, abort_takes: float, back_after: float, workers: int, ending: str
    ) -> None:
        """What the hosts are like, and how it all ends."""
        how = abort if self.shape == "qemu" else "handle"
        times = f"read_latency={late}&kill_seconds={kill}&abort_seconds={abort_takes}&reconnect_seconds={back_after}"
        self._ending = ending
        self._guarded(self._begin("&".join(part for part in (f"shape={self.shape}&abort={how}", hypervisor, times) if part), workers))

    # What callers do

    @rule(
        verb=st.sampled_from(requests.VERBS),
        guest=guests,
        number=numbers,
        wait=st.sampled_from((30.0, 5.0, 1.0, 0.0)),
        run=st.sampled_from((0.0, 1.0, 20.0)),
        leave=leaves,
        who=callers,
    )
    def begin(self, verb: str, guest: str, number: int, wait: float, run: float, leave: str, who: str) -> None:
        """Somebody calls a verb."""
        self._do(lambda: self._begin_one(verb, guest, number, wait, run, leave, who))

    @rule(
        verbs=st.lists(st.tuples(st.sampled_from(requests.VERBS), st.sampled_from((30.0, 5.0, 1.0)), leaves), min_size=2, max_size=5),
        guest=guests,
        number=numbers,
        run=st.sampled_from((0.0, 0.0, 5.0)),
        then=st.sampled_from((0.0, 0.5, 3.0, 20.0)),
    )
    def crowd(self, verbs: list[tuple[str, float, str]], guest: str, number: int, run: float, then: float) -> None:
        """Several callers want something of one domain at once, and then time passes."""

        def begin() -> None:
            for verb, wait, leave in verbs:
                self._begin_one(verb, guest, number, wait, run, leave, "unix")

        self._do(begin, then)

    def _begin_one(self, verb: str, guest: str, number: int, wait: float, run: float, leave: str, who: str) -> None:
        here = self._there.home(guest)
        to = ("a" if number < 2 else "b") if verb in ("DefineDomain", "CreateDomain") else next(name for name in "ab" if name != here)
        how = requests.options(wait, run, leave, f"request {len(self._begun)}")
        request = requests.request(verb, self._there.uuids[guest], to, number, how)
        self._begun.append((verb, request))
        self._call(verb, request, leave, who)

    @rule(number=newest, leave=leaves, who=callers)
    def repeat(self, number: int, leave: str, who: str) -> None:
        """The same request once more, from whomever."""
        if self._begun:
            verb, request = self._begun[-1 - number % len(self._begun)]
            request = requests.again(request, leave)
            self._do(lambda: self._call(verb, request, leave, who))

    # Hypothesis takes any rule as often as any other: those on which all depends stand several times.
    begin_2 = begin_3 = begin_4 = begin
    crowd_2 = crowd_3 = crowd_4 = crowd
    repeat_2 = repeat

    @rule(job=newest)
    def cancel(self, job: int) -> None:
        """Somebody cancels a job."""
        job_id = self._job(job)
        if job_id:
            self._wishes.cancelled.add(job_id)
            self._do(lambda: self._send("CancelJob", job_pb2.CancelJobRequest(job_id=job_id)))

    cancel_2 = cancel_3 = cancel

    @rule(caller=newest)
    def leave(self, caller: int) -> None:
        """A caller goes away."""
        here = [one for one in self._callers if one.reason is None]
        if here:
            leaving = here[-1 - caller % len(here)]
            self._wishes.left(leaving)
            self._do(leaving.leave)

    leave_2 = leave_3 = leave

    @rule(job=newest)
    def follow(self, job: int) -> None:
        """Somebody attaches to a job."""
        job_id = self._job(job)
        if job_id:
            self._do(lambda: self._call("WatchJob", job_pb2.WatchJobRequest(job_id=job_id), ""))

    @rule(what=st.sampled_from(("WatchDomains", "WatchJobs")), pause=pauses)
    def watch(self, what: str, pause: float) -> None:
        """Somebody watches all domains or all jobs, and takes `pause` seconds to read each batch."""
        if len(self._watchers) < 6:
            self._do(lambda: self._watchers.append(Watcher(self._channel, what, pause, self._told)))

    @rule(watcher=newest)
    def resume(self, watcher: int) -> None:
        """A watcher loses its stream and goes on."""
        if self._watchers:
            self._do(self._watchers[-1 - watcher % len(self._watchers)].resume)

    @rule(guest=guests)
    def list_snapshots(self, guest: str) -> None:
        """Somebody asks what only the hypervisor knows."""
        domain = types_pb2.DomainRef(uuid=self._there.uuids[guest])
        self._do(lambda: self._send("ListSnapshots", snapshot_pb2.ListSnapshotsRequest(domain=domain)))

    # What time does

    @rule(seconds=seconds)
    def time_passes(self, seconds: float) -> None:
        """Nothing else happens for a while."""
        self._do(lambda: None, seconds)

    time_passes_2 = time_passes_3 = time_passes_4 = time_passes_5 = time_passes

    @rule(turns=st.sampled_from((None, 0, 1, 2, 3, 5, 8)))
    def pace(self, turns: int | None) -> None:
        """From now on the loop makes so many turns between two steps; None: as many as there are to make at that moment."""
        self._turns = turns

    # What hypervisors do

    @rule(verb=st.sampled_from(FAULTS), guest=guests, step=st.sampled_from((1, 2, -1, 0)), stubborn=st.booleans())
    def wedge(self, verb: str, guest: str, step: int, stubborn: bool) -> None:
        """The next call of this kind hangs."""
        self._fault(guest, Rule(verb=verb, uuid=self._uuid(verb, guest), step=step, wedge=True, times=1, stubborn=stubborn))

    @rule(verb=st.sampled_from(FAULTS), guest=guests, step=st.sampled_from((-1, 0, 1)), seconds=st.sampled_from((0.05, 1.0, 3.0, 7.0, 20.0)))
    def slow(self, verb: str, guest: str, step: int, seconds: float) -> None:
        """The next call of this kind takes its time: at step -1 it answers late what it saw early."""
        self._fault(guest, Rule(verb=verb, uuid=self._uuid(verb, guest), step=step, seconds=seconds, times=1))

    @rule(guest=guests, seconds=st.sampled_from((1.0, 3.0, 7.0, 20.0)))
    def answer_late(self, guest: str, seconds: float) -> None:
        """The next reading of this domain arrives late."""
        self._fault(guest, Rule(verb="read", uuid=self._there.uuids[guest], step=-1, seconds=seconds, times=1))

    @rule(verb=st.sampled_from(FAULTS), guest=guests, step=st.sampled_from((1, -1, 0)), reason=st.sampled_from([reason.value for reason in REASONS]))
    def fail(self, verb: str, guest: str, step: int, reason: str) -> None:
        """The next call of this kind fails."""
        why = Reason(reason) if verb in FAULTS[:8] else Reason.FAILED
        self._wishes.foreign_abort |= why is Reason.ABORTED
        self._fault(guest, Rule(verb=verb, uuid=self._uuid(verb, guest), step=step, reason=why, times=1))

    @rule(host=hosts)
    def release(self, host: str) -> None:
        """What hangs goes on."""
        if host in self._there.sims:
            self._do(self._there.sims[host].faults.clear)

    @rule(guest=guests)
    def stop_guest(self, guest: str) -> None:
        """SIGSTOP."""
        self._on(guest, lambda sim, uuid: sim.stop_guest(uuid))

    @rule(guest=guests)
    def continue_guest(self, guest: str) -> None:
        """SIGCONT."""
        self._on(guest, lambda sim, uuid: sim.continue_guest(uuid))

    @rule(guest=guests, seconds=st.sampled_from((0.5, 4.0, 0.0)))
    def foreign_job(self, guest: str, seconds: float) -> None:
        """Somebody else begins a job on a domain, for so long; 0 is until it is ended."""
        self._on(guest, lambda sim, uuid: sim.foreign_job(uuid, seconds=seconds or None))

    @rule(guest=guests)
    def end_foreign_jobs(self, guest: str) -> None:
        """And ends it."""
        self._on(guest, lambda sim, uuid: self._there.end_foreign(sim.options.host, uuid))

    @rule(
        guest=guests,
        action=st.sampled_from(("start", "stop", "crash", "pause", "unpause", "undefine", "define", "rename", "autostart", "replace")),
        number=numbers,
    )
    def stranger(self, guest: str, action: str, number: int) -> None:
        """Somebody else changes a domain, and asks nobody; "replace" takes it away and defines another one under its uuid."""
        self._do(lambda: self._change(guest, action, number))

    def _change(self, guest: str, action: str, number: int) -> None:
        uuid, driver = self._there.uuids[guest], self._there.drivers[self._there.home(guest)]
        name = f"other-{number}"
        if action == "replace":
            for step in ("stop", "undefine"):
                with contextlib.suppress(DriverError):
                    control.apply(driver, Stranger(action=step, uuid=uuid))
            action = "define"
        with contextlib.suppress(DriverError):
            control.apply(driver, Stranger(action=action, uuid=uuid, name=name, xml=requests.XML.format(name, uuid, 64)))

    @rule(host=hosts, process=st.booleans(), for_long=st.booleans())
    def lose(self, host: str, process: bool, for_long: bool) -> None:
        """A host's connection or driver process is lost; `for_long`: until it is mended."""
        if host in self._there.drivers:
            self._do(lambda: self._there.drivers[host].lose(process=process, stay_down=for_long))

    @rule(host=hosts)
    def mend(self, host: str) -> None:
        """A host that was away for long comes back."""
        if host in self._there.drivers:
            self._do(self._there.drivers[host].mend)

    @rule(host=hosts, action=st.sampled_from(("drop", "repeat", "delay", "reorder")), times=st.integers(1, 3))
    def events(self, host: str, action: str, times: int) -> None:
        """What happens to a host's next events on their way."""
        if host in self._there.sims:
            rule = EventRule(action=action, seconds=3.0, times=times)  # type: ignore[arg-type]
            self._do(lambda: self._there.sims[host].events.rules.append(rule))

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.5)), failures=st.sampled_from((0, 0, 1, 3)))
    def store(self, seconds: float, failures: int) -> None:
        """How long each writing to the store takes from now on, and how many fail."""
        self._there.journal.seconds, self._there.journal.failures = seconds, failures


class VirtuozzoMachine(Machine):
    """The same on hosts with Virtuozzo's habits: its agent and its snapshots take the condition or nothing, everything can be aborted."""

    shape = "vz"
