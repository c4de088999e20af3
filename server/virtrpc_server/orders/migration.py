"""Orders: how a domain is to be moved. What excludes each other, or needs something else, is refused with the field's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from virtrpc.v1 import types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.migration import Step, Tuning
from virtrpc_drivers.xml import definition
from virtrpc_server.destinations import disks_uri, listen_address, memory_uri
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import invalid
from virtrpc_server.orders.limits import bandwidth, downtime, positive

Settings = types_pb2.MigrationSettings
MAX_STEPS = 16
MAX_STEP_SECONDS = 30 * 86_400
MAX_DISKS = 256
METHODS = {
    types_pb2.MIGRATION_COMPRESSION_METHOD_XBZRLE: "xbzrle",
    types_pb2.MIGRATION_COMPRESSION_METHOD_MT: "mt",
    types_pb2.MIGRATION_COMPRESSION_METHOD_ZLIB: "zlib",
    types_pb2.MIGRATION_COMPRESSION_METHOD_ZSTD: "zstd",
}
COPIES = {
    types_pb2.MIGRATION_STORAGE_COPY_UNSPECIFIED: "all",
    types_pb2.MIGRATION_STORAGE_COPY_ALL: "all",
    types_pb2.MIGRATION_STORAGE_COPY_INCREMENTAL: "incremental",
}


def migrate(settings: Settings, uuid: str, uri: str) -> op.Migrate:
    """The operation that moves a domain to a destination's URI. Raises INVALID_ARGUMENT, MIGRATION_TARGET_NOT_ALLOWED, XML_INVALID."""
    operation = op.Migrate(
        uuid=uuid,
        destination_uri=uri,
        migrate_uri=memory_uri(settings.migrate_uri),
        listen_address=listen_address(settings.listen_address),
        new_name=settings.destination_name,
        live=settings.live if settings.HasField("live") else not settings.offline,
        peer_to_peer=settings.peer_to_peer if settings.HasField("peer_to_peer") else True,
        persist_destination=settings.persist_destination,
        undefine_source=settings.undefine_source,
        unsafe=settings.unsafe,
        offline=settings.offline,
        paused=settings.paused,
        tunnelled=settings.tunnelled,
        abort_on_error=settings.abort_on_error,
        destination_xml=_xml("settings.destination_xml", settings.destination_xml, uuid),
        persistent_xml=_xml("settings.persistent_xml", settings.persistent_xml, uuid),
        bandwidth_bytes_per_second=bandwidth("settings.bandwidth_bytes_per_second", settings.bandwidth_bytes_per_second),
        max_downtime_seconds=downtime("settings.max_downtime", settings.max_downtime) if settings.HasField("max_downtime") else None,
        schedule=_schedule(settings.schedule),
        **_ways(settings),
        **_compression(settings),
        **_storage(settings),
    )
    for field, why in _contradictions(settings, operation):
        raise invalid(f"settings.{field}", why)
    return operation


def _ways(settings: Settings) -> dict[str, Any]:
    slow, late, many = settings.auto_converge, settings.post_copy, settings.parallel
    return {
        "auto_converge": settings.HasField("auto_converge"),
        "auto_converge_initial": positive("settings.auto_converge.initial_percent", slow.initial_percent, 99),
        "auto_converge_increment": positive("settings.auto_converge.increment_percent", slow.increment_percent, 99),
        "post_copy": settings.HasField("post_copy"),
        "post_copy_bandwidth_bytes_per_second": bandwidth("settings.post_copy.bandwidth_bytes_per_second", late.bandwidth_bytes_per_second),
        "parallel": settings.HasField("parallel"),
        "parallel_connections": positive("settings.parallel.connections", many.connections, 255),
        "zero_copy": many.zero_copy,
        "tls": settings.HasField("tls"),
        "tls_destination": settings.tls.destination,
    }


def _compression(settings: Settings) -> dict[str, Any]:
    wanted, field = settings.compression, "settings.compression"
    methods = tuple(dict.fromkeys(METHODS[method] for method in wanted.methods if method in METHODS))
    return {
        "compressed": settings.HasField("compression"),
        "compression": methods,
        "xbzrle_cache_bytes": positive(f"{field}.xbzrle_cache_bytes", wanted.xbzrle_cache_bytes),
        "mt_level": _level(wanted, "mt_level", 9),
        "mt_threads": positive(f"{field}.mt_threads", wanted.mt_threads, 255),
        "mt_decompression_threads": positive(f"{field}.mt_decompression_threads", wanted.mt_decompression_threads, 255),
        "zlib_level": _level(wanted, "zlib_level", 9),
        "zstd_level": _level(wanted, "zstd_level", 20),
    }


def _level(wanted: types_pb2.MigrationCompression, name: str, most: int) -> int | None:
    if not wanted.HasField(name):  # type: ignore[arg-type]  # one of its optional fields
        return None
    level: int = getattr(wanted, name)
    if not 0 <= level <= most:
        raise invalid(f"settings.compression.{name}", f"must be 0 to {most}")
    return level


def _storage(settings: Settings) -> dict[str, Any]:
    if not settings.HasField("storage"):
        return {}
    wanted = settings.storage
    if len(wanted.disks) > MAX_DISKS or not all(wanted.disks):
        raise invalid("settings.storage.disks", f"names at most {MAX_DISKS} disks by their targets, such as vda")
    return {
        "storage": COPIES.get(wanted.copy, "all"),
        "disks": tuple(dict.fromkeys(wanted.disks)),
        "disks_port": positive("settings.storage.port", wanted.port, 65_535),
        "disks_uri": disks_uri(wanted.uri),
        "synchronous_writes": wanted.synchronous_writes,
    }


