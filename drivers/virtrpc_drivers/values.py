"""The values that a driver hands to the server: immutable, typed, and small enough to travel in one message.

A reading carries the `Stamp` of the moment at which the call that made it STARTED, so that a late answer never overwrites a
newer one. `None` means "this reading does not say", never zero.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of all values and messages: frozen, keyword-only, encoded as a map so that fields can be added.

    They hold nothing but values, so no cycle: the garbage collector, which stops the loop while it looks, need not know them.
    """


class Stamp(msgspec.Struct, frozen=True, order=True, gc=False):
    """When a reading began. Ordered by (process, monotonic): wall time is for people."""

    process: int
    """Number of the driver process, growing with each restart; 0 for a driver in the server's process."""
    monotonic: float
    """Seconds of that process's monotonic clock."""
    wall: float
    """Seconds since the epoch."""


class Group(StrEnum):
    """A part of a cache entry that is read, and replaced, as a whole."""

    STATE = "state"
    CONFIG = "config"


class State(StrEnum):
    """virDomainState, in libvirt's words."""

    NOSTATE = "nostate"
    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"


ACTIVE_STATES = frozenset({State.RUNNING, State.BLOCKED, State.PAUSED, State.SHUTDOWN, State.PMSUSPENDED})


class Control(StrEnum):
    """virDomainControlState: the health of the channel to the hypervisor process. Asynchronous jobs do not show in it."""

    OK = "ok"
    JOB = "job"
    OCCUPIED = "occupied"
    ERROR = "error"


class DomainState(Value, frozen=True):
    """virDomainGetState, virDomainGetInfo and the flags that change with the state. Memory in bytes, time in nanoseconds."""

    state: State
    reason: str = "unknown"
    """The state's reason in lower snake case ("booted", "saved", "migrated" …)."""
    id: int | None = None
    active: bool = False
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    cpu_time_ns: int | None = None
    vcpus: int | None = None
    has_managed_save: bool | None = None
    updated: bool | None = None
    control: Control | None = None
    messages: tuple[str, ...] = ()
    """virDomainGetMessages: taints and deprecations."""


class NetworkHost(Value, frozen=True, omit_defaults=True):
    """A server that a network disk is kept on."""

    name: str = ""
    port: int | None = None
    transport: str = ""
    socket: str = ""


class DiskPlace(Value, frozen=True, omit_defaults=True):
    """Where a disk's content is kept. `kind` is libvirt's type: file, block, network, volume …; empty for a drive without its medium."""

    kind: str = ""
    name: str = ""
    """The path; the image's or export's name; the volume."""
    pool: str = ""
    protocol: str = ""
    hosts: tuple[NetworkHost, ...] = ()
    format: str = ""
    """Of a link of a backing chain; a disk's own is the disk's."""


class DiskConfig(Value, frozen=True, omit_defaults=True):
    """One disk of a definition; words and numbers are libvirt's, empty or None where it does not say."""

    target: str
    source: str | None = None
    device: str = "disk"
    alias: str | None = None
    place: DiskPlace = DiskPlace()
    format: str = ""
    bus: str = ""
    readonly: bool = False
    shareable: bool = False
    serial: str = ""
    cache: str = ""
    io: str = ""
    discard: str = ""
    boot_order: int | None = None
    limits: dict[str, int] = {}
    """<iotune>'s elements: total_bytes_sec, read_iops_sec …"""
    backing_chain: tuple[DiskPlace, ...] = ()


class InterfaceConfig(Value, frozen=True, omit_defaults=True):
    """One network interface of a definition; `target` is the host's tap where it is known."""

    mac: str
    target: str | None = None
    source: str | None = None
    alias: str | None = None
    kind: str = ""
    """libvirt's type: network, bridge, direct, user, ethernet …"""
    mode: str = ""
    model: str = ""
    mtu_bytes: int | None = None
    link: str = ""
    vlan_id: int | None = None
    boot_order: int | None = None


class GraphicsConfig(Value, frozen=True, omit_defaults=True):
    """One screen of a definition, without its password."""

    kind: str
    listen_address: str = ""
    socket: str = ""
    port: int | None = None
    tls_port: int | None = None


class MetadataElement(Value, frozen=True):
    """What an application keeps in a definition, by its namespace."""

    uri: str
    xml: str


class Metadata(Value, frozen=True):
    """What people and applications have written into a definition; empty where there is nothing."""

    title: str = ""
    description: str = ""
    elements: tuple[MetadataElement, ...] = ()


