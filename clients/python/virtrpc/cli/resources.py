"""Commands about what a domain may use of its host: processors, memory, NUMA nodes, block devices."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from virtrpc.aio import AsyncClient
from virtrpc.cli import text
from virtrpc.cli.command import command, verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import TUNING
from virtrpc.cli.params import as_duration, parse_numbers, parse_seconds, parse_size
from virtrpc.cli.parts import Scope
from virtrpc.cli.session import Session
from virtrpc.v1 import resources_pb2 as r
from virtrpc.v1 import types_pb2 as t


def _time(value: str) -> Duration:
    return as_duration(parse_seconds(value))


MHZ = 1_000_000
Time = Annotated[Duration | None, typer.Option(parser=_time, metavar="TIME", help="Such as 100ms; a quota of 0 takes it away.")]
Size = Annotated[int | None, typer.Option(parser=parse_size, metavar="SIZE", help="Such as 2GiB; 0B takes the limit away.")]
Number = Annotated[int | None, typer.Option(metavar="N")]
Limits = Annotated[list[str], typer.Option(metavar="DEVICE=N", help="Of a device: /dev/sda=1000000; may be repeated; 0 takes it away.")]
_MODES = {name.removeprefix("NUMA_MODE_").lower(): number for name, number in r.NumaMode.items() if number}


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "set-scheduler", panel=TUNING, aliases=("schedinfo",))(set_scheduler)
    verb(app, "set-memory-limits", panel=TUNING, aliases=("memtune",))(set_memory_limits)
    verb(app, "set-numa", panel=TUNING, aliases=("numatune",))(set_numa)
    verb(app, "set-blkio", panel=TUNING, aliases=("blkiotune",))(set_blkio)
    command(app, "resources", panel=TUNING)(resources)
    verb(app, "start-dirty-rate", panel=TUNING, aliases=("domdirtyrate-calc",))(start_dirty_rate)
    command(app, "dirty-rate", panel=TUNING)(dirty_rate)


def set_scheduler(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    scope: Scope,
    shares: Number = None,
    vcpu_period: Time = None,
    vcpu_quota: Time = None,
    emulator_period: Time = None,
    emulator_quota: Time = None,
    global_period: Time = None,
    global_quota: Time = None,
    io_thread_period: Time = None,
    io_thread_quota: Time = None,
    cap_percent: Number = None,
    reservation_mhz: Number = None,
    limit_mhz: Number = None,
) -> Begun:
    """Set how much of its host's processors a domain gets."""
    parameters = r.SchedulerParameters(
        cpu_shares=shares,
        vcpu_period=vcpu_period,
        vcpu_quota=vcpu_quota,
        emulator_period=emulator_period,
        emulator_quota=emulator_quota,
        global_period=global_period,
        global_quota=global_quota,
        io_thread_period=io_thread_period,
        io_thread_quota=io_thread_quota,
        cap_percent=cap_percent,
        reservation_hertz=None if reservation_mhz is None else reservation_mhz * MHZ,
        limit_hertz=None if limit_mhz is None else limit_mhz * MHZ,
    )
    return client.set_scheduler_parameters(domain, options=options, scope=scope.value, scheduler=parameters)


def set_memory_limits(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    scope: Scope,
    hard: Size = None,
    soft: Size = None,
    swap_hard: Size = None,
) -> Begun:
    """Limit what a domain takes of its host's memory."""
    limits = r.MemoryParameters(hard_limit_bytes=hard, soft_limit_bytes=soft, swap_hard_limit_bytes=swap_hard)
    return client.set_memory_parameters(domain, options=options, scope=scope.value, memory=limits)


def set_numa(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    scope: Scope,
    mode: Annotated[str, typer.Option(metavar="|".join(_MODES), help="How its memory keeps to the nodes.")] = "",
    nodes: Annotated[str, typer.Option(metavar="NODES", help="The host's NUMA nodes: 0-3,8.")] = "",
) -> Begun:
    """Set which of its host's NUMA nodes a domain's memory lies on."""
    if mode and mode not in _MODES:
        raise typer.BadParameter(f"{mode!r} is no mode: say one of {', '.join(_MODES)}")
    place = r.NumaParameters(mode=_MODES[mode] if mode else r.NUMA_MODE_UNSPECIFIED, nodes=parse_numbers(nodes) if nodes else ())
    return client.set_numa_parameters(domain, options=options, scope=scope.value, numa=place)


