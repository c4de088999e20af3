"""One simulated domain and its snapshots: plain data, changed only by `effects`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import ACTIVE_STATES, Control, DomainConfig, DomainState, Snapshot, State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.blocks import SimBlockJob
    from virtrpc_drivers.sim.checkpoints import SimCheckpoint

LOAD = 0.25
"""How much of each processor a guest uses."""


@dataclass(slots=True, frozen=True)
class SaveImage:
    """A managed save image: how the guest was, and is to be again."""

    paused: bool
    document: Document
    saved_at: float
    """Wall time in seconds."""


@dataclass(slots=True, frozen=True)
class SimSnapshot:
    """A snapshot with the definition and state that it keeps."""

    name: str
    parent: str | None
    description: str | None
    state: State
    document: Document
    creation_time: int
    disk_only: bool
    external: bool
    call_id: str | None = None


@dataclass(slots=True)
class SimDomain:
    """A domain as the hypervisor knows it."""

    uuid: str
    document: Document
    """The stored definition; of a transient domain, what it was made from."""
    name: str
    persistent: bool = True
    autostart: bool = False
    state: State = State.SHUTOFF
    reason: str = "unknown"
    id: int | None = None
    live: Document | None = None
    """The running guest's definition."""
    worked: float = 0.0
    """Seconds that its processors have run since the start, up to `counted` (loop time)."""
    counted: float = 0.0
    image: SaveImage | None = None
    updated: bool = False
    snapshots: dict[str, SimSnapshot] = field(default_factory=dict)
    current: str | None = None
    passwords: dict[str, str] = field(default_factory=dict)
    keys: tuple[int, ...] = ()
    """Keys that were pressed."""
    interrupts: int = 0
    frozen: bool = False
    """Its file systems are frozen."""
    offline_vcpus: frozenset[int] = frozenset()
    """Those that the guest was told not to use, by number."""
    ssh_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By user."""
    clock_offset: float = 0.0
    """Seconds by which the guest's clock is ahead."""
    thresholds: dict[str, int] = field(default_factory=dict)
    """Offsets in bytes that are watched for, by target."""
    measured: tuple[float, int] | None = None
    """Since when (loop time), and for how many seconds, the changes of its memory are or were measured."""
    signals: tuple[int, ...] = ()
    """Signals that its first process was sent."""
    capacities: dict[str, int] = field(default_factory=dict)
    """The sizes in bytes of disks that were resized, by target."""
    checkpoints: dict[str, SimCheckpoint] = field(default_factory=dict)
    block_jobs: dict[str, SimBlockJob] = field(default_factory=dict)
    """The block jobs that run, by the disk's target."""
    backup: SimBlockJob | None = None
    stopped: asyncio.Event | None = None
    """Set when the guest's process may go on; None while nothing stopped it."""
    stuck_calls: int = 0
    agent: bool = True
    deaf: bool = False
    """The guest does nothing that it is asked to."""
    reboots: int = 0
    dirty_rate: int = 0
    """Bytes a second that the guest writes to its memory, so that a migration has to send them again; over all of its memory."""

    @property
    def active(self) -> bool:
        """Whether a guest runs, paused or not."""
        return self.state in ACTIVE_STATES

    @property
    def definition(self) -> Document:
        """What it is at present: the live definition where it runs."""
        return self.live or self.document

    def count(self, now: float) -> None:
        """Bring `worked` up to now; to be called before anything changes on which it depends."""
        if self.state is State.RUNNING and self.stopped is None:
            self.worked += max(0.0, now - self.counted)
        self.counted = now

    @property
    def cpu_time_ns(self) -> int:
        """Processor time since the start, as last counted."""
        return int(self.worked * LOAD * (self.definition.config.vcpus_config or 1) * 1e9) if self.active else 0

    def state_value(self) -> DomainState:
        """What a state reading says."""
        config, maximum = self.definition.config, self.definition.config.max_memory_bytes
        return DomainState(
            state=self.state,
            reason=self.reason,
            id=self.id,
            active=self.active,
            memory_bytes=config.memory_bytes if self.active else maximum,
            max_memory_bytes=maximum,
            cpu_time_ns=self.cpu_time_ns,
            vcpus=config.vcpus_config,
            has_managed_save=self.image is not None,
            updated=self.updated,
            control=self.control() if self.active else None,
        )

    def config_value(self) -> DomainConfig:
        """What a configuration reading says; its memory and processors are the stored ones, where any are stored."""
        shown = self.definition.public()
        base = self.document.config if self.persistent else self.definition.config
        return DomainConfig(
            xml=shown.text,
            inactive_xml=self.document.public().text if self.persistent else None,
            migratable_xml=shown.text,
            os_type=base.os_type,
            persistent=self.persistent,
            autostart=self.autostart,
            memory_bytes=base.memory_bytes,
            max_memory_bytes=base.max_memory_bytes,
            vcpus_live=self.definition.config.vcpus_config if self.active else None,
            vcpus_config=base.vcpus_config,
            vcpus_maximum=base.vcpus_maximum,
            disks=self.definition.config.disks,
            interfaces=self.definition.config.interfaces,
            graphics=self.definition.config.graphics,
            metadata=self.definition.metadata,
            inactive_metadata=self.document.metadata if self.persistent and self.active else None,
        )

    def control(self) -> Control:
        """The monitor's state: nobody sees that a guest is stopped before a first call hangs on it."""
        return Control.OCCUPIED if self.stuck_calls else Control.OK

    def snapshot_value(self, snapshot: SimSnapshot, xml: str | None = None) -> Snapshot:
        """What a snapshot query says."""
        return Snapshot(
            name=snapshot.name,
            parent=snapshot.parent,
            current=snapshot.name == self.current,
            description=snapshot.description,
            state="disk-snapshot" if snapshot.disk_only else snapshot.state.value,
            creation_time=snapshot.creation_time,
            children=sum(other.parent == snapshot.name for other in self.snapshots.values()),
            external=snapshot.external,
            disk_only=snapshot.disk_only,
            xml=xml,
        )