class Address(Value, frozen=True):
    """An address of an interface that the host knows of. `source`: lease or arp."""

    mac: str
    address: str
    prefix: int | None = None
    source: str = "lease"


class DomainConfig(Value, frozen=True):
    """What virDomainGetXMLDesc and its neighbours say. Both XML texts are without secrets."""

    xml: str
    inactive_xml: str | None = None
    migratable_xml: str | None = None
    os_type: str | None = None
    persistent: bool = True
    autostart: bool | None = None
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    vcpus_live: int | None = None
    vcpus_config: int | None = None
    vcpus_maximum: int | None = None
    """Of the running guest, or of the definition where it is off."""
    vcpus_maximum_config: int | None = None
    disks: tuple[DiskConfig, ...] = ()
    interfaces: tuple[InterfaceConfig, ...] = ()
    graphics: tuple[GraphicsConfig, ...] = ()
    metadata: Metadata = Metadata()
    inactive_metadata: Metadata | None = None
    """Of the stored definition, where that is another."""
    addresses: tuple[Address, ...] = ()
    """virDomainInterfaceAddresses by lease and ARP: nothing is asked of the guest."""


class DomainReading(Value, frozen=True):
    """One domain as one call saw it: the groups that were asked for and could be read."""

    uuid: str
    name: str
    stamp: Stamp
    state: DomainState | None = None
    config: DomainConfig | None = None


class Missing(Value, frozen=True):
    """The hypervisor said, for a call begun at `stamp`, that no domain has this uuid."""

    uuid: str
    stamp: Stamp


class Failed(Value, frozen=True):
    """A domain that is there, and could not be read this time."""

    uuid: str
    message: str


class Readings(Value, frozen=True):
    """The answer to a read: each uuid asked for is in one of the three, unless `rest` names it as not looked at (size limit)."""

    found: tuple[DomainReading, ...] = ()
    missing: tuple[Missing, ...] = ()
    failed: tuple[Failed, ...] = ()
    rest: tuple[str, ...] = ()


class Listed(Value, frozen=True):
    """One row of a listing."""

    uuid: str
    name: str
    id: int | None = None
    """Its number while it runs, -1 while it is off; None where the listing does not say."""


class Listing(Value, frozen=True):
    """All domains of the host, active or not, at `stamp`."""

    stamp: Stamp
    domains: tuple[Listed, ...]


class MemoryStats(Value, frozen=True):
    """virDomainMemoryStats in bytes; faults are counts, `last_update` seconds since the epoch by the guest's driver."""

    actual_bytes: int | None = None
    swap_in_bytes: int | None = None
    swap_out_bytes: int | None = None
    major_faults: int | None = None
    minor_faults: int | None = None
    unused_bytes: int | None = None
    available_bytes: int | None = None
    usable_bytes: int | None = None
    rss_bytes: int | None = None
    disk_caches_bytes: int | None = None
    hugetlb_page_allocations: int | None = None
    hugetlb_page_failures: int | None = None
    last_update: int | None = None


class BlockStats(Value, frozen=True):
    """virDomainBlockStatsFlags of one disk: counts, bytes and nanoseconds since the guest's start."""

    target: str
    path: str | None = None
    read_requests: int | None = None
    read_bytes: int | None = None
    read_time_ns: int | None = None
    write_requests: int | None = None
    write_bytes: int | None = None
    write_time_ns: int | None = None
    flush_requests: int | None = None
    flush_time_ns: int | None = None
    errors: int | None = None
    allocation_bytes: int | None = None
    capacity_bytes: int | None = None
    physical_bytes: int | None = None
    error: str | None = None
    """Why it stopped its guest: io or no_space (virDomainGetDiskErrors)."""


class InterfaceStats(Value, frozen=True):
    """virDomainInterfaceStats of one interface, as the host counts it."""

    target: str
    mac: str | None = None
    rx_bytes: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_drops: int | None = None
    tx_bytes: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_drops: int | None = None


class VcpuStats(Value, frozen=True):
    """One virtual CPU (virDomainGetVcpus): `state` is offline, running or blocked; `cpu` the host CPU it was last seen on; `affinity` those that
    it may run on, as "0-3,8"."""

    number: int
    state: str | None = None
    time_ns: int | None = None
    cpu: int | None = None
    affinity: str | None = None


