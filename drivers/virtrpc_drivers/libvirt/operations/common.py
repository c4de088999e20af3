"""What the calls of all operations share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.operations import Operation
from virtrpc_drivers.values import Outcome

DONE = Outcome()

Verb = Callable[[Any, Any], Outcome]
"""(connection, operation): the blocking libvirt call, on a lane's thread."""


def domain_of(connection: Any, operation: Operation) -> Any:
    """The domain that an operation is sent to, looked up afresh (virDomainLookupByUUIDString)."""
    return connection.lookupByUUIDString(operation.uuid)


def running_domain(connection: Any, uuid: str) -> Any:
    """The same of a domain that must run, where libvirt would refuse one that is off with other words. Raises WRONG_STATE."""
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isActive():
        raise failure(Reason.WRONG_STATE, "the domain is not running")
    return domain
