"""A host, and what its hypervisor can do."""

from __future__ import annotations

from enum import StrEnum

from virtrpc_drivers.values.base import Value


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
