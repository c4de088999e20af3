"""Which of a domain's devices a request for statistics means."""

from __future__ import annotations

from virtrpc_drivers.values import BlockStats, InterfaceStats
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal, refuse
from virtrpc_server.messages import stats


def disks(entry: Entry, wanted: str) -> tuple[BlockStats, ...]:
    """The statistics of the disk with this target or source, or of all where none is named. Raises DEVICE_NOT_FOUND.

    Empty for a disk that the definition has and no sample has seen, and before the definition was read.
    """
    sampled = stats.block_devices(entry)
    chosen = tuple(disk for disk in sampled if wanted in ("", disk.target, disk.path))
    if chosen or not wanted or entry.config is None:
        return chosen
    if any(wanted in (disk.target, disk.source) for disk in entry.config.value.disks):
        return ()
    raise _not_found(entry, "disk", wanted)


def interfaces(entry: Entry, wanted: str) -> tuple[InterfaceStats, ...]:
    """The same for the interface with this name on the host or this hardware address."""
    sampled = stats.interface_devices(entry)
    mac = wanted.lower()
    chosen = tuple(link for link in sampled if wanted in ("", link.target) or mac == (link.mac or "").lower())
    if chosen or not wanted or entry.config is None:
        return chosen
    if any(wanted == link.target or mac == link.mac.lower() for link in entry.config.value.interfaces):
        return ()
    raise _not_found(entry, "interface", wanted)


def _not_found(entry: Entry, kind: str, wanted: str) -> Refusal:
    message = f"domain {entry.name} has no {kind} {wanted!r}"
    return refuse("DEVICE_NOT_FOUND", message, device=wanted, domain=entry.uuid, host=entry.host)
