"""Commands that say where a domain's threads run, what its devices may carry, and what becomes of it when its guest ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import TUNING
from virtrpc.cli.params import as_duration, parse_numbers, parse_seconds, parse_size
from virtrpc.cli.parts import Scope
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import spec_pb2
from virtrpc.v1 import types_pb2 as t

Value = TypeVar("Value", bound=int)
_EVENTS = {name.removeprefix("LIFECYCLE_EVENT_").lower(): number for name, number in j.LifecycleEvent.items() if number}
_ACTIONS = {name.removeprefix("LIFECYCLE_ACTION_").lower().replace("_", "-"): number for name, number in spec_pb2.LifecycleAction.items() if number}


def _one_of(table: Mapping[str, Value], value: str, what: str) -> Value:
    if value not in table:
        raise typer.BadParameter(f"{value!r} is no {what}: say one of {', '.join(table)}")
    return table[value]


_PERF = {name.removeprefix("PERF_EVENT_").lower(): number for name, number in j.PerfEvent.items() if number}

Cpus = Annotated[str, typer.Argument(metavar="CPUS", help="The host's processors: 0-3,8.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The thread's number.")]
Bytes = Annotated[int | None, typer.Option(parser=parse_size, metavar="SIZE", help="A second, such as 10MiB; 0B takes the limit away.")]
Operations = Annotated[int | None, typer.Option(metavar="N", help="A second; 0 takes the limit away.")]
Peak = Annotated[int | None, typer.Option(parser=parse_size, metavar="SIZE", help="At its best a second, such as 10MiB.")]
Burst = Annotated[int | None, typer.Option(parser=parse_size, metavar="SIZE", help="What may pass at the speed of the peak.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "pin-vcpu", panel=TUNING, aliases=("vcpupin",))(pin_vcpu)
    verb(app, "pin-emulator", panel=TUNING, aliases=("emulatorpin",))(pin_emulator)
    verb(app, "add-io-thread", panel=TUNING, aliases=("iothreadadd",))(add_io_thread)
    verb(app, "delete-io-thread", panel=TUNING, aliases=("iothreaddel",))(delete_io_thread)
    verb(app, "pin-io-thread", panel=TUNING, aliases=("iothreadpin",))(pin_io_thread)
    verb(app, "set-block-io-tune", panel=TUNING, aliases=("blkdeviotune",))(set_block_io_tune)
    verb(app, "set-interface", panel=TUNING, aliases=("domiftune",))(set_interface)
    verb(app, "set-io-thread", panel=TUNING, aliases=("iothreadset",))(set_io_thread)
    verb(app, "set-vcpu", panel=TUNING, aliases=("setvcpu",))(set_vcpu)
    verb(app, "set-perf-events", panel=TUNING, aliases=("perf",))(set_perf_events)
    verb(app, "set-block-threshold", panel=TUNING, aliases=("domblkthreshold",))(set_block_threshold)
    verb(app, "set-lifecycle-action", panel=TUNING)(set_lifecycle_action)


def pin_vcpu(
    client: AsyncClient,
    domain: t.DomainRef,
    number: Annotated[int, typer.Argument(metavar="VCPU", help="The virtual CPU's number, from 0.")],
    cpus: Cpus,
    options: t.JobOptions,
    scope: Scope,
) -> Begun:
    """Have a virtual CPU run on some of the host's processors alone."""
    return client.pin_vcpu(domain, options=options, scope=scope.value, number=number, host_cpus=parse_numbers(cpus))


def pin_emulator(client: AsyncClient, domain: t.DomainRef, cpus: Cpus, options: t.JobOptions, scope: Scope) -> Begun:
    """Have the hypervisor's own threads run on some of the host's processors alone."""
    return client.pin_emulator(domain, options=options, scope=scope.value, host_cpus=parse_numbers(cpus))


def add_io_thread(client: AsyncClient, domain: t.DomainRef, number: Number, options: t.JobOptions, scope: Scope) -> Begun:
    """Give a domain a further thread for its disks."""
    return client.add_io_thread(domain, options=options, scope=scope.value, number=number)


def delete_io_thread(client: AsyncClient, domain: t.DomainRef, number: Number, options: t.JobOptions, scope: Scope) -> Begun:
    """Take a thread for disks from a domain."""
    return client.delete_io_thread(domain, options=options, scope=scope.value, number=number)


def pin_io_thread(client: AsyncClient, domain: t.DomainRef, number: Number, cpus: Cpus, options: t.JobOptions, scope: Scope) -> Begun:
    """Have a thread for disks run on some of the host's processors alone."""
    return client.pin_io_thread(domain, options=options, scope=scope.value, number=number, host_cpus=parse_numbers(cpus))


