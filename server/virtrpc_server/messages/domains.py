"""A cache entry as a Domain."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from virtrpc.v1 import types_pb2
from virtrpc_drivers.values import Control, DomainConfig, DomainState, Group
from virtrpc_server.domains import Entry
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.messages.common import STATES, duration_ns, enum_table, observation
from virtrpc_server.messages.devices import disk_message, graphics_message, interface_message

CONTROLS = enum_table(Control, types_pb2.ControlState, "CONTROL_STATE_")


def domain_message(entry: Entry, host: Host | None) -> types_pb2.Domain:
    """A domain as it was last read, its freshness with its host's taken into account. Without a host nothing of it is LIVE."""
    return _message(entry, *(_freshness(entry, host, group) for group in (Group.STATE, Group.CONFIG)))


def full_domain_message(entry: Entry, host: Host) -> types_pb2.Domain:
    """The same with its devices."""
    message = domain_message(entry, host)
    if entry.config is not None:
        config = entry.config.value
        message.disks.extend(disk_message(disk) for disk in config.disks)
        message.interfaces.extend(interface_message(interface) for interface in config.interfaces)
        message.graphics.extend(graphics_message(graphics) for graphics in config.graphics)
    return message


def watched_domain_message(entry: Entry, state: Freshness, config: Freshness) -> types_pb2.Domain:
    """The same for a watch, which tells the staleness of a host once and not with each of its domains: see `Host.own_freshness`."""
    return _message(entry, state, config)


def _freshness(entry: Entry, host: Host | None, group: Group) -> Freshness:
    if host is not None:
        return host.group_freshness(entry, group)
    return Freshness.UNKNOWN if getattr(entry, group.value) is None else Freshness.STALE


def _message(entry: Entry, state: Freshness, config: Freshness) -> types_pb2.Domain:
    return types_pb2.Domain(
        host=entry.host,
        uuid=entry.uuid,
        name=entry.name,
        generation=str(entry.generation),
        state_observation=observation(state, entry.state),
        configuration_observation=observation(config, entry.config),
        **(_state_fields(entry.state.value) if entry.state is not None else {}),
        cpu_time=_cpu_time(entry),
        **(_config_fields(entry.config.value, active=entry.active) if entry.config is not None else {}),
    )


def _cpu_time(entry: Entry) -> Duration | None:
    """By the newer of two readings, the state's and the statistics'."""
    if entry.state is None or not entry.active:
        return None
    sampled = entry.stats.cpu
    newer = sampled is not None and sampled.stamp > entry.state.stamp
    return duration_ns(sampled.value.time_ns if sampled is not None and newer else entry.state.value.cpu_time_ns)


def _state_fields(state: DomainState) -> dict[str, Any]:
    return {
        "id": state.id if state.active else None,
        "state": STATES[state.state],
        "state_reason": state.reason,
        "active": state.active,
        "control_state": CONTROLS[state.control] if state.control is not None else None,
        "updated": state.updated,
        "has_managed_save": state.has_managed_save,
        "memory_bytes": state.memory_bytes,
        "max_memory_bytes": state.max_memory_bytes,
        "messages": state.messages,
    }


def _config_fields(config: DomainConfig, *, active: bool) -> dict[str, Any]:
    return {
        "os_type": config.os_type,
        "persistent": config.persistent,
        "autostart": config.autostart,
        "vcpus": types_pb2.VcpuCounts(
            live=config.vcpus_live if active else None,
            config=config.vcpus_config,
            maximum=config.vcpus_maximum if active else None,
            maximum_config=config.vcpus_maximum_config,
        ),
        "max_vcpus": config.vcpus_maximum,
    }
