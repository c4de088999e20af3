"""libvirt's error codes as faults: one table, applied wherever a libvirt call is made."""

from __future__ import annotations

import libvirt

from virtrpc_drivers.errors import DriverError, Fault, Reason

REASONS: dict[int, Reason] = {
    libvirt.VIR_ERR_NO_DOMAIN: Reason.DOMAIN_NOT_FOUND,
    libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT: Reason.SNAPSHOT_NOT_FOUND,
    libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT: Reason.CHECKPOINT_NOT_FOUND,
    libvirt.VIR_ERR_DEVICE_MISSING: Reason.DEVICE_NOT_FOUND,
    libvirt.VIR_ERR_DOM_EXIST: Reason.ALREADY_EXISTS,
    libvirt.VIR_ERR_OPERATION_INVALID: Reason.WRONG_STATE,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: Reason.FOREIGN_JOB,
    libvirt.VIR_ERR_RESOURCE_BUSY: Reason.BUSY,
    libvirt.VIR_ERR_OPERATION_ABORTED: Reason.ABORTED,
    libvirt.VIR_ERR_NO_SUPPORT: Reason.UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: Reason.UNSUPPORTED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: Reason.UNSUPPORTED,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: Reason.UNSUPPORTED,
    libvirt.VIR_ERR_INVALID_ARG: Reason.INVALID_ARGUMENT,
    libvirt.VIR_ERR_OVERFLOW: Reason.INVALID_ARGUMENT,
    libvirt.VIR_ERR_XML_ERROR: Reason.XML_INVALID,
    libvirt.VIR_ERR_XML_DETAIL: Reason.XML_INVALID,
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_NAME: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_OS: Reason.XML_INVALID,
    libvirt.VIR_ERR_OS_TYPE: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_KERNEL: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_ROOT: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_SOURCE: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_TARGET: Reason.XML_INVALID,
    libvirt.VIR_ERR_NO_DEVICE: Reason.XML_INVALID,
    libvirt.VIR_ERR_ACCESS_DENIED: Reason.PERMISSION_DENIED,
    libvirt.VIR_ERR_OPERATION_DENIED: Reason.PERMISSION_DENIED,
    libvirt.VIR_ERR_AUTH_FAILED: Reason.UNAUTHENTICATED,
    libvirt.VIR_ERR_AUTH_CANCELLED: Reason.UNAUTHENTICATED,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: Reason.UNAUTHENTICATED,
    libvirt.VIR_ERR_NO_CONNECT: Reason.HOST_UNREACHABLE,
    libvirt.VIR_ERR_INVALID_CONN: Reason.HOST_UNREACHABLE,
    libvirt.VIR_ERR_RPC: Reason.HOST_UNREACHABLE,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: Reason.AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_MIGRATE_UNSAFE: Reason.MIGRATION_UNSAFE,
    libvirt.VIR_ERR_NO_MEMORY: Reason.RESOURCE_LACKING,
}
"""Codes that mean the same wherever they come from. A code that is not here is FAILED."""

_STATES = (
    "not running", "not paused", "already running", "for inactive domain",
    "is not in running state", "is not in suspend state", "is not in shutoff state",
)  # fmt: skip
"""How messages end that refuse a domain's state; the last three are the vmware and openvz drivers'."""

_STATE_CODES = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_ERR_OPERATION_UNSUPPORTED)
"""The codes that they come with."""

_QEMU_UNSUPPORTED = "this feature or command is not currently supported"
"""How QEMU's monitor refuses what the machine has not, such as an NMI of arm64; libvirt passes it on as an internal error."""

_BLOCK_JOB = "already in active block job"
"""How libvirt refuses a change of a disk that a block job or a backup is at, with the code of what it cannot do at all."""

_NO_CGROUP = ("controller is not mounted", "cgroup isn't mounted")
"""How libvirt's messages end where the host gives it no cgroups for what was asked: no state of the domain will change that."""

TRANSPORT = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
"""Error domains of libvirt's own client: system and internal errors from there mean that the connection is gone."""


def fault_of(error: libvirt.libvirtError) -> Fault:
    """A libvirt error as a Fault: its own text, its code and error domain, and the reason by the table."""
    code = error.get_error_code() or 0
    domain = error.get_error_domain() or 0
    message = str(error.get_error_message() or error)
    return Fault(reason=_reason(code, domain, message), message=message, libvirt_code=code, libvirt_domain=domain)


def driver_error(error: libvirt.libvirtError) -> DriverError:
    """The same as an exception of the protocol."""
    return DriverError(fault_of(error))


def _reason(code: int, domain: int, message: str) -> Reason:
    if domain in TRANSPORT and code in (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR):
        return Reason.HOST_UNREACHABLE
    # libvirt spends vague codes on these; its words tell them apart.
    if domain == libvirt.VIR_FROM_ESX and "curl_easy_perform() returned an error" in message:
        return Reason.HOST_UNREACHABLE
    if code in _STATE_CODES and message.endswith(_STATES):
        return Reason.WRONG_STATE
    if _BLOCK_JOB in message:
        return Reason.FOREIGN_JOB
    if code == libvirt.VIR_ERR_OPERATION_INVALID and message.endswith(_NO_CGROUP):
        return Reason.UNSUPPORTED
    if code == libvirt.VIR_ERR_OPERATION_FAILED and ("already exists" in message or "is already defined" in message):
        return Reason.ALREADY_EXISTS
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT and "unplug" in message:
        return Reason.GUEST_TIMEOUT
    if code == libvirt.VIR_ERR_OPERATION_DENIED and "read only" in message:
        return Reason.HOST_READ_ONLY
    if code == libvirt.VIR_ERR_INVALID_ARG and message.startswith("unsupported flags"):
        return Reason.UNSUPPORTED
    if code == libvirt.VIR_ERR_INTERNAL_ERROR and message.endswith(_QEMU_UNSUPPORTED):
        return Reason.UNSUPPORTED
    if code == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED and "agent" in message:
        return Reason.AGENT_UNRESPONSIVE
    return REASONS.get(code, Reason.FAILED)