def set_block_io_tune(
    client: AsyncClient,
    domain: t.DomainRef,
    device: Annotated[str, typer.Argument(metavar="DISK", help="vda, or its path.")],
    options: t.JobOptions,
    scope: Scope,
    total: Bytes = None,
    read: Bytes = None,
    write: Bytes = None,
    total_operations: Operations = None,
    read_operations: Operations = None,
    write_operations: Operations = None,
    burst_total: Bytes = None,
    burst_read: Bytes = None,
    burst_write: Bytes = None,
    burst_total_operations: Operations = None,
    burst_read_operations: Operations = None,
    burst_write_operations: Operations = None,
) -> Begun:
    """Limit what a domain may read from and write to a disk."""
    request = j.SetBlockIoTuneRequest(
        total_bytes_per_second=total,
        read_bytes_per_second=read,
        write_bytes_per_second=write,
        total_operations_per_second=total_operations,
        read_operations_per_second=read_operations,
        write_operations_per_second=write_operations,
        burst_total_bytes_per_second=burst_total,
        burst_read_bytes_per_second=burst_read,
        burst_write_bytes_per_second=burst_write,
        burst_total_operations_per_second=burst_total_operations,
        burst_read_operations_per_second=burst_read_operations,
        burst_write_operations_per_second=burst_write_operations,
    )
    limits = {field.name: value for field, value in request.ListFields()}
    return client.set_block_io_tune(domain, options=options, scope=scope.value, device=device, **limits)


def set_io_thread(
    client: AsyncClient,
    domain: t.DomainRef,
    number: Number,
    options: t.JobOptions,
    scope: Scope,
    poll_max: Annotated[str, typer.Option(metavar="TIME", help="How long it may look for work before it sleeps: 1ms.")] = "",
    poll_grow: Operations = None,
    poll_shrink: Operations = None,
    helpers_minimum: Operations = None,
    helpers_maximum: Operations = None,
) -> Begun:
    """Set how a thread for disks looks for work, and how many helpers it has."""
    return client.set_io_thread_parameters(
        domain,
        options=options,
        scope=scope.value,
        number=number,
        poll_max=as_duration(parse_seconds(poll_max)) if poll_max else None,
        poll_grow=poll_grow,
        poll_shrink=poll_shrink,
        helper_threads_minimum=helpers_minimum,
        helper_threads_maximum=helpers_maximum,
    )


def set_vcpu(
    client: AsyncClient,
    domain: t.DomainRef,
    vcpus: Annotated[str, typer.Argument(metavar="VCPUS", help="By their numbers: 1-3.")],
    options: t.JobOptions,
    scope: Scope,
    enabled: Annotated[bool, typer.Option("--enable/--disable", help="Plug them in, or out.")] = True,
) -> Begun:
    """Plug some of a domain's virtual CPUs in or out."""
    return client.set_vcpu(domain, options=options, scope=scope.value, vcpus=parse_numbers(vcpus), enabled=enabled)


def set_perf_events(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    scope: Scope,
    enable: Annotated[list[str], typer.Option(metavar="EVENT", help="Such as cpu_cycles; may be repeated.")] = [],  # noqa: B006 # Typer makes the list
    disable: Annotated[list[str], typer.Option(metavar="EVENT", help="May be repeated.")] = [],  # noqa: B006 # as above
) -> Begun:
    """Have the host's performance counters count for a domain, or no longer."""
    count, leave = [_one_of(_PERF, word, "event") for word in enable], [_one_of(_PERF, word, "event") for word in disable]
    return client.set_perf_events(domain, options=options, scope=scope.value, enable=count, disable=leave)


def set_block_threshold(
    client: AsyncClient,
    domain: t.DomainRef,
    device: Annotated[str, typer.Argument(metavar="DISK", help="vda, or vda[2] for one of its backing files.")],
    threshold: Annotated[int, typer.Argument(parser=parse_size, metavar="SIZE", help="The offset in its image: 8GiB; 0B watches no longer.")],
    options: t.JobOptions,
) -> Begun:
    """Watch for a disk being written beyond an offset; block-stats tells until then."""
    return client.set_block_threshold(domain, options=options, device=device, threshold_bytes=threshold)


def set_interface(
    client: AsyncClient,
    domain: t.DomainRef,
    device: Annotated[str, typer.Argument(metavar="INTERFACE", help="Its MAC address, or its name on the host.")],
    options: t.JobOptions,
    scope: Scope,
    inbound: Bytes = None,
    inbound_peak: Peak = None,
    inbound_burst: Burst = None,
    outbound: Bytes = None,
    outbound_peak: Peak = None,
    outbound_burst: Burst = None,
) -> Begun:
    """Limit what an interface may receive and send."""
    return client.set_interface_parameters(
        domain,
        options=options,
        scope=scope.value,
        device=device,
        inbound=_bandwidth(inbound, inbound_peak, inbound_burst),
        outbound=_bandwidth(outbound, outbound_peak, outbound_burst),
    )


def _bandwidth(average: int | None, peak: int | None, burst: int | None) -> j.Bandwidth | None:
    if average is None and peak is None and burst is None:
        return None
    return j.Bandwidth(average_bytes_per_second=average or 0, peak_bytes_per_second=peak or 0, burst_bytes=burst or 0)


def set_lifecycle_action(
    client: AsyncClient,
    domain: t.DomainRef,
    event: Annotated[str, typer.Argument(metavar=f"[{'|'.join(_EVENTS)}]", help="What the guest does.")],
    action: Annotated[str, typer.Argument(metavar=f"[{'|'.join(_ACTIONS)}]", help="What becomes of the domain.")],
    options: t.JobOptions,
    scope: Scope,
) -> Begun:
    """Set what becomes of a domain when its guest switches itself off, reboots or crashes."""
    what, then = _one_of(_EVENTS, event, "event"), _one_of(_ACTIONS, action, "action")
    return client.set_lifecycle_action(domain, options=options, scope=scope.value, event=what, action=then)
