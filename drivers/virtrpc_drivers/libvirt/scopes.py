"""What a change applies to, where one call with libvirt's flags cannot say so."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.operations import Scope


def in_turn(scope: Scope) -> tuple[int, ...]:
    """The flags of the calls that a change takes. libvirt-python reads typed parameters with the same flags before it sets them, which is refused
    for both at once: so the running guest's come first, which are refused more often, and the stored ones after it."""
    return tuple(map(flags.scope, (Scope.LIVE, Scope.CONFIG) if scope is Scope.BOTH else (scope,)))


def check_one(domain: Any, scope: Scope) -> None:
    """Refuse what a hypervisor with one definition for the running and the next guest cannot keep apart."""
    active = bool(domain.isActive())
    if scope is Scope.CONFIG and active:
        raise failure(Reason.UNSUPPORTED, "this hypervisor does not keep what is stored of a running domain apart: leave the scope out")
    if scope in (Scope.LIVE, Scope.BOTH) and not active:
        raise failure(Reason.WRONG_STATE, "the domain is not running")
