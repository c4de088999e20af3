"""What can be read of a simulated host at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.values import DomainReading, Group, Listed, Listing, Missing, Pulse, Pulses, Screenshot, Stamp

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor

OFF = -1


def listing(hypervisor: SimHypervisor, stamp: Stamp) -> Listing:
    """All domains of the host."""
    rows = (Listed(uuid=domain.uuid, name=domain.name, id=OFF if domain.id is None else domain.id) for domain in hypervisor.domains.values())
    return Listing(stamp=stamp, domains=tuple(rows))


def reading(hypervisor: SimHypervisor, uuid: str, group: Group, stamp: Stamp) -> DomainReading | Missing:
    """One group of a domain."""
    domain = hypervisor.domains.get(uuid)
    if domain is None:
        return Missing(uuid=uuid, stamp=stamp)
    domain.count(hypervisor.now())
    state = domain.state_value() if group is Group.STATE else None
    config = domain.config_value() if group is Group.CONFIG else None
    return DomainReading(uuid=uuid, name=domain.name, stamp=stamp, state=state, config=config)


def pulses(hypervisor: SimHypervisor, uuids: Sequence[str]) -> Pulses:
    """The signs of life of those that run."""
    known = (hypervisor.domains.get(uuid) for uuid in uuids)
    return Pulses(pulses=tuple(_pulse(hypervisor, domain) for domain in known if domain is not None and domain.active))


def _pulse(hypervisor: SimHypervisor, domain: SimDomain) -> Pulse:
    domain.count(hypervisor.now())
    return Pulse(uuid=domain.uuid, control=domain.control(), cpu_time_ns=domain.cpu_time_ns)


def screenshot(hypervisor: SimHypervisor, uuid: str, screen: int) -> Screenshot:
    """One black point. Raises WRONG_STATE, INVALID_ARGUMENT."""
    active(hypervisor, uuid)
    if screen:
        raise failure(Reason.INVALID_ARGUMENT, f"the domain has no screen {screen}")
    return Screenshot(mime_type="image/x-portable-pixmap", pieces=(b"P6 1 1 255\n", b"\0\0\0"))
