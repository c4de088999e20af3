"""Commands that show statistics."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.message import Message

from virtrpc.cli import text
from virtrpc.cli.command import command
from virtrpc.cli.panels import STATISTICS
from virtrpc.cli.parts import Hosts
from virtrpc.cli.queries import HostName, domain_filter
from virtrpc.cli.session import Session, complain
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

_GROUPS = {"cpu": q.STATS_GROUP_CPU, "memory": q.STATS_GROUP_MEMORY, "block": q.STATS_GROUP_BLOCK, "interface": q.STATS_GROUP_INTERFACE}


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    command(app, "stats", panel=STATISTICS, aliases=("domstats",))(stats)
    command(app, "block-stats", panel=STATISTICS, aliases=("domblkstat",))(block_stats)
    command(app, "interface-stats", panel=STATISTICS, aliases=("domifstat",))(interface_stats)
    command(app, "host-stats", panel=STATISTICS, aliases=("nodecpustats", "nodememstats"))(host_stats)
    command(app, "memory-stats", panel=STATISTICS, aliases=("dommemstat",))(memory_stats)


def stats(
    session: Session,
    host: Hosts = [],  # noqa: B006 # Typer makes the list, and nothing here changes it
    name: Annotated[str, typer.Option(metavar="GLOB", help="Names that fit, with * and ?.")] = "",
    group: Annotated[list[str], typer.Option(metavar="GROUP", help="cpu, memory, block or interface; may be repeated.")] = [],  # noqa: B006
) -> None:
    """Show the last sample of many domains, summed up over disks and interfaces; --json has it all."""
    unknown = [one for one in group if one not in _GROUPS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no group: say one of {', '.join(_GROUPS)}")
    with session.client() as client:
        answer = client.list_domain_stats(filter=domain_filter(host, name, []), groups=[_GROUPS[one] for one in group]).merged()
    if session.json:
        session.document(answer)
        return
    headers = ("HOST", "NAME", "STATE", "CPU TIME", "BALLOON", "RSS", "READ", "WRITTEN", "RECEIVED", "SENT", "SAMPLED")
    session.table(headers, (_row(one) for one in answer.stats))
    session.unreachable(answer.unreachable)


def _row(one: q.DomainStats) -> tuple[str, ...]:
    observations = [group.observation for group in (one.cpu, one.memory, one.block, one.interface) if group.HasField("observation")]
    return (
        one.domain.host,
        one.domain.name,
        text.state(one.state),
        text.duration(one.cpu, "cpu_time"),
        text.size(text.optional(one.memory, "balloon_bytes")),
        text.size(text.optional(one.memory, "rss_bytes")),
        _total(list(one.block.devices), "read_bytes"),
        _total(list(one.block.devices), "write_bytes"),
        _total(list(one.interface.devices), "rx_bytes"),
        _total(list(one.interface.devices), "tx_bytes"),
        text.observed(min(observations, key=lambda seen: seen.observed_time.ToNanoseconds())) if observations else text.NONE,
    )


def _total(devices: list[Message], field: str) -> str:
    known = [getattr(device, field) for device in devices if device.HasField(field)]
    return text.size(sum(known)) if known else text.NONE


def block_stats(
    session: Session, domain: t.DomainRef, device: Annotated[str, typer.Argument(metavar="[DISK]", help="vda, or its path.")] = ""
) -> None:
    """Show block statistics of one disk or of all, from the last sample."""
    with session.client() as client:
        answer = client.get_block_stats(domain, device=device)
    if session.json:
        session.document(answer)
        return
    headers = ("DISK", "READS", "READ", "WRITES", "WRITTEN", "FLUSHES", "CAPACITY", "ALLOCATION", "ERROR", "SOURCE")
    session.table(headers, (_disk(one) for one in answer.stats.devices))
    _sampled(session, answer.stats.observation)


def _disk(one: q.BlockDeviceStats) -> tuple[str, ...]:
    return (
        one.device,
        text.number(one, "read_requests"),
        text.size(text.optional(one, "read_bytes")),
        text.number(one, "write_requests"),
        text.size(text.optional(one, "write_bytes")),
        text.number(one, "flush_requests"),
        text.size(text.optional(one, "capacity_bytes")),
        text.size(text.optional(one, "allocation_bytes")),
        text.enum(q.DiskError, one.disk_error),
        text.optional(one, "path") or text.NONE,
    )


def interface_stats(
    session: Session, domain: t.DomainRef, device: Annotated[str, typer.Argument(metavar="[INTERFACE]", help="vnet0, or its hardware address.")] = ""
) -> None:
    """Show network statistics of one interface or of all, from the last sample."""
    with session.client() as client:
        answer = client.get_interface_stats(domain, device=device)
    if session.json:
        session.document(answer)
        return
    headers = ("INTERFACE", "MAC", "RECEIVED", "PACKETS", "ERRORS", "DROPS", "SENT", "PACKETS", "ERRORS", "DROPS", "ADDRESSES")
    session.table(headers, (_interface(one) for one in answer.stats.devices))
    _sampled(session, answer.stats.observation)


def _interface(one: q.InterfaceDeviceStats) -> tuple[str, ...]:
    cells = [one.device or text.NONE, text.optional(one, "mac_address") or text.NONE]
    for way in ("rx", "tx"):
        cells.append(text.size(text.optional(one, f"{way}_bytes")))
        cells += [text.number(one, f"{way}_{what}") for what in ("packets", "errors", "drops")]
    return (*cells, ", ".join(address.address for address in one.addresses) or text.NONE)


def host_stats(session: Session, name: HostName = "") -> None:
    """Show how busy a host is, from the last sample."""
    with session.client() as client:
        answer = client.get_host_stats(host=name)
    if session.json:
        session.document(answer)
        return
    times = [(what.capitalize(), text.duration(answer, f"{what}_time")) for what in ("user", "system", "idle", "iowait")]
    sizes = [(_label(what), text.size(text.optional(answer, what))) for what in ("memory_bytes", "free_bytes", "buffers_bytes", "cached_bytes")]
    session.facts(times + sizes)
    session.say(f"Sampled: {text.observed(answer.observation)}")


def memory_stats(session: Session, domain: t.DomainRef) -> None:
    """Show memory statistics, from the last sample."""
    with session.client() as client:
        answer = client.get_memory_stats(domain)
    if session.json:
        session.document(answer)
        return
    known = [(field.name, value) for field, value in answer.stats.ListFields() if field.message_type is None]
    session.facts(
        [(_label(name), text.size(value) if name.endswith("_bytes") else str(value)) for name, value in known]
        + [("Told by the guest", text.moment(answer.stats, "guest_update_time"))]
    )
    _sampled(session, answer.stats.observation)


def _sampled(session: Session, observation: t.Observation) -> None:
    session.say(f"Sampled: {text.observed(observation)}")
    if observation.freshness == t.FRESHNESS_UNKNOWN:
        complain("there is no sample: the domain is off, or has not been sampled yet", "note")


def _label(field: str) -> str:
    return field.removesuffix("_bytes").replace("_", " ").capitalize()