def _xml(field: str, xml: str, uuid: str) -> str:
    if not xml:
        return ""
    try:
        given = definition(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault)) from None
    if "<uuid" in xml and given.uuid != uuid:
        raise invalid(field, f"is of another domain: its uuid is {given.uuid}")
    return xml


def _contradictions(settings: Settings, wanted: op.Migrate) -> Iterator[tuple[str, str]]:
    """Each field that does not go with others, and why."""
    yield from _offline(wanted)
    yield from _tunnelled(settings, wanted)
    if wanted.persistent_xml and not wanted.persist_destination:
        yield "persistent_xml", "needs persist_destination"
    if wanted.auto_converge and not wanted.live:
        yield "auto_converge", "a guest that is paused needs no throttling: live must be true"
    if wanted.post_copy and not wanted.live:
        yield "post_copy", "a guest that is paused writes to nothing: live must be true"
    if wanted.zero_copy and (wanted.compressed or wanted.tls):
        yield "parallel.zero_copy", "what is compressed or encrypted cannot be sent without a copy"
    if wanted.storage and wanted.disks_uri and wanted.disks_port:
        yield "storage.port", "port and uri exclude each other"
    yield from _methods(wanted)
    if any(step.tuning.start_post_copy for step in wanted.schedule) and not wanted.post_copy:
        yield "schedule", "a step switches to post-copy, which post_copy does not allow"


def _offline(wanted: op.Migrate) -> Iterator[tuple[str, str]]:
    if not wanted.offline:
        return
    if wanted.live:
        yield "offline", "live and offline exclude each other"
    if not wanted.persist_destination:
        yield "offline", "an offline migration needs persist_destination"
    for field, given in _of_memory(wanted):
        if given:
            yield field, "nothing but the definition is moved offline"


def _of_memory(wanted: op.Migrate) -> Iterable[tuple[str, Any]]:
    return (
        ("storage", wanted.storage), ("tunnelled", wanted.tunnelled), ("auto_converge", wanted.auto_converge), ("post_copy", wanted.post_copy),
        ("parallel", wanted.parallel), ("compression", wanted.compressed), ("schedule", wanted.schedule),
        ("max_downtime", wanted.max_downtime_seconds), ("paused", wanted.paused),
    )  # fmt: skip


def _tunnelled(settings: Settings, wanted: op.Migrate) -> Iterator[tuple[str, str]]:
    if not wanted.tunnelled:
        return
    if not wanted.peer_to_peer:
        yield "tunnelled", "needs peer_to_peer"
    for field, given in (
        ("migrate_uri", wanted.migrate_uri), ("listen_address", wanted.listen_address), ("tls", wanted.tls), ("post_copy", wanted.post_copy),
        ("parallel", wanted.parallel), ("storage.port", wanted.disks_port), ("storage.uri", wanted.disks_uri),
        ("storage.disks", settings.storage.disks),
    ):  # fmt: skip
        if given:
            yield field, "does not go with tunnelled: all goes through the daemons' connection"


def _methods(wanted: op.Migrate) -> Iterator[tuple[str, str]]:
    needs = {
        "xbzrle_cache_bytes": "xbzrle", "mt_level": "mt", "mt_threads": "mt", "mt_decompression_threads": "mt", "zlib_level": "zlib",
        "zstd_level": "zstd",
    }  # fmt: skip
    for field, method in needs.items():
        if getattr(wanted, field) is not None and method not in wanted.compression:
            yield f"compression.{field}", f"needs {method.upper()} among the methods"
    for method in wanted.compression:
        if (method in ("zlib", "zstd")) is not wanted.parallel:
            yield "compression.methods", f"{method.upper()} {'does not go with' if wanted.parallel else 'needs'} parallel"
    if {"zlib", "zstd"} <= set(wanted.compression):
        yield "compression.methods", "ZLIB and ZSTD exclude each other"


def _schedule(steps: Iterable[types_pb2.MigrationStep]) -> tuple[Step, ...]:
    made = tuple(_step(f"settings.schedule[{number}]", step) for number, step in enumerate(steps))
    if len(made) > MAX_STEPS:
        raise invalid("settings.schedule", f"{len(made)} steps are more than {MAX_STEPS}")
    for number, step in enumerate(made[:-1]):
        if step.abort or step.tuning.start_post_copy:
            raise invalid(f"settings.schedule[{number}]", "no step can follow post_copy or abort")
    return made


def _step(field: str, step: types_pb2.MigrationStep) -> Step:
    after = step.after.seconds + step.after.nanos / 1e9
    if not 0 < after <= MAX_STEP_SECONDS:
        raise invalid(f"{field}.after", f"must be above zero and at most {MAX_STEP_SECONDS} s")
    action = step.WhichOneof("action")
    match action:
        case "max_downtime":
            return Step(after=after, tuning=Tuning(max_downtime_seconds=downtime(f"{field}.max_downtime", step.max_downtime)))
        case "bandwidth_bytes_per_second":
            name = f"{field}.bandwidth_bytes_per_second"
            if not step.bandwidth_bytes_per_second:
                raise invalid(name, "a bandwidth is required")
            return Step(after=after, tuning=Tuning(bandwidth_bytes_per_second=bandwidth(name, step.bandwidth_bytes_per_second)))
        case "throttle":
            raise invalid(f"{field}.throttle", "libvirt cannot begin to throttle midway: set auto_converge, which throttles as the passes need it")
        case "post_copy" | "pause" | "abort" if getattr(step, action):
            return Step(after=after, tuning=Tuning(start_post_copy=step.post_copy, pause=step.pause), abort=step.abort)
        case _:
            raise invalid(field, "says what to do: one of its actions, and true where that is a flag")