class CpuStats(Value, frozen=True):
    """CPU time of the whole domain since its start, in nanoseconds; user and system time where the hypervisor tells them apart."""

    time_ns: int
    user_ns: int | None = None
    system_ns: int | None = None


class StatsReading(Value, frozen=True):
    """The statistics of one domain as one sweep saw them; a group that the answer lacked is None and keeps its old reading."""

    uuid: str
    stamp: Stamp
    cpu: CpuStats | None = None
    memory: MemoryStats | None = None
    block: tuple[BlockStats, ...] | None = None
    interfaces: tuple[InterfaceStats, ...] | None = None
    vcpus: tuple[VcpuStats, ...] | None = None


class Samples(Value, frozen=True):
    """The answer to a sweep."""

    stats: tuple[StatsReading, ...] = ()


class Pulse(Value, frozen=True):
    """A sign of life of one running domain. A process that is stopped uses no CPU, and its monitor is OCCUPIED once a call hangs on it."""

    uuid: str
    control: Control | None = None
    cpu_time_ns: int | None = None


class Pulses(Value, frozen=True):
    """The answer to a look at many running domains; asks no monitor and takes no job, so it does not hang."""

    pulses: tuple[Pulse, ...] = ()


class HostStats(Value, frozen=True):
    """virNodeGetCPUStats of all CPUs together, in nanoseconds, and virNodeGetMemoryStats, in bytes."""

    stamp: Stamp
    user_ns: int | None = None
    system_ns: int | None = None
    idle_ns: int | None = None
    iowait_ns: int | None = None
    memory_bytes: int | None = None
    free_bytes: int | None = None
    buffers_bytes: int | None = None
    cached_bytes: int | None = None


class SaveImage(Value, frozen=True):
    """Whose memory a file holds, and the definition that it comes back with, without secrets."""

    uuid: str
    name: str
    xml: str


class Screenshot(Value, frozen=True):
    """A picture of a screen, in pieces that are small enough to travel."""

    mime_type: str
    pieces: tuple[bytes, ...]


class GuestPart(StrEnum):
    """A part of what a guest's agent can tell."""

    HOSTNAME = "hostname"
    OS = "os"
    TIME = "time"
    USERS = "users"
    FILESYSTEMS = "filesystems"
    INTERFACES = "interfaces"


class GuestUser(Value, frozen=True):
    """Who is logged in; since when in seconds since the epoch."""

    name: str
    domain: str = ""
    login: float | None = None


class GuestFilesystem(Value, frozen=True):
    """A mounted file system, as the guest calls it, and the disks under it, by target."""

    mountpoint: str
    device: str = ""
    type: str = ""
    total_bytes: int | None = None
    used_bytes: int | None = None
    disks: tuple[str, ...] = ()


class GuestInterface(Value, frozen=True):
    """An interface as the guest sees it; addresses as "10.0.0.2/24"."""

    name: str
    mac: str = ""
    addresses: tuple[str, ...] = ()


class GuestVcpu(Value, frozen=True):
    """A virtual CPU by the guest's number: whether the guest uses it, and whether it can do without."""

    number: int
    online: bool
    offlinable: bool


class GuestInfo(Value, frozen=True):
    """What an agent told at `stamp`; what it did not tell is empty."""

    stamp: Stamp
    hostname: str = ""
    os: dict[str, str] = {}
    """id, name, pretty-name, version, kernel-release, kernel-version, machine, as virDomainGetGuestInfo calls them."""
    timezone: str = ""
    time: float | None = None
    """The guest's clock, in seconds since the epoch."""
    users: tuple[GuestUser, ...] = ()
    filesystems: tuple[GuestFilesystem, ...] = ()
    interfaces: tuple[GuestInterface, ...] = ()


class Snapshot(Value, frozen=True):
    """One snapshot's metadata. `state` is the domain's state in it, or "disk-snapshot"."""

    name: str
    parent: str | None = None
    current: bool = False
    has_metadata: bool = True
    description: str | None = None
    state: str | None = None
    creation_time: int | None = None
    """Seconds since the epoch."""
    children: int = 0
    """Direct children."""
    external: bool = False
    """Whether any of its disks, or its memory, lies in a file of its own."""
    disk_only: bool = False
    xml: str | None = None
    """Only where it was asked for."""


class Snapshots(Value, frozen=True):
    """All snapshots of a domain, parents before children."""

    snapshots: tuple[Snapshot, ...] = ()


