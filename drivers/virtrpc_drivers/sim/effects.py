"""What changes in a domain, all at once and with its events: the only code that changes one. Nothing here waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import sdk_error
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def begin_start(hypervisor: SimHypervisor, domain: SimDomain, live: Document) -> int:
    """A guest's process is there and not yet at work: from here on destroy reaches it. Returns the id of this run."""
    domain.live = live
    domain.id = hypervisor.next_id()
    domain.worked, domain.counted = 0.0, hypervisor.now()
    domain.state, domain.reason = State.PAUSED, "starting_up"
    return domain.id


def start(hypervisor: SimHypervisor, domain: SimDomain, *, paused: bool = False, reason: str = "booted") -> None:
    """The guest works (`reason`: booted, restored, migrated, from_snapshot); a managed save image is used up."""
    domain.image = None
    domain.count(hypervisor.now())
    domain.state, domain.reason = (State.PAUSED, "user") if paused else (State.RUNNING, reason)
    hypervisor.emit(domain.uuid, Change.LIFECYCLE, f"started {reason}")
    if paused:
        hypervisor.emit(domain.uuid, Change.LIFECYCLE, "suspended paused")


def stop(hypervisor: SimHypervisor, domain: SimDomain, reason: str) -> None:
    """The guest is off (`reason`: shutdown, destroyed, crashed, saved, migrated, failed). A transient domain is gone, and only STOPPED says so."""
    domain.state, domain.reason = State.SHUTOFF, reason
    domain.live, domain.id = None, None
    domain.stuck_calls = 0
    if domain.stopped is not None:
        domain.stopped.set()
        domain.stopped = None
    if not domain.persistent:
        hypervisor.forget(domain)
    hypervisor.emit(domain.uuid, Change.LIFECYCLE, f"stopped {reason}")
    hypervisor.guest_gone(domain.uuid)


def pause(hypervisor: SimHypervisor, domain: SimDomain, reason: str = "user") -> None:
    """The guest's processors stand still (`reason`: user, save, migration …)."""
    domain.count(hypervisor.now())
    domain.state, domain.reason = State.PAUSED, reason
    hypervisor.emit(domain.uuid, Change.LIFECYCLE, "suspended paused")


def sleep(hypervisor: SimHypervisor, domain: SimDomain) -> None:
    """The guest has put itself to sleep in its memory."""
    domain.count(hypervisor.now())
    domain.state, domain.reason = State.PMSUSPENDED, "unknown"
    hypervisor.emit(domain.uuid, Change.LIFECYCLE, "pmsuspended memory")


def unpause(hypervisor: SimHypervisor, domain: SimDomain, reason: str = "unpaused") -> None:
    """They move again."""
    domain.count(hypervisor.now())
    domain.state, domain.reason = State.RUNNING, reason
    hypervisor.emit(domain.uuid, Change.LIFECYCLE, "resumed unpaused")


def define(hypervisor: SimHypervisor, uuid: str, name: str, document: Document) -> SimDomain:
    """A definition is stored: a new domain, another definition of one, or persistence for a transient one. Raises ALREADY_EXISTS."""
    check_identity(hypervisor, uuid, name)
    domain = hypervisor.domains.get(uuid)
    detail = "added" if domain is None else "updated"
    if domain is None:
        domain = hypervisor.remember(SimDomain(uuid=uuid, name=name, document=document))
    domain.document, domain.persistent, domain.updated = document, True, True
    hypervisor.emit(uuid, Change.DEFINED, detail)
    return domain


def check_identity(hypervisor: SimHypervisor, uuid: str, name: str) -> None:
    """Raises DriverError (ALREADY_EXISTS) where another domain has this name, or this uuid has another name."""
    known = hypervisor.domains.get(uuid)
    if known is not None and known.name != name:
        raise sdk_error(Reason.ALREADY_EXISTS, f"domain '{known.name}' is already defined with uuid {uuid}")
    holder = hypervisor.names.get(name)
    if holder is not None and holder != uuid:
        raise sdk_error(Reason.ALREADY_EXISTS, f"domain '{name}' already exists with uuid {holder}")


def undefine(hypervisor: SimHypervisor, domain: SimDomain) -> None:
    """The definition is gone; a running guest stays, transient."""
    domain.image, domain.autostart = None, False
    domain.snapshots.clear()
    domain.checkpoints.clear()
    domain.current = None
    if domain.active:
        domain.persistent = False
    else:
        hypervisor.forget(domain)
    hypervisor.emit(domain.uuid, Change.UNDEFINED, "removed")


def rename(hypervisor: SimHypervisor, domain: SimDomain, name: str) -> None:
    """Another name: as libvirt does, announced as UNDEFINED and DEFINED. Raises ALREADY_EXISTS."""
    if name in hypervisor.names:
        raise sdk_error(Reason.ALREADY_EXISTS, f"domain '{name}' already exists")
    hypervisor.forget(domain)
    domain.document, domain.name = domain.document.named(name), name
    hypervisor.remember(domain)
    hypervisor.emit(domain.uuid, Change.UNDEFINED, "renamed")
    hypervisor.emit(domain.uuid, Change.DEFINED, "renamed")


def edit(hypervisor: SimHypervisor, domain: SimDomain, *, live: Document | None = None, config: Document | None = None) -> None:
    """The live or the stored definition is another. No event: libvirt has none for most of these."""
    if live is not None:
        domain.live = live
    if config is not None:
        domain.document, domain.updated = config, True
