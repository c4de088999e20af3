"""What a verb asks of a domain before it touches it: the errors are libvirt's 42 and 55."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers.errors import Reason
from virtrpc_drivers.operations import Scope
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import sdk_error

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def active(hypervisor: SimHypervisor, uuid: str, id: int | None = None) -> SimDomain:
    """The domain, running or paused; with `id`, still the same run. Raises DOMAIN_NOT_FOUND, WRONG_STATE."""
    domain = hypervisor.domain(uuid)
    if not domain.active or (id is not None and domain.id != id):
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: domain is not running")
    return domain


def inactive(hypervisor: SimHypervisor, uuid: str) -> SimDomain:
    """The domain, off. Raises DOMAIN_NOT_FOUND, WRONG_STATE."""
    domain = hypervisor.domain(uuid)
    if domain.active:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: domain is already running")
    return domain


def same_run(hypervisor: SimHypervisor, domain: SimDomain, id: int | None) -> bool:
    """Whether the guest that was there is there still."""
    return hypervisor.domains.get(domain.uuid) is domain and domain.active and domain.id == id


def targets(domain: SimDomain, scope: Scope) -> tuple[bool, bool]:
    """Whether a change goes to the running guest, and whether to the stored definition. Raises WRONG_STATE."""
    live = scope in (Scope.LIVE, Scope.BOTH) or (scope is Scope.CURRENT and domain.active)
    config = scope in (Scope.CONFIG, Scope.BOTH) or (scope is Scope.CURRENT and not domain.active)
    if live and not domain.active:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: domain is not running")
    if config and not domain.persistent:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: transient domains do not have any persistent config")
    return live, config
