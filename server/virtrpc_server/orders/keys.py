"""Orders: keys, interrupts and signals. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import invalid

MAX_KEYS = 16
MAX_KEYCODE = (1 << 16) - 1
MAX_HOLD_MS = 60_000
MAX_PID = 1 << 22
KEYCODE_SETS = {
    number: name.removeprefix("KEYCODE_SET_").lower() for name, number in job_pb2.KeycodeSet.items() if number != job_pb2.KEYCODE_SET_UNSPECIFIED
}


def send_key(request: job_pb2.SendKeyRequest, uuid: str) -> op.SendKey:
    """SendKey."""
    if not 0 < len(request.keycodes) <= MAX_KEYS:
        raise invalid("keycodes", f"1 to {MAX_KEYS} keys are pressed at once, not {len(request.keycodes)}")
    if any(not 0 < code <= MAX_KEYCODE for code in request.keycodes):
        raise invalid("keycodes", f"a key code is 1 to {MAX_KEYCODE}")
    hold_ms = request.hold_duration.seconds * 1000 + request.hold_duration.nanos // 1_000_000
    if not 0 <= hold_ms <= MAX_HOLD_MS:
        raise invalid("hold_duration", f"must be 0 to {MAX_HOLD_MS // 1000} s")
    return op.SendKey(uuid=uuid, keycodes=tuple(request.keycodes), keycode_set=KEYCODE_SETS.get(request.keycode_set, "linux"), hold_ms=hold_ms)


def inject_nmi(_request: job_pb2.InjectNmiRequest, uuid: str) -> op.InjectNmi:
    """InjectNmi."""
    return op.InjectNmi(uuid=uuid)


def send_process_signal(request: job_pb2.SendProcessSignalRequest, uuid: str) -> op.SendProcessSignal:
    """SendProcessSignal."""
    if not 0 < request.pid <= MAX_PID:
        raise invalid("pid", f"must be 1 to {MAX_PID}, not {request.pid}")
    if not request.signal or request.signal not in job_pb2.ProcessSignal.values():
        raise invalid("signal", "is required")
    return op.SendProcessSignal(uuid=uuid, pid=request.pid, signal=int(request.signal))
