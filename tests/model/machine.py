"""Anything anybody can do to a server and its hypervisors, in any order: the rules of a hypothesis state machine, on virtual time.

After each step `checks.py` looks at what was done and told. Every argument is a plain value and every job a number (0 is the
newest), so that what hypothesis prints of a failure is a script that replays it: see replay.py.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model import requests
from tests.model.holding import BACKGROUND
from tests.model.stage import ALL, Stage
from virtrpc.v1 import job_pb2
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.events import EventRule

STRANGERS = {
    "vanish": ("stop", "undefine"),
    "replace": ("stop", "undefine", "define"),
    **{action: (action,) for action in ("stop", "start", "undefine", "define", "rename", "pause", "unpause", "crash", "autostart")},
}
# One domain is in demand, and one that no event tells of.
guests = st.sampled_from(("a1",) * 7 + ("c1",) * 4 + ("b1",) * 2 + ("a2", "c2", "b2", "new1"))
hosts = st.sampled_from(("a", "c", "b"))
newest = st.integers(0, 5)
numbers = st.integers(0, 2)
waits = st.sampled_from((30.0, 1.0, 5.0, 30.0, 0.0))
runs = st.sampled_from((0.0, 0.0, 1.0, 20.0))
leaves = st.sampled_from(tuple(requests.LEAVES))
identities = st.sampled_from(("unix", "unix", "tcp"))
pauses = st.sampled_from((0.0, 0.5, 3.0, 20.0))
blocks = st.sampled_from(requests.BLOCKS)
CALLS = ("*", "SetMemory", "ManagedSave", "Destroy", "Migrate", "Start", "CreateSnapshot", "Define", "Suspend", "CopyBlock", "Backup")
READS = ("read", "list", "cancel", "probe", "sample", "connect", "snapshots", "steer")
MEANWHILE = (
    "lose",
    "ManagedSaveDomain",
    "cancel",
    "DestroyDomain",
    "SetMemory",
    "BackupDomain",
    "CreateSnapshot",
    "CopyBlock",
    "stop",
    "ShutdownDomain",
)
MAX_WATCHERS = 6
EVENT_SECONDS = 0.02
"""After which an event that nothing has happened to has been heard."""
TROUBLES: dict[str, dict[str, Any]] = {
    "hangs": {"wedge": True},
    "hangs for good": {"wedge": True, "stubborn": True},
    "is slow": {"seconds": 7.0},
    "is very slow": {"seconds": 20.0},
    "fails": {"reason": Reason.FAILED},
    "fails late": {"reason": Reason.FAILED, "seconds": 1.0},
    "meets a foreign job": {"reason": Reason.FOREIGN_JOB},
    "is aborted": {"reason": Reason.ABORTED},
    "dies": {"dies": True},
}


class Machine(Stage):
    """One server, its hypervisors and everybody who uses them."""

    @initialize(
        abort=st.sampled_from(("handle", "domain")),
        takes=st.sampled_from((0.5, 3.0, 0.0)),
        remembers=st.sampled_from((True, True, True, False)),
        late=st.sampled_from((0.02, 0, 0.3)),
        kill=st.sampled_from((0, 12)),
        abort_takes=st.sampled_from((0, 0.2)),
        back_after=st.sampled_from((0.1, 0.1, 3, 20)),
        workers=st.sampled_from((0, 3, 5)),
        every=st.sampled_from((0.0, 0.1, 0.4, 1.0)),
        block=st.sampled_from((4.0, 0.3, 12.0)),
        ending=st.sampled_from(("rest", "rest", "rest", "rest", "drain", "close")),
    )
    def begin_with(
        self,
        abort: str,
        takes: float,
        remembers: bool,
        late: float,
        kill: int,
        abort_takes: float,
        back_after: float,
        workers: int,
        every: float,
        block: float,
        ending: str,
    ) -> None:
        """What the hosts are like, how many seconds pass with every step, and how it all ends. Virtuozzo aborts by handle only.

        What a call is that was on its way when the connection was lost, a hypervisor that does not remember calls cannot know.
        """
        parameters: dict[str, object] = {
            "shape": self.shape,
            "abort": abort if self.shape == "qemu" else "handle",
            "latency": takes if remembers else 0,
            "remembers": int(remembers),
            "read_latency": late,
            "kill_seconds": kill,
            "abort_seconds": abort_takes,
            "reconnect_seconds": back_after,
            "block_seconds": block,
        }
        self._every, self._ending = every, ending
        self._guarded(self._begin(parameters, workers))

    # What callers do

    @rule(guest=guests, number=numbers, wait=waits, leave=leaves)
    def set_memory(self, guest: str, number: int, wait: float, leave: str) -> None:
        """Somebody changes a domain in the most ordinary way; `number` chooses among the forms of a verb."""
        self._verb("SetMemory", guest, number, wait=wait, leave=leave)

    @rule(verb=st.sampled_from(("StartDomain", "SuspendDomain", "ResumeDomain", "DestroyDomain")), guest=guests)
    def switch(self, verb: str, guest: str) -> None:
        """Somebody starts, stops or pauses a domain."""
        self._verb(verb, guest)

    @rule(guest=guests, wait=waits, run=runs, leave=leaves)
    def save(self, guest: str, wait: float, run: float, leave: str) -> None:
        """Somebody saves a domain: that takes long, shows progress and can be aborted."""
        self._verb("ManagedSaveDomain", guest, wait=wait, run=run, leave=leave)

    @rule(guest=guests, number=numbers, leave=leaves)
    def move(self, guest: str, number: int, leave: str) -> None:
        """Somebody migrates a domain to the other host."""
        self._verb("MigrateDomain", guest, number, leave=leave)

    @rule(verb=st.sampled_from(("ShutdownDomain", "RebootDomain", "DetachDevice", "AttachDevice")), guest=guests, number=numbers, run=runs)
    def ask_guest(self, verb: str, guest: str, number: int, run: float) -> None:
        """Somebody wants what only the guest can do; or attaches a device, for another one to detach."""
        self._verb(verb, guest, number, run=run)

    @rule(verb=st.sampled_from(("CreateDomain", "DefineDomain", "UndefineDomain")), guest=st.sampled_from(("new1", "new2", "a1")), number=numbers)
    def make(self, verb: str, guest: str, number: int) -> None:
        """Somebody makes a domain or its definition, or takes one away: under the same name and uuid again and again."""
        self._verb(verb, guest, number)

    @rule(verb=st.sampled_from(("CreateSnapshot", "DeleteSnapshot", "RevertToSnapshot", "ListSnapshots")), guest=guests, number=numbers)
    def snapshot(self, verb: str, guest: str, number: int) -> None:
        """Somebody works on snapshots."""
        self._verb(verb, guest, number)

    @rule(verb=blocks, guest=guests, number=numbers, wait=waits, run=runs, leave=leaves)
    def block_job(self, verb: str, guest: str, number: int, wait: float, run: float, leave: str) -> None:
        """Somebody begins what goes on in the background, on a disk of a domain or on more."""
        self._verb(verb, guest, number, wait=wait, run=run, leave=leave)

    @rule(job=newest, finish=st.sampled_from(tuple(requests.FINISHES)))
    def finish_block_job(self, job: int, finish: str) -> None:
        """Somebody tells a block job to finish, whether it can or not."""
        job_id = self._job(job, BACKGROUND)
        if job_id:
            self._wishes.finishing.setdefault(job_id, set()).add(finish)
            self._do(lambda: self._send("FinishBlockJob", job_pb2.FinishBlockJobRequest(job_id=job_id, finish=requests.FINISHES[finish])))

    @rule(verb=st.sampled_from(requests.VERBS), guest=guests, number=numbers, wait=waits, run=runs, leave=leaves, who=identities)
    def call(self, verb: str, guest: str, number: int, wait: float, run: float, leave: str, who: str) -> None:
        """Somebody calls any verb, with clocks of their own."""
        self._verb(verb, guest, number, wait=wait, run=run, leave=leave, who=who)

    @rule(verbs=st.lists(st.sampled_from(requests.VERBS), min_size=2, max_size=5), guest=guests, number=numbers, wait=waits, leave=leaves)
    def crowd(self, verbs: list[str], guest: str, number: int, wait: float, leave: str) -> None:
        """Several callers want something of one domain at once."""

        def come() -> None:
            for verb in verbs:
                self._begin_one(verb, guest, number, wait=wait, leave=leave)

        self._do(come)

    @rule(number=newest, leave=leaves, who=identities)
    def repeat(self, number: int, leave: str, who: str) -> None:
        """The same request once more, from whomever."""
        if self._begun:
            verb, request = self._begun[-1 - number % len(self._begun)]
            self._do(lambda: self._call(verb, requests.again(request, leave), leave, who))

    @rule(job=newest)
    def cancel(self, job: int) -> None:
        """Somebody cancels a job."""
        job_id = self._job(job)
        self._do(lambda: self._cancel(job_id))

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

    @rule(what=st.sampled_from(("WatchJob", "WatchJobs", "WatchDomains")), pause=pauses)
    def watch(self, what: str, pause: float) -> None:
        """Somebody follows the newest job, or watches all jobs or domains and takes `pause` seconds to read each batch."""
        if what == "WatchJob" and self._job(0):
            self._do(lambda: self._call("WatchJob", job_pb2.WatchJobRequest(job_id=self._job(0)), ""))
        elif what != "WatchJob" and len(self._watchers) < MAX_WATCHERS:
            self._do(lambda: self._watch(what, pause))

    @rule(watcher=newest)
    def resume(self, watcher: int) -> None:
        """A watcher loses its stream and goes on."""
        self._do(self._watchers[-1 - watcher % len(self._watchers)].resume)

    # What time does

    @rule(seconds=st.sampled_from((0.001, 0.01, 0.05, 0.3)))
    def a_moment(self, seconds: float) -> None:
        """Nothing else happens for a moment."""
        self._do(lambda: None, seconds)

    @rule(seconds=st.sampled_from((1.0, 2.0, 4.0, 6.0, 11.0, 16.0, 31.0, 70.0)))
    def time_passes(self, seconds: float) -> None:
        """Nothing else happens for a while."""
        self._do(lambda: None, seconds)

    @rule(turns=st.sampled_from((None, 0, None, 1, None, 2, None, 5)))
    def pace(self, turns: int | None) -> None:
        """From now on the loop makes so many turns between two steps; None: as many as there are to make at that moment."""
        self._turns = turns

    # What hypervisors do

    @rule(what=st.sampled_from(tuple(TROUBLES)), verb=st.sampled_from(CALLS + READS), guest=guests, step=st.sampled_from((1, -1, 0, 2)))
    def trouble(self, what: str, verb: str, guest: str, step: int) -> None:
        """The next call of this kind ("*" is any) is in for it: before the hypervisor sees it (0), inside (1, 2), or as its answer leaves (-1)."""
        rule = TROUBLES[what]
        self._wishes.foreign_abort |= rule.get("reason") is Reason.ABORTED
        self._trouble(guest, verb, step=step, **(rule if verb in CALLS else {**rule, **({"reason": Reason.FAILED} if "reason" in rule else {})}))

    @rule(guest=guests, seconds=st.sampled_from((3.0, 7.0, 0.3, 7.0)), meanwhile=st.sampled_from(("", *STRANGERS)), number=numbers)
    def answer_late(self, guest: str, seconds: float, meanwhile: str, number: int) -> None:
        """All domains of a host are announced, and the reading of one arrives late; it is of before what somebody else did meanwhile."""
        self._trouble(guest, "read", step=-1, seconds=seconds)
        self._do(lambda: self._announce(self._there.home(guest)), EVENT_SECONDS)
        if meanwhile:
            self._do(lambda: self._change(guest, STRANGERS[meanwhile], f"other-{number}"))

    @rule(host=hosts)
    def release(self, host: str) -> None:
        """What hangs goes on."""
        self._do(self._there.sims[host].faults.clear)

    @rule(guest=guests, action=st.sampled_from(("stop", "continue", "foreign job", "short foreign job", "end foreign jobs")))
    def outside(self, guest: str, action: str) -> None:
        """SIGSTOP and SIGCONT for a guest's process; jobs of others on a domain."""
        sim, uuid = self._there.sims[self._there.home(guest)], self._there.uuids[guest]
        if uuid not in sim.domains:
            return
        acts: dict[str, Callable[[], object]] = {
            "stop": lambda: sim.stop_guest(uuid),
            "continue": lambda: sim.continue_guest(uuid),
            "foreign job": lambda: sim.foreign_job(uuid),
            "short foreign job": lambda: sim.foreign_job(uuid, seconds=4.0),
            "end foreign jobs": lambda: self._there.end_foreign(sim.options.host, uuid),
        }
        self._do(acts[action])

    @rule(guest=guests, action=st.sampled_from(("vanish", *STRANGERS)), number=numbers)
    def stranger(self, guest: str, action: str, number: int) -> None:
        """Somebody else changes a domain, and asks nobody; "replace" takes it away and defines another one under its uuid."""
        self._do(lambda: self._change(guest, STRANGERS[action], f"other-{number}"))

    @rule(host=hosts, action=st.sampled_from(("lose connection", "lose process", "come back", "stay away")))
    def connection(self, host: str, action: str) -> None:
        """A host's connection or driver process is lost; one that stays away does so until it is to come back."""
        driver = self._there.drivers[host]
        if action == "come back":
            self._do(driver.mend)
        else:
            self._do(lambda: driver.lose(process=action != "lose connection", stay_down=action == "stay away"))

    @rule(guest=guests, verb=st.sampled_from(("SetMemory", "ManagedSave")), run=st.sampled_from((0.0, 3.0)), stops=st.booleans())
    def lose_a_call(self, guest: str, verb: str, run: float, stops: bool) -> None:
        """A call that takes long is on its way, and is cancelled or not, when its host's driver process is lost."""
        self._trouble(guest, verb, step=1, seconds=20.0)
        self._verb("SetMemory" if verb == "SetMemory" else "ManagedSaveDomain", guest, run=run, leave="detach")
        if stops:
            self.cancel(job=0)
        self._do(self._there.drivers[self._there.home(guest)].lose)

    @rule(guest=guests, verb=blocks, number=numbers, after=st.sampled_from((0.0, 0.3)), what=st.sampled_from(MEANWHILE))
    def meanwhile(self, guest: str, verb: str, number: int, after: float, what: str) -> None:
        """What goes on in the background, and then this."""
        self._verb(verb, guest, number, leave="detach")
        self._do(lambda: None, after)
        match what:
            case "cancel":
                self.cancel(job=0)
            case "lose":
                self._do(self._there.drivers[self._there.home(guest)].lose)
            case "stop":
                self.outside(guest=guest, action="stop")
            case "BackupDomain":
                self._verb(what, guest, 2)
            case _:
                self._verb(what, guest, number)

    @rule(host=hosts, action=st.sampled_from(("drop", "repeat", "delay", "reorder")), times=st.integers(1, 3))
    def events(self, host: str, action: str, times: int) -> None:
        """What happens to a host's next events on their way."""
        rule = EventRule(action=action, seconds=3.0, times=times)  # type: ignore[arg-type]
        self._do(lambda: self._there.sims[host].events.rules.append(rule))

    # How the server ends

    @rule(
        how=st.sampled_from(("kill", "kill", "kill", "kill", "drain", "cancel in a drain", "kill in a drain")),
        verb=st.sampled_from(("", "", *requests.FREQUENT)),
        guest=guests,
        leave=leaves,
        turns=st.integers(0, 12),
        taken=st.sampled_from((0, ALL, 1)),
        away=st.sampled_from((0.05, 1.0, 0.05, 6.0, 20.0)),
        meanwhile=st.sampled_from(("", "", *STRANGERS)),
        later=st.sampled_from((0.5, 0.0, 2.0)),
        unread=st.sampled_from((0, 0, 0, 1)),
        back=st.lists(st.sampled_from(("watch", "repeat", "")), min_size=1, max_size=3),
    )
    def restart(self, **how: Any) -> None:
        """The server is killed, or asked to end, and started again `away` seconds later.

        That is so many turns of the loop after somebody called a verb, and of the writings that are under way the first `taken` are taken.
        `meanwhile` is what somebody else does before the next life begins, and that finds the journal `unread`able so many times. Those who have
        lost their streams come `back` in these ways `later`, or do not.
        """
        if self.restarts:
            self._guarded(self._restart(**how))

    async def _restart(
        self,
        *,
        how: str,
        verb: str,
        guest: str,
        leave: str,
        turns: int,
        taken: int,
        away: float,
        meanwhile: str,
        later: float,
        unread: int,
        back: list[str],
    ) -> None:
        if verb:
            self._begin_one(verb, guest, 0, leave=leave)
        for _ in range(turns):
            await asyncio.sleep(0)
        await self._end_life(how=how, taken=taken if how.startswith("kill") else ALL)
        if meanwhile:
            self._change(guest, STRANGERS[meanwhile], "other")
        await asyncio.sleep(away)
        self._there.journal.unreadable = unread
        await self._next_life()
        await asyncio.sleep(later)
        for caller, way in zip(self._lost, itertools.cycle(back), strict=False):
            self._come_back(caller, way)
        await asyncio.sleep(self._every)
        await self._look()

    @rule(seconds=st.sampled_from((0.0, 0.01, 0.5)), failures=st.sampled_from((0, 0, 0, 1, 2)))
    def store(self, seconds: float, failures: int) -> None:
        """How long each writing to the store takes from now on, and how many fail."""
        self._there.journal.seconds, self._there.journal.failures = seconds, failures


class VirtuozzoMachine(Machine):
    """The same on hosts with Virtuozzo's habits: its agent and its snapshots take the condition or nothing, everything can be aborted."""

    shape = "vz"
