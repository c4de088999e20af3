"""libvirt's errors as faults."""

import libvirt
import pytest

from virtrpc_drivers.errors import Reason
from virtrpc_drivers.libvirt.errors import fault_of

QEMU = libvirt.VIR_FROM_QEMU
RPC = libvirt.VIR_FROM_RPC


def raised(code: int, domain: int = QEMU, message: str = "libvirt's words") -> libvirt.libvirtError:
    error = libvirt.libvirtError("")
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, None, None, None, -1, -1)
    return error


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (42, Reason.DOMAIN_NOT_FOUND),
        (72, Reason.SNAPSHOT_NOT_FOUND),
        (103, Reason.CHECKPOINT_NOT_FOUND),
        (99, Reason.DEVICE_NOT_FOUND),
        (55, Reason.WRONG_STATE),
        (68, Reason.FOREIGN_JOB),
        (87, Reason.BUSY),
        (78, Reason.ABORTED),
        (3, Reason.UNSUPPORTED),
        (84, Reason.UNSUPPORTED),
        (67, Reason.UNSUPPORTED),
        (74, Reason.UNSUPPORTED),
        (8, Reason.INVALID_ARGUMENT),
        (82, Reason.INVALID_ARGUMENT),
        (27, Reason.XML_INVALID),
        (28, Reason.ALREADY_EXISTS),
        (88, Reason.PERMISSION_DENIED),
        (45, Reason.UNAUTHENTICATED),
        (86, Reason.AGENT_UNRESPONSIVE),
        (5, Reason.HOST_UNREACHABLE),
        (39, Reason.HOST_UNREACHABLE),
        (81, Reason.MIGRATION_UNSAFE),
        (1, Reason.FAILED),
        (9, Reason.FAILED),
        (10_000, Reason.FAILED),
    ],
)
def test_each_code_has_its_reason(code: int, reason: Reason) -> None:
    """The table of libvirt's codes; an unknown one is a plain failure in libvirt's own words."""
    fault = fault_of(raised(code))
    assert (fault.reason, fault.message, fault.libvirt_code) == (reason, "libvirt's words", code)


@pytest.mark.parametrize(
    ("code", "domain", "message", "reason"),
    [
        (38, QEMU, "Unable to open file: No such file or directory", Reason.FAILED),
        (38, RPC, "Failed to connect socket: Connection refused", Reason.HOST_UNREACHABLE),
        (1, RPC, "internal error: client socket is closed", Reason.HOST_UNREACHABLE),
        (1, QEMU, "internal error: guest unexpectedly quit", Reason.FAILED),
        (1, libvirt.VIR_FROM_TEST, "internal error: domain 'test' not running", Reason.WRONG_STATE),
        (1, libvirt.VIR_FROM_TEST, "internal error: domain 'test' not paused", Reason.WRONG_STATE),
        (1, libvirt.VIR_FROM_TEST, "internal error: Domain 'test' is already running", Reason.WRONG_STATE),
        (84, QEMU, "Operation not supported: cannot create checkpoint for inactive domain", Reason.WRONG_STATE),
        (84, QEMU, "Operation not supported: cannot perform disk backup for inactive domain", Reason.WRONG_STATE),
        (1, libvirt.VIR_FROM_VMWARE, "internal error: domain is not in running state", Reason.WRONG_STATE),
        (29, libvirt.VIR_FROM_OPENVZ, "operation forbidden: domain is not in shutoff state", Reason.WRONG_STATE),
        (1, libvirt.VIR_FROM_ESX, "internal error: curl_easy_perform() returned an error: Couldn't connect to server (7)", Reason.HOST_UNREACHABLE),
        (9, libvirt.VIR_FROM_DOMAIN, "operation failed: domain 'a' already exists with uuid 1", Reason.ALREADY_EXISTS),
        (29, libvirt.VIR_FROM_DOMAIN, "operation virDomainSuspend forbidden for read only access", Reason.HOST_READ_ONLY),
        (68, QEMU, "Timed out during operation: vcpu unplug request timed out.", Reason.GUEST_TIMEOUT),
        (29, libvirt.VIR_FROM_POLKIT, "access denied by policy", Reason.PERMISSION_DENIED),
        (
            1,
            QEMU,
            "internal error: unable to execute QEMU command 'inject-nmi': this feature or command is not currently supported",
            Reason.UNSUPPORTED,
        ),
        (74, QEMU, "argument unsupported: QEMU guest agent is not configured", Reason.AGENT_UNRESPONSIVE),
    ],
)
def test_vague_codes_are_told_apart(code: int, domain: int, message: str, reason: Reason) -> None:
    """A system error means an unreachable host only where libvirt's own client says it."""
    assert fault_of(raised(code, domain, message)).reason is reason


def test_an_error_without_details_is_a_failure() -> None:
    """libvirt-python raises errors of its own, without a code."""
    fault = fault_of(libvirt.libvirtError("no connection object"))
    assert (fault.reason, fault.message) == (Reason.FAILED, "no connection object")
