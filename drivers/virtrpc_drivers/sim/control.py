"""Commands that make a simulated host misbehave: the same in process and through a driver process (`ProcessDriver.simulate`)."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.events import EventRule
from virtrpc_drivers.sim.faults import ANY, Rule
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.xml import definition

if TYPE_CHECKING:
    from virtrpc_drivers.sim.driver import SimDriver


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of all commands."""


class AddFault(Command, frozen=True):
    """Switch a rule on; answers with its number."""

    rule: Rule


class AddEventFault(Command, frozen=True):
    """Have events of a kind dropped, repeated, delayed or reordered."""

    rule: EventRule


class ClearFaults(Command, frozen=True):
    """Switch all rules off, for calls and for events, and let everything go that they hold."""


class Release(Command, frozen=True):
    """Let wedged calls go; answers with how many."""

    uuid: str = ANY
    verb: str = ANY


class StopGuest(Command, frozen=True):
    """SIGSTOP for a guest's process."""

    uuid: str


class ContinueGuest(Command, frozen=True):
    """SIGCONT."""

    uuid: str


class Guest(Command, frozen=True):
    """What a guest is like: whether its agent answers, whether it does what it is asked to."""

    uuid: str
    agent: bool = True
    deaf: bool = False
    dirty_rate: int = 0
    """Bytes a second that it writes to its memory."""


class BeginForeignJob(Command, frozen=True):
    """Somebody else's job on a domain, until it is ended."""

    uuid: str
    verb: str = "CoreDump"


class EndForeignJobs(Command, frozen=True):
    """End others' jobs on a domain; answers how many there were."""

    uuid: str


class Stranger(Command, frozen=True):
    """Somebody else's change, at once: start, stop, crash, pause, unpause, define, undefine, rename or autostart.

    Answers with when it happened, in seconds of the machine's monotonic clock (CLOCK_MONOTONIC), or of virtual time.
    """

    action: str
    uuid: str
    name: str = ""
    xml: str = ""


class Aborts(Command, frozen=True):
    """Answers with when each call that was aborted heard of it, by call id; times as those of `Stranger`."""


class ReadLedger(Command, frozen=True):
    """Answers with every call that a host in a daemon was ever sent, and what came of it: a list of `Deed`s."""


class Violations(Command, frozen=True):
    """Answers with what no correct server lets happen."""


class LoseConnection(Command, frozen=True):
    """The connection breaks and comes back."""


class BlockLoop(Command, frozen=True):
    """The driver process's loop stands still for ever, as behind a call that never returns; in process it is refused."""


class Die(Command, frozen=True):
    """The driver process dies of a signal; in process, its death is simulated."""

    signal: int = signal.SIGKILL


AnyCommand = (
    AddFault | AddEventFault | ClearFaults | Release | StopGuest | ContinueGuest | Guest | BeginForeignJob | EndForeignJobs
    | Stranger | Aborts | ReadLedger | Violations | LoseConnection | BlockLoop | Die
)  # fmt: skip
_decoder = msgspec.msgpack.Decoder(AnyCommand)


def apply(driver: SimDriver, command: msgspec.Struct | msgspec.Raw) -> Any:
    """Carry a command out; what it answers is plain data."""
    known = decoded(command)
    hypervisor = driver.hypervisor
    # In a daemon's process only what was sent to it past a driver process comes here.
    if not driver.in_process and of_process(known):
        return None
    match known:
        case AddFault(rule=rule):
            return hypervisor.faults.add(rule)
        case AddEventFault(rule=event_rule):
            hypervisor.events.rules.append(event_rule)
        case ClearFaults():
            hypervisor.faults.clear()
            hypervisor.events.rules.clear()
            hypervisor.events.flush()
        case Release(uuid=uuid, verb=verb):
            return hypervisor.faults.release(uuid, verb)
        case StopGuest(uuid=uuid):
            hypervisor.stop_guest(uuid)
        case ContinueGuest(uuid=uuid):
            hypervisor.continue_guest(uuid)
        case Guest(uuid=uuid, agent=agent, deaf=deaf, dirty_rate=rate):
            domain = hypervisor.domain(uuid)
            domain.agent, domain.deaf, domain.dirty_rate = agent, deaf, rate
        case BeginForeignJob(uuid=uuid, verb=verb):
            hypervisor.foreign_job(uuid, verb)
        case EndForeignJobs(uuid=uuid):
            return hypervisor.end_foreign_jobs(uuid)
        case Stranger():
            at = hypervisor.now()
            _change(driver, known)
            return at
        case Aborts():
            return {job.id: job.aborted for job in hypervisor.jobs.values() if job.aborted is not None}
        case ReadLedger() if hypervisor.ledger is not None:
            return msgspec.to_builtins(hypervisor.ledger.deeds())
        case Violations():
            return list(hypervisor.violations)
        case LoseConnection():
            driver.lose(process=False)
        case Die():
            driver.lose()
        case _:
            raise failure(Reason.INVALID_ARGUMENT, f"{type(known).__name__} is not a command here")
    return None


def decoded(command: msgspec.Struct | msgspec.Raw) -> msgspec.Struct:
    """A command as it came, or out of the message that it came in."""
    return _decoder.decode(command) if isinstance(command, msgspec.Raw) else command


def of_process(command: msgspec.Struct) -> bool:
    """Whether a command is about the driver process and no hypervisor; if so, it befalls this process."""
    match command:
        case BlockLoop():
            threading.Event().wait()
        case Die(signal=number):
            os.kill(os.getpid(), number)
        case _:
            return False
    return True


def _change(driver: SimDriver, change: Stranger) -> None:
    """One change by somebody who asks nobody. Raises what libvirt would tell them."""
    hypervisor = driver.hypervisor
    if change.action == "define":
        claimed = definition(change.xml)
        effects.define(hypervisor, claimed.uuid, claimed.name, Document.given(claimed.xml))
        return
    domain = hypervisor.domain(change.uuid)
    match change.action:
        case "start" if not domain.active:
            effects.begin_start(hypervisor, domain, domain.document)
            effects.start(hypervisor, domain)
        case "stop" | "crash" if domain.active:
            effects.stop(hypervisor, domain, "destroyed" if change.action == "stop" else "crashed")
        case "pause" if domain.active:
            effects.pause(hypervisor, domain)
        case "unpause" if domain.active:
            effects.unpause(hypervisor, domain)
        case "undefine" if domain.persistent:
            effects.undefine(hypervisor, domain)
        case "rename":
            effects.rename(hypervisor, domain, change.name)
        case "autostart":
            domain.autostart = not domain.autostart
        case _:
            raise failure(Reason.WRONG_STATE, f"{change.action!r} is not possible now")
