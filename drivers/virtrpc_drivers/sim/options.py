"""What a simulated host looks like and how long things take there: from a URI, or made in Python."""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import Value


class SimOptions(Value, frozen=True):
    """`sim://HOST/?name=value&…`: every field is a parameter. Seconds, unless a name says otherwise."""

    host: str = "sim"
    """The name by which other simulated hosts in this process reach it (migration)."""
    daemon: str = ""
    """The Unix socket of the process that simulates the host (`sim.daemon`), which outlives its drivers; else the driver process does."""
    domains: int = 3
    running: int = 1
    """How many of them run at first."""
    transient: int = 0
    """How many of those have no stored definition."""
    memory_mib: int = 1024
    vcpus: int = 1
    seed: int = 0
    shape: Literal["qemu", "xen", "lxc", "ch", "bhyve", "vz", "openvz", "esx", "vmware", "hyper-v", "vbox", "test"] = "qemu"
    """Whose table of verbs, and whose habits, it has."""
    abort: Literal["handle", "domain"] = "handle"
    """Whether an abort hits one operation, or (as libvirt's) whatever the domain runs."""
    events: bool = True
    remembers: bool = True
    """Whether it still knows calls that ended while nobody was connected; if not, `resume` has to find proof."""
    workers: int = 0
    """Calls that may be inside it at once, as in a libvirt daemon; 0 means any number."""
    connect_seconds: float = 0.0
    reconnect_seconds: float = 0.1
    latency: float = 0.0
    """Of every operation, before anything else."""
    read_latency: float = 0.0
    """Of every list, read, sample and snapshot query: half before it looks, half after."""
    start_seconds: float = 0.05
    save_seconds: float = 1.0
    restore_seconds: float = 0.2
    snapshot_seconds: float = 0.1
    revert_seconds: float = 0.1
    migrate_seconds: float = 1.0
    block_seconds: float = 1.0
    """How long a block job takes that nothing slows down."""
    block_mib: int = 1024
    """How much it copies."""
    shutdown_seconds: float = 0.1
    """How long a guest takes to shut down or to reboot."""
    detach_seconds: float = 0.05
    """How long a guest takes to let a device go."""
    kill_seconds: float = 0.0
    """How long the destroy of a stopped guest takes (QEMU: 12)."""
    abort_seconds: float = 0.0
    progress_seconds: float = 0.1
    """The time between two progress reports."""
    lock_seconds: float = 30.0
    """How long an operation waits for another's job before it fails with FOREIGN_JOB."""
    agent_seconds: float = 5.0
    """How long an agent is given to answer."""


def _unknown(names: set[str]) -> str:
    return f"not a parameter of sim: URIs: {', '.join(sorted(names))}; there are {', '.join(SimOptions.__struct_fields__)}"


def from_uri(uri: str) -> SimOptions:
    """Options of a `sim:` URI. Raises DriverError (INVALID_ARGUMENT) at a parameter that does not exist or does not fit."""
    parts = urlsplit(uri)
    given: dict[str, str] = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if "@" in parts.netloc:
        raise failure(Reason.INVALID_ARGUMENT, "a sim: URI has no credentials")
    if parts.hostname:
        given.setdefault("host", parts.hostname)
    unknown = set(given) - set(SimOptions.__struct_fields__)
    if parts.scheme != "sim" or unknown:
        raise failure(Reason.INVALID_ARGUMENT, _unknown(unknown) if unknown else "not a sim: URI")
    try:
        return msgspec.convert(given, SimOptions, strict=False)
    except msgspec.ValidationError as error:
        raise failure(Reason.INVALID_ARGUMENT, f"the URI's parameters do not fit: {error}") from None
