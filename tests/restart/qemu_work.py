"""The operations that are under way when something is killed: each is begun, held in its middle, let go, judged past virtrpc, and made undone."""

from __future__ import annotations

import itertools
import json
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path

import libvirt
import libvirt_qemu

from tests.beds.wait import wait_until
from tests.e2e.behaviour import MIB, held_writer_of
from tests.e2e.server import Guest, xml_of
from tests.restart.qemu_bed import DISK_MIB, FILL_MIB, FIRST, Bed
from virtrpc import AsyncClient, AsyncJobHandle
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

_numbers = itertools.count(1)
PACE = 32 * MIB
"""Bytes a second of what can be slowed down: no more than two seconds of work."""
CRAWL = MIB
"""Bytes a second of what is held."""
DATA = "tcp://127.0.0.1"


class Work(ABC):
    """One operation on one guest."""

    name: str
    abortable = True
    writes_memory = False
    """Whether it is held by its writer: then an abort ends it only once that goes on."""
    leaves_files = False
    """Whether libvirt leaves what it has written where it does not succeed."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.number = next(_numbers)
        self._held = ExitStack()

    @property
    def guest(self) -> Guest:
        """The guest that it changes."""
        return self.bed.keeper

    @abstractmethod
    async def begin(self, client: AsyncClient, options: t.JobOptions) -> AsyncJobHandle:
        """Send the verb."""

    @abstractmethod
    def hold(self, share: float) -> None:
        """Return once about this share of it is done: it does not end then before `let_go`. May be called before it has begun."""

    def let_go(self) -> None:
        """It may go on to its end."""
        self._held.close()

    @abstractmethod
    def done(self) -> bool:
        """Whether it was done, the whole of it, as libvirt shows it."""

    @abstractmethod
    def undone(self) -> bool:
        """Whether nothing of it was done: the guest runs on as before."""

    def left(self) -> list[Path]:
        """The files that it has written to and that are there."""
        return []

    @abstractmethod
    async def reset(self, client: AsyncClient) -> None:
        """Make what was done undone."""


def runs(guest: Guest) -> bool:
    """Whether a guest runs, with no job of any kind on it."""
    return bool(guest.state == libvirt.VIR_DOMAIN_RUNNING and guest.domain.jobStats().get("type", 0) == libvirt.VIR_DOMAIN_JOB_NONE)


class Save(Work):
    """ManagedSaveDomain."""

    name = "save"
    writes_memory = True

    async def begin(self, client: AsyncClient, options: t.JobOptions) -> AsyncJobHandle:
        return await client.managed_save_domain(self.guest.name, options=options)

    def hold(self, share: float) -> None:
        self._held.enter_context(held_writer_of("/keeper.save", written=int(share * FILL_MIB * MIB)))

    def done(self) -> bool:
        off = self.guest.domain.state() == [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED]
        return off and bool(self.guest.domain.hasManagedSaveImage()) and bool(self.guest.domain.managedSaveGetXMLDesc())

    def undone(self) -> bool:
        return runs(self.guest) and not self.guest.domain.hasManagedSaveImage()

    async def reset(self, client: AsyncClient) -> None:
        if self.guest.state == libvirt.VIR_DOMAIN_SHUTOFF:
            await (await client.start_domain(self.guest.name)).wait()
            assert self.guest.domain.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED]


class Migration(Work):
    """MigrateDomain, peer to peer, from the first host to the second."""

    name = "migration"

    @property
    def guest(self) -> Guest:
        return self.bed.mover

    async def begin(self, client: AsyncClient, options: t.JobOptions) -> AsyncJobHandle:
        settings = t.MigrationSettings(host="second", migrate_uri=DATA, bandwidth_bytes_per_second=PACE)
        return await client.migrate_domain(f"{FIRST}/{self.guest.name}", settings=settings, options=options)

    def hold(self, share: float) -> None:
        def sent() -> bool:
            stats = self.guest.domain.jobStats()
            return int(stats.get("memory_processed", 0)) >= share * FILL_MIB * MIB

        wait_until(sent, "the migration to get on")
        self.guest.domain.migrateSetMaxSpeed(CRAWL // MIB)

    def let_go(self) -> None:
        try:
            self.guest.domain.migrateSetMaxSpeed(1024)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                raise  # else it has ended, and the guest is off here

    def done(self) -> bool:
        moved = self.bed.moved()
        there = moved is not None and moved.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED]
        return bool(there and self.guest.state == libvirt.VIR_DOMAIN_SHUTOFF)

    def undone(self) -> bool:
        return self.bed.moved() is None and runs(self.guest)

    async def reset(self, client: AsyncClient) -> None:
        if (moved := self.bed.moved()) is not None:
            flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
            moved.migrateToURI3(self.bed.first.daemon.tcp_uri, {"migrate_uri": DATA}, flags)


class Copy(Work):
    """CopyBlock with PIVOT."""

    name = "copy"
    leaves_files = True

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed)
        self._before = top(bed.keeper)
        self._copy = bed.path / f"copy-{self.number}.qcow2"

    async def begin(self, client: AsyncClient, options: t.JobOptions) -> AsyncJobHandle:
        file = j.BlockCopyFile(path=str(self._copy), format="qcow2")
        request = j.CopyBlockRequest(disk="vda", file=file, finish=t.BLOCK_JOB_FINISH_PIVOT, bandwidth_bytes_per_second=PACE, transient_job=True)
        fields = {field.name: value for field, value in request.ListFields()}
        return await client.copy_block(self.guest.name, options=options, **fields)

    def hold(self, share: float) -> None:
        def copied() -> bool:
            return int(self.guest.domain.blockJobInfo("vda").get("cur", 0)) >= share * DISK_MIB * MIB

        wait_until(copied, "the copy to get on")
        self._set_speed(CRAWL)

    def let_go(self) -> None:
        if self.guest.domain.blockJobInfo("vda"):
            self._set_speed(0)

    def _set_speed(self, rate: int) -> None:
        self.guest.domain.blockJobSetSpeed("vda", rate, libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)

    def done(self) -> bool:
        return self._alone() and top(self.guest) == str(self._copy)

    def undone(self) -> bool:
        return self._alone() and top(self.guest) == self._before

    def _alone(self) -> bool:
        return runs(self.guest) and self.guest.domain.blockJobInfo("vda") == {} and xml_of(self.guest.domain).find("devices/disk/mirror") is None

    def left(self) -> list[Path]:
        return [self._copy] if self._copy.exists() else []

    async def reset(self, client: AsyncClient) -> None:
        Path(self._before if self.done() else self._copy).unlink(missing_ok=True)


class Snapshot(Work):
    """CreateSnapshot with memory in a file of its own."""

    name = "snapshot"
    writes_memory = True

    def __init__(self, bed: Bed) -> None:
        super().__init__(bed)
        self._before = top(bed.keeper)
        self._name = f"snapshot-{self.number}"
        self._memory, self._overlay = bed.path / f"memory-{self.number}", bed.path / f"overlay-{self.number}.qcow2"

    async def begin(self, client: AsyncClient, options: t.JobOptions) -> AsyncJobHandle:
        return await client.create_snapshot(self.guest.name, definition=self._definition(), options=options)

    def _definition(self) -> j.SnapshotDefinition:
        outside = j.SNAPSHOT_LOCATION_EXTERNAL
        disk = j.SnapshotDisk(device="vda", location=outside, path=str(self._overlay))
        return j.SnapshotDefinition(name=self._name, memory_location=outside, memory_path=str(self._memory), disks=[disk])

    def hold(self, share: float) -> None:
        self._held.enter_context(held_writer_of(str(self._memory), written=int(share * FILL_MIB * MIB)))

    def done(self) -> bool:
        return self._snapshots() == [self._name] and runs(self.guest) and top(self.guest) == str(self._overlay)

    def undone(self) -> bool:
        return self._snapshots() == [] and runs(self.guest) and top(self.guest) == self._before

    def _snapshots(self) -> list[str]:
        return [snapshot.getName() for snapshot in self.guest.domain.listAllSnapshots()]

    def left(self) -> list[Path]:
        return [path for path in (self._memory, self._overlay) if path.exists()]

    async def reset(self, client: AsyncClient) -> None:
        if self.done():
            self.guest.domain.snapshotLookupByName(self._name).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
            self._commit()
        for path in (self._memory, self._overlay):
            path.unlink(missing_ok=True)

    def _commit(self) -> None:
        self.guest.domain.blockCommit("vda", None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)

        def pivoted() -> bool:
            try:
                self.guest.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_BLOCK_COPY_ACTIVE:
                    raise
                return False
            return True

        wait_until(pivoted, "the overlay to be committed")


class InternalSnapshot(Snapshot):
    """CreateSnapshot of memory and disk inside the image: libvirt neither tells of its progress nor aborts it."""

    name = "internal snapshot"
    abortable = False
    writes_memory = False

    def _definition(self) -> j.SnapshotDefinition:
        return j.SnapshotDefinition(name=self._name, memory_location=j.SNAPSHOT_LOCATION_INTERNAL)

    def hold(self, share: float) -> None:
        """Nothing holds it: it is left the time that it has taken for that share."""
        wait_until(lambda: self._snapshots() or self.guest.state == libvirt.VIR_DOMAIN_PAUSED, "the snapshot to begin")
        time.sleep(share * 0.2)

    def done(self) -> bool:
        return self._snapshots() == [self._name] and runs(self.guest) and top(self.guest) == self._before

    async def reset(self, client: AsyncClient) -> None:
        if self.done():
            self.guest.domain.snapshotLookupByName(self._name).delete()


def top(guest: Guest) -> str:
    """The file that a guest's disk is written to."""
    source = xml_of(guest.domain).find("devices/disk/source")
    assert source is not None
    return source.get("file", "")


def cancelling(guest: Guest) -> bool:
    """Whether QEMU has been told to give up what it is writing."""
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(guest.domain, '{"execute": "query-migrate"}', 0))
    return str(answer["return"].get("status")).startswith("cancel")


WORKS: dict[str, tuple[type[Work], ...]] = {"save": (Save,), "migration": (Migration,), "copy": (Copy,), "snapshot": (Snapshot, InternalSnapshot)}
"""The operations by the name of what is done; where there are several ways, they take turns."""
