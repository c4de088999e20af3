"""What a change applies to, where a hypervisor's calls take no flags to say so."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.operations import Scope


def check_one(domain: Any, scope: Scope) -> None:
    """Refuse what a hypervisor with one definition for the running and the next guest cannot keep apart."""
    active = bool(domain.isActive())
    if scope is Scope.CONFIG and active:
        raise failure(Reason.UNSUPPORTED, "this hypervisor does not keep what is stored of a running domain apart: leave the scope out")
    if scope in (Scope.LIVE, Scope.BOTH) and not active:
        raise failure(Reason.WRONG_STATE, "the domain is not running")
