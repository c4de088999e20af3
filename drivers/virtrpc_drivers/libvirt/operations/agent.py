"""The libvirt calls of operations: the guest's agent."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.values import Outcome


def set_user_password(connection: Any, operation: ops.SetUserPassword) -> Outcome:
    """virDomainSetUserPassword."""
    wanted = flags.union((operation.encrypted, libvirt.VIR_DOMAIN_PASSWORD_ENCRYPTED))
    domain_of(connection, operation).setUserPassword(operation.user, operation.password, wanted)
    return DONE


VERBS: dict[str, Verb] = {
    "SetUserPassword": set_user_password,
}