class Checkpoint(Value, frozen=True):
    """One checkpoint's metadata; `disks` are the targets of those that take part."""

    name: str
    parent: str | None = None
    description: str | None = None
    creation_time: int | None = None
    """Seconds since the epoch."""
    children: int = 0
    """Direct children."""
    disks: tuple[str, ...] = ()


class Checkpoints(Value, frozen=True):
    """All checkpoints of a domain."""

    checkpoints: tuple[Checkpoint, ...] = ()


class Slot(StrEnum):
    """What a verb takes while it runs: see the design's chapter "Job condition and slots"."""

    CONDITION = "condition"
    """The domain's condition, to its end."""
    ASKING = "asking"
    """The condition for the call; then it waits for the guest without it (phase WAITING_GUEST)."""
    BACKGROUND = "background"
    """The condition to begin and to end; in between a slot of its own."""
    AGENT = "agent"
    """The agent's slot, beside the condition."""
    DESTROY = "destroy"
    """Sent at once: pre-empts what is queued."""
    NONE = "none"
    """Nothing."""


class VerbSupport(Value, frozen=True):
    """What this hypervisor can do with one verb. The server refuses from this table before it makes a job."""

    verb: str
    """The operation's tag, for example "ManagedSave"."""
    supported: bool = True
    slot: Slot = Slot.CONDITION
    progress: bool = False
    abortable: bool = False
    killable: bool = False
    """Whether ending the driver process ends the call at the hypervisor too (drivers that live in the client library)."""


class HostInfo(Value, frozen=True):
    """What a host says of itself when its connection opens."""

    uri: str
    """Without credentials."""
    hypervisor: str
    """virConnectGetType in lower case: "qemu", "xen", "test" …"""
    hostname: str | None = None
    hypervisor_version: str | None = None
    """Dotted, for example "7.2.22"."""
    libvirt_version: str | None = None
    cpu_model: str | None = None
    cpus: int | None = None
    cpu_mhz: int | None = None
    numa_nodes: int | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    capabilities_xml: str | None = None
    sysinfo_xml: str | None = None
    verbs: tuple[VerbSupport, ...] = ()
    pushes_events: bool = True
    """False: the server polls."""
    daemon: str | None = None
    """What names the daemon whose workers this host's calls use (socket path or address); None where there is none."""
    min_workers: int | None = None
    """The daemon's guaranteed workers where they could be read."""
    local: bool = True
    """Whether the hypervisor's files are this machine's files."""
    read_only: bool = False

    def support(self, verb: str) -> VerbSupport | None:
        """The row of a verb, or None where this driver does not know it."""
        return next((row for row in self.verbs if row.verb == verb), None)


class Phase(StrEnum):
    """Where inside its run a verb is, where that matters to others. The last two are no driver's to report: the server knows them."""

    CALLING = "calling"
    WAITING_GUEST = "waiting_guest"
    BACKGROUND = "background"
    READY = "ready"
    MIGRATION_PREPARE = "migration_prepare"
    MIGRATION_COPY = "migration_copy"
    MIGRATION_POST_COPY = "migration_post_copy"
    MIGRATION_FINISH = "migration_finish"
    ABORTING = "aborting"
    REFRESHING = "refreshing"


class Outcome(Value, frozen=True):
    """What a finished operation has to tell: only the fields that its kind has."""

    uuid: str | None = None
    """The domain that it made or moved, where that is not the one it was sent to."""
    snapshot: Snapshot | None = None
    checkpoint: Checkpoint | None = None
    destination_uri: str | None = None
    path: str | None = None
    count: int | None = None
    """How many file systems."""
    finish: str | None = None
    """How a mirror ended: pivot or stop."""


class Steering(Value, frozen=True):
    """What a block job that runs is told: how to finish its mirror ("pivot", "stop"), or how fast to go, in bytes a second; 0 is no limit."""

    finish: str | None = None
    bandwidth_bytes_per_second: int | None = None


class CancelAnswer(Value, frozen=True):
    """What became of one attempt to abort, or to steer."""

    sent: bool
    """Whether the abort reached the hypervisor, for this very call."""
    final: bool = False
    """No later attempt can succeed (the verb cannot be aborted on this hypervisor)."""
    message: str = ""
    """Why it was not sent."""


def to_builtins(value: Value) -> Any:
    """A value as plain dicts and lists, for logs and hashes."""
    return msgspec.to_builtins(value)
