"""Orders: where threads run, what devices may carry, what becomes of a domain. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from collections.abc import Iterable

from virtrpc.v1 import job_pb2, spec_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import invalid, scope_of
from virtrpc_server.orders.settings import MAX_INT, MAX_VCPUS

MAX_DIRTY_RATE_SECONDS = 60
MAX_HOST_CPUS = 1 << 16
MAX_INT64 = (1 << 63) - 1
MAX_BANDWIDTH = MAX_INT << 10

# What is limited, in the contract and in the definition.
_KINDS = {"bytes": "bytes_sec", "operations": "iops_sec"}
_WHAT = ("total", "read", "write")

EVENTS = {number: name.removeprefix("LIFECYCLE_EVENT_").lower() for name, number in job_pb2.LifecycleEvent.items() if number}
ACTIONS = {number: name.removeprefix("LIFECYCLE_ACTION_").lower().replace("_", "-") for name, number in spec_pb2.LifecycleAction.items() if number}


PERF_EVENTS = {number: name.removeprefix("PERF_EVENT_").lower() for name, number in job_pb2.PerfEvent.items() if number}

_IO_THREAD = {
    "poll_grow": "poll_grow",
    "poll_shrink": "poll_shrink",
    "thread_pool_min": "helper_threads_minimum",
    "thread_pool_max": "helper_threads_maximum",
}
"""libvirt's name and the contract's."""


def pin_vcpu(request: job_pb2.PinVcpuRequest, uuid: str) -> op.PinVcpu:
    """PinVcpu."""
    if not 0 <= request.number < MAX_VCPUS:
        raise invalid("number", f"must be 0 to {MAX_VCPUS - 1}, not {request.number}")
    return op.PinVcpu(uuid=uuid, number=request.number, host_cpus=_host_cpus(request.host_cpus), scope=scope_of(request.scope))


def pin_emulator(request: job_pb2.PinEmulatorRequest, uuid: str) -> op.PinEmulator:
    """PinEmulator."""
    return op.PinEmulator(uuid=uuid, host_cpus=_host_cpus(request.host_cpus), scope=scope_of(request.scope))


def add_io_thread(request: job_pb2.AddIoThreadRequest, uuid: str) -> op.AddIoThread:
    """AddIoThread."""
    return op.AddIoThread(uuid=uuid, number=_io_thread(request.number), scope=scope_of(request.scope))


def delete_io_thread(request: job_pb2.DeleteIoThreadRequest, uuid: str) -> op.DeleteIoThread:
    """DeleteIoThread."""
    return op.DeleteIoThread(uuid=uuid, number=_io_thread(request.number), scope=scope_of(request.scope))


def pin_io_thread(request: job_pb2.PinIoThreadRequest, uuid: str) -> op.PinIoThread:
    """PinIoThread."""
    return op.PinIoThread(uuid=uuid, number=_io_thread(request.number), host_cpus=_host_cpus(request.host_cpus), scope=scope_of(request.scope))


def set_block_io_tune(request: job_pb2.SetBlockIoTuneRequest, uuid: str) -> op.SetBlockIoTune:
    """SetBlockIoTune."""
    if not request.device:
        raise invalid("device", "a disk is required, by its target or its source")
    limits = {name: limit for kind in _KINDS for name, limit in _limits(request, kind).items()}
    if not limits:
        raise invalid("limits", "at least one limit is required; 0 takes it away")
    return op.SetBlockIoTune(uuid=uuid, device=request.device, limits=limits, scope=scope_of(request.scope))


def set_interface_parameters(request: job_pb2.SetInterfaceParametersRequest, uuid: str) -> op.SetInterfaceParameters:
    """SetInterfaceParameters."""
    if not request.device:
        raise invalid("device", "an interface is required, by its MAC address or its name on the host")
    inbound = _bandwidth(request.inbound, "inbound") if request.HasField("inbound") else None
    outbound = _bandwidth(request.outbound, "outbound") if request.HasField("outbound") else None
    if inbound is None and outbound is None:
        raise invalid("inbound", "a limit of what is received or of what is sent is required; an average of 0 takes it away")
    if outbound is not None and outbound.floor:
        raise invalid("outbound.floor_bytes_per_second", "only what is received has a floor")
    return op.SetInterfaceParameters(uuid=uuid, device=request.device, inbound=inbound, outbound=outbound, scope=scope_of(request.scope))


def set_lifecycle_action(request: job_pb2.SetLifecycleActionRequest, uuid: str) -> op.SetLifecycleAction:
    """SetLifecycleAction."""
    event, action = EVENTS.get(request.event), ACTIONS.get(request.action)
    if event is None or action is None:
        raise invalid("event" if event is None else "action", "is required")
    if action.startswith("coredump") and event != "crash":
        raise invalid("action", "a core is dumped only of a guest that crashed")
    return op.SetLifecycleAction(uuid=uuid, event=event, action=action, scope=scope_of(request.scope))


def set_io_thread_parameters(request: job_pb2.SetIoThreadParametersRequest, uuid: str) -> op.SetIoThreadParameters:
    """SetIoThreadParameters."""
    given = {field.name: value for field, value in request.ListFields()}
    parameters = {name: given[field] for name, field in _IO_THREAD.items() if field in given}
    if request.HasField("poll_max"):
        parameters["poll_max_ns"] = request.poll_max.seconds * 1_000_000_000 + request.poll_max.nanos
    if not parameters:
        raise invalid("poll_max", "something to set is required")
    for name, number in parameters.items():
        if not 0 <= number <= MAX_INT:
            raise invalid(_IO_THREAD.get(name, "poll_max"), f"must be 0 to {MAX_INT}{' ns' if name == 'poll_max_ns' else ''}")
    return op.SetIoThreadParameters(uuid=uuid, number=_io_thread(request.number), parameters=parameters, scope=scope_of(request.scope))


def set_vcpu(request: job_pb2.SetVcpuRequest, uuid: str) -> op.SetVcpu:
    """SetVcpu."""
    wanted = tuple(sorted(set(request.vcpus)))
    if not wanted or wanted[0] < 0 or wanted[-1] >= MAX_VCPUS:
        raise invalid("vcpus", f"at least one is required, each 0 to {MAX_VCPUS - 1}")
    return op.SetVcpu(uuid=uuid, vcpus=wanted, enabled=request.enabled, scope=scope_of(request.scope))


def start_dirty_rate_calculation(request: job_pb2.StartDirtyRateCalculationRequest, uuid: str) -> op.StartDirtyRateCalculation:
    """StartDirtyRateCalculation."""
    seconds = request.period.seconds if request.HasField("period") else 1
    if not 1 <= seconds <= MAX_DIRTY_RATE_SECONDS or request.period.nanos:
        raise invalid("period", f"must be 1 to {MAX_DIRTY_RATE_SECONDS} whole seconds")
    return op.StartDirtyRateCalculation(uuid=uuid, seconds=seconds)


def set_perf_events(request: job_pb2.SetPerfEventsRequest, uuid: str) -> op.SetPerfEvents:
    """SetPerfEvents."""
    if set(request.enable) & set(request.disable) or not all(event in PERF_EVENTS for event in (*request.enable, *request.disable)):
        raise invalid("enable", "each event is known, and is to be enabled or disabled")
    events = {PERF_EVENTS[event]: True for event in request.enable} | {PERF_EVENTS[event]: False for event in request.disable}
    if not events:
        raise invalid("enable", "an event to enable or to disable is required")
    return op.SetPerfEvents(uuid=uuid, events=events, scope=scope_of(request.scope))


def _host_cpus(numbers: Iterable[int]) -> tuple[int, ...]:
    wanted = tuple(sorted(set(numbers)))
    if not wanted or wanted[0] < 0 or wanted[-1] >= MAX_HOST_CPUS:
        raise invalid("host_cpus", f"at least one is required, each 0 to {MAX_HOST_CPUS - 1}")
    return wanted


def _io_thread(number: int) -> int:
    if not 0 < number <= MAX_INT:
        raise invalid("number", f"must be 1 to {MAX_INT}, not {number}")
    return number


def _limits(request: job_pb2.SetBlockIoTuneRequest, kind: str) -> dict[str, int]:
    """The limits on bytes or on operations and their bursts, by their name in the definition. Raises INVALID_ARGUMENT."""
    given = {field.name: value for field, value in request.ListFields()}
    found: dict[str, int] = {}
    for burst, suffix in (("", ""), ("burst_", "_max")):
        limits = {what: given.get(f"{burst}{what}_{kind}_per_second") for what in _WHAT}
        if any(limit is not None and not 0 <= limit <= MAX_INT64 for limit in limits.values()):
            raise invalid(f"{burst}total_{kind}_per_second", "a limit is not negative; 0 is none")
        if limits["total"] and (limits["read"] or limits["write"]):
            raise invalid(f"{burst}total_{kind}_per_second", "a total, and limits of reads and writes, exclude each other")
        found |= {f"{what}_{_KINDS[kind]}{suffix}": limit for what, limit in limits.items() if limit is not None}
    return found


def _bandwidth(message: job_pb2.Bandwidth, field: str) -> op.Bandwidth:
    bandwidth = op.Bandwidth(
        average=message.average_bytes_per_second,
        peak=message.peak_bytes_per_second,
        burst=message.burst_bytes,
        floor=message.floor_bytes_per_second,
    )
    numbers = (bandwidth.average, bandwidth.peak, bandwidth.burst, bandwidth.floor)
    if any(not 0 <= number <= MAX_BANDWIDTH for number in numbers):
        raise invalid(field, f"its numbers are 0 to {MAX_BANDWIDTH}")
    if not bandwidth.average and (bandwidth.peak or bandwidth.burst):
        raise invalid(f"{field}.average_bytes_per_second", "is required where a peak or a burst is set")
    return bandwidth
