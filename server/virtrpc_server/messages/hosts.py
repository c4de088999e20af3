"""A host as a Host, and as a word of warning where it is not LIVE."""

from __future__ import annotations

import re
from typing import Any

from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_drivers.values import HostInfo, Slot, VerbSupport
from virtrpc_server.errors import FROM_DRIVER
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.messages.common import FRESHNESS, duration, duration_ns, enum_table, numbers, observation, timestamp
from virtrpc_server.messages.verbs import RPC_OF, kind_of

SLOTS = enum_table(Slot, query_pb2.VerbSlot, "VERB_SLOT_", {Slot.DESTROY: "PREEMPT"})
CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
TELLING = frozenset({"HOST_UNREACHABLE", "HYPERVISOR_PERMISSION_DENIED", "HYPERVISOR_UNAUTHENTICATED"})
"""Reasons of a lost connection that tell the caller more than that it is lost; the rest speak of calls."""


def unreachable_message(host: Host) -> types_pb2.UnreachableHost:
    """A host that is not LIVE: why, and since when."""
    reason = FROM_DRIVER[host.fault.reason] if host.fault is not None else ""
    return types_pb2.UnreachableHost(
        host=host.name,
        freshness=FRESHNESS[host.freshness],
        reason=reason if reason in TELLING else "HOST_UNREACHABLE",
        message=_why(host, reason),
        since_time=timestamp(host.since),
    )


def _why(host: Host, reason: str) -> str:
    if host.fault is not None:
        return host.fault.message if reason != "INTERNAL" else "its driver failed; the server's log says more"
    if not host.connected:
        return "no connection has been made yet"
    return "connected, and has yet to be listed again" if host.listed else "connected, and not listed yet"


def host_message(
    host: Host, seen: tuple[int, int] | None = None, *, verbs: bool = False, capabilities: bool = False, sysinfo: bool = False
) -> query_pb2.Host:
    """A host; its table of verbs and its XML only where they are asked for. `seen`: how many domains are told of, and active ones; None: all."""
    info = host.info
    return query_pb2.Host(
        name=host.name,
        uri=CREDENTIALS.sub("", info.uri if info is not None else host.config.uri),
        state=FRESHNESS[host.freshness],
        reachable=host.connected,
        unreachable=unreachable_message(host) if host.freshness is not Freshness.LIVE else None,
        read_only=host.config.read_only or (info is not None and info.read_only),
        driver_process=_driver_process(host),
        budget=_budget(host),
        stats_target_age=duration(host.sampler.period),
        state_updates=_state_updates(info),
        verbs=[_verb(row) for row in info.verbs] if verbs and info is not None else (),
        capabilities_xml=(info.capabilities_xml if capabilities and info is not None else None) or "",
        sysinfo_xml=(info.sysinfo_xml if sysinfo and info is not None else None) or "",
        **_domains(host, seen),
        **(_info_fields(info) if info is not None else {}),
    )


def _domains(host: Host, seen: tuple[int, int] | None) -> dict[str, Any]:
    tally = host.tally
    since = host.since if host.connected else None
    heard = timestamp(tally.heard.wall if tally.heard is not None else since)
    if not host.listed:
        return {"observed_time": heard}
    domains, active = (tally.domains, tally.active) if seen is None else seen
    return {"observed_time": heard, "domains": domains, "active_domains": active}


def _info_fields(info: HostInfo) -> dict[str, Any]:
    return {
        "hostname": info.hostname or "",
        "hypervisor": info.hypervisor.upper(),
        "hypervisor_version": info.hypervisor_version or "",
        "libvirt_version": info.libvirt_version or "",
        "node": query_pb2.NodeInfo(
            cpu_model=info.cpu_model or "",
            memory_bytes=info.memory_bytes,
            cpus=info.cpus,
            cpu_frequency_hertz=info.cpu_mhz * 1_000_000 if info.cpu_mhz is not None else None,
            numa_nodes=info.numa_nodes,
            sockets_per_node=info.sockets,
            cores_per_socket=info.cores,
            threads_per_core=info.threads,
        ),
    }


def _driver_process(host: Host) -> query_pb2.DriverProcess:
    # A driver inside the server is no process, and has none of these.
    return query_pb2.DriverProcess(
        driver="sim" if host.config.uri.startswith("sim:") else "libvirt",
        pid=getattr(host.driver, "pid", None),
        restarts=getattr(host.driver, "restarts", None),
        start_time=timestamp(getattr(host.driver, "started", None)),
        last_exit=getattr(host.driver, "last_exit", ""),
    )


def _budget(host: Host) -> query_pb2.DaemonBudget:
    budget = host.budget
    daemon = host.info.daemon if host.info is not None else None
    return query_pb2.DaemonBudget(daemon=daemon or "", places=budget.limit or 0, used=len(budget.holders), waiting=len(budget.waiters))


def host_stats_message(host: Host) -> query_pb2.HostStats:
    """How busy a host is."""
    reading = host.own_sampler.reading
    observed = observation(host.own_stats_freshness, reading)
    if reading is None:
        return query_pb2.HostStats(observation=observed)
    stats = reading.value
    return query_pb2.HostStats(
        observation=observed,
        user_time=duration_ns(stats.user_ns),
        system_time=duration_ns(stats.system_ns),
        idle_time=duration_ns(stats.idle_ns),
        iowait_time=duration_ns(stats.iowait_ns),
        **numbers(
            memory_bytes=stats.memory_bytes,
            free_bytes=stats.free_bytes,
            buffers_bytes=stats.buffers_bytes,
            cached_bytes=stats.cached_bytes,
        ),
    )


def _state_updates(info: HostInfo | None) -> query_pb2.StateUpdates.ValueType:
    if info is None:
        return query_pb2.STATE_UPDATES_UNSPECIFIED
    return query_pb2.STATE_UPDATES_PUSHED if info.pushes_events else query_pb2.STATE_UPDATES_POLLED


def _verb(row: VerbSupport) -> query_pb2.VerbSupport:
    return query_pb2.VerbSupport(
        method=RPC_OF.get(row.verb, ""),
        kind=kind_of(row.verb),
        supported=row.supported,
        slot=SLOTS[row.slot],
        progress=row.progress,
        abortable=row.abortable,
        killable=row.killable,
    )