def set_blkio(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    scope: Scope,
    weight: Number = None,
    device_weight: Limits = [],  # noqa: B006 # Typer makes the list
    read: Limits = [],  # noqa: B006 # as above
    write: Limits = [],  # noqa: B006 # as above
    read_operations: Limits = [],  # noqa: B006 # as above
    write_operations: Limits = [],  # noqa: B006 # as above
) -> Begun:
    """Set how much of its host's block devices a domain gets, by weights and limits a second."""
    given = {
        "weight": device_weight,
        "read_bytes_per_second": read,
        "write_bytes_per_second": write,
        "read_operations_per_second": read_operations,
        "write_operations_per_second": write_operations,
    }
    devices: dict[str, r.BlkioDevice] = {}
    for field, words in given.items():
        for path, number in map(_limit, words):
            setattr(devices.setdefault(path, r.BlkioDevice(path=path)), field, number)
    return client.set_blkio_parameters(
        domain, options=options, scope=scope.value, blkio=r.BlkioParameters(weight=weight, devices=list(devices.values()))
    )


def _limit(word: str) -> tuple[str, int]:
    path, _, number = word.rpartition("=")
    if not path or not number.isdecimal():
        raise typer.BadParameter(f"{word!r} names no device and number: say /dev/sda=1000000")
    return path, int(number)


def resources(session: Session, domain: t.DomainRef, scope: Scope) -> None:
    """Show what a domain may use of its host."""
    with session.client() as client:
        told = client.get_resource_parameters(domain, scope=scope.value)
    if session.json:
        session.document(told)
        return
    facts = [("Scheduler", told.scheduler_type or text.NONE)]
    for group in ("scheduler", "memory"):
        facts += [(_label(field.name), _value(field.name, value)) for field, value in getattr(told, group).ListFields()]
    if told.HasField("numa"):
        facts.append(("NUMA", f"{r.NumaMode.Name(told.numa.mode).removeprefix('NUMA_MODE_').lower()}: {_nodes(told.numa)}"))
    if told.blkio.HasField("weight"):
        facts.append(("Weight of block devices", str(told.blkio.weight)))
    session.facts(facts)
    if told.blkio.devices:
        session.table(("DEVICE", "LIMITS"), ((device.path, _limits(device)) for device in told.blkio.devices))


def _label(field: str) -> str:
    return field.removesuffix("_bytes").replace("_", " ").capitalize()


def _value(field: str, value: int | Duration) -> str:
    number = value.seconds + value.nanos / 1e9 if isinstance(value, Duration) else value
    if not number and field.endswith(("_quota", "_limit_bytes")):
        return "no limit"
    if isinstance(value, Duration):
        return text.seconds(number)
    return text.size(value) if field.endswith("_bytes") else str(value)


def _nodes(place: r.NumaParameters) -> str:
    return "nodes " + ", ".join(map(str, place.nodes)) if place.nodes else "any node"


def _limits(device: r.BlkioDevice) -> str:
    return ", ".join(f"{field.name} {value}" for field, value in device.ListFields() if field.name != "path")


def start_dirty_rate(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    period: Annotated[str, typer.Option(metavar="TIME", help="For how long: 1s to 60s.")] = "1s",
) -> Begun:
    """Begin to measure how fast a guest changes its memory."""
    return client.start_dirty_rate_calculation(domain, options=options, period=_time(period))


def dirty_rate(session: Session, domain: t.DomainRef) -> None:
    """Show how fast a guest changes its memory, as last measured."""
    with session.client() as client:
        told = client.get_dirty_rate(domain)
    if session.json:
        session.document(told)
        return
    session.facts(
        [
            ("Measured for", text.duration(told, "period")),
            ("Changed", "being measured" if told.measuring else text.rate(text.optional(told, "dirty_bytes_per_second"))),
        ]
    )
