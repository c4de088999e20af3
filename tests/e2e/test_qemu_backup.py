"""Backups of real QEMU guests: what each wrote, or serves, is read by qemu-img past virtrpc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.beds.domain import Disk
from tests.e2e.server import Guest, QemuHost, ended, eventually
from virtrpc import (
    AlreadyExists,
    AsyncClient,
    AsyncJobHandle,
    Cancelled,
    Interrupted,
    InvalidArgument,
    NotFound,
    NotReady,
    OperationFailed,
    Preempted,
    VirtrpcError,
    WrongState,
)
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
STOP = t.BLOCK_JOB_FINISH_STOP
PULL = t.BACKUP_MODE_PULL


def qemu_img(*words: str | Path) -> str:
    """What qemu-img prints."""
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def written(image: str | Path) -> dict[str, Any]:
    """An image as qemu-img sees it."""
    seen: dict[str, Any] = json.loads(qemu_img("info", "--output=json", image))
    return seen


def fill(path: Path, gib: int, mib: int) -> None:
    """Write so much, from that place on, to an image that no guest has."""
    subprocess.run(["qemu-io", "-c", f"write -P 7 {gib}G {mib}M", str(path)], check=True, capture_output=True)


@contextmanager
def with_disk(host: QemuHost, name: str, mib: int = 64) -> Iterator[tuple[Guest, Path, Path]]:
    """A guest whose disk has so much written to it, that disk, and a directory for backups."""
    disk, directory = host.daemon.path / f"{name}.qcow2", host.daemon.path / f"{name}-backups"
    qemu_img("create", "-q", "-f", "qcow2", disk, "4G")
    for gib in range(mib // 1024 or 1):
        fill(disk, gib, min(mib, 1024))
    directory.mkdir()
    try:
        with host.guest(name=name, disks=[Disk(disk)], agent=False, ready=False) as guest:
            yield guest, disk, directory
    finally:
        disk.unlink()


def push(path: Path, **more: Any) -> j.BackupDefinition:
    """A backup of vda to a file."""
    return j.BackupDefinition(disks=[t.BackupDisk(device="vda", path=str(path))], **more)


def pull(directory: Path) -> j.BackupDefinition:
    """A backup of vda that is served at a socket."""
    return j.BackupDefinition(
        mode=PULL,
        disks=[t.BackupDisk(device="vda", path=str(directory / "scratch"))],
        server=t.BackupServer(socket=str(directory / "nbd")),
    )


async def phase(handle: AsyncJobHandle, wanted: t.JobPhase.ValueType) -> t.Job:
    """The job once it is in a phase."""
    async for job in handle:
        assert job.state in (t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING), job.error
        if job.phase == wanted:
            return job
    raise AssertionError("it ended")


async def test_push(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A full backup is the disk as it was; with a checkpoint, the next one has only what was written since; a file that is there stays."""
    with with_disk(qemu_host, "pushed") as (guest, disk, directory):
        job = await ended(client.backup_domain(guest.name, definition=push(directory / "full"), checkpoint=j.CheckpointDefinition(name="one")))
        assert job.backup_domain_result.checkpoint.name == "one"
        assert [(found.device, found.path, found.format) for found in job.backup.disks] == [("vda", str(directory / "full"), "qcow2")]
        assert guest.domain.checkpointLookupByName("one").getName() == "one"
        with pytest.raises(AlreadyExists):
            await ended(client.backup_domain(guest.name, definition=push(directory / "full")))
        with pytest.raises(AlreadyExists):
            await ended(client.backup_domain(guest.name, definition=push(directory / "other"), checkpoint=j.CheckpointDefinition(name="one")))
        await ended(client.backup_domain(guest.name, definition=push(directory / "since", incremental="one")))
        guest.domain.destroy()
        assert "identical" in qemu_img("compare", directory / "full", disk)
        assert written(directory / "full")["actual-size"] > 60 * MIB
        assert written(directory / "since")["actual-size"] < MIB


async def test_pull(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A pull serves the disk as it was until it is told that it was fetched; while it does, changes go on, and saves wait for it by name."""
    with with_disk(qemu_host, "pulled") as (guest, disk, directory):
        handle = await client.backup_domain(guest.name, definition=pull(directory))
        job = await phase(handle, t.JOB_PHASE_READY)
        assert job.backup.mode == PULL
        assert job.backup.server.socket == str(directory / "nbd")
        assert "nbd" in guest.domain.backupGetXMLDesc(0)
        fetch(job.backup, directory / "fetched")
        await ended(client.suspend_domain(guest.name))
        await ended(client.resume_domain(guest.name))
        save = await client.managed_save_domain(guest.name)

        async def waits() -> bool:
            return [holder.job_id for holder in (await client.get_job(job_id=save.job_id)).holders] == [job.job_id]

        await eventually(waits, "the save to wait for the backup")
        with pytest.raises(InvalidArgument):
            await client.finish_block_job(job_id=job.job_id)
        with pytest.raises(InvalidArgument):
            await client.set_job_speed(job_id=job.job_id, bandwidth_bytes_per_second=MIB)
        await client.finish_block_job(job_id=job.job_id, finish=STOP)
        await handle.wait()
        await save.wait()
        assert "identical" in qemu_img("compare", directory / "fetched", disk)
        assert not (directory / "scratch").exists()
        with pytest.raises(NotReady):
            await client.finish_block_job(job_id=job.job_id, finish=STOP)


def fetch(backup: t.Backup, to: Path) -> Path:
    """A copy of the first disk that a pull serves."""
    qemu_img("convert", "-O", "qcow2", f"nbd+unix:///{backup.disks[0].export_name}?socket={backup.server.socket}", to)
    return to


async def test_freeze_backup_thaw(client: AsyncClient, qemu_host: QemuHost, tmp_path: Path) -> None:
    """On one guest, in that order: it is frozen, the backup begins, it is thawed while that goes on, and the backup is the disk as frozen."""
    directory = qemu_host.daemon.path / "frozen-backups"
    directory.mkdir()
    with qemu_host.guest(name="frozen", disk_mib=32, mount_disk=True) as guest:
        assert guest.disk is not None
        guest.wait_for_agent()
        assert (await ended(client.freeze_filesystems(guest.name))).filesystems_result.filesystems == 1
        handle = await client.backup_domain(guest.name, definition=pull(directory))
        job = await phase(handle, t.JOB_PHASE_READY)
        assert guest.agent("guest-fsfreeze-status") == "frozen"
        assert "identical" in qemu_img("compare", "-U", fetch(job.backup, tmp_path / "before"), guest.disk.path)
        await ended(client.thaw_filesystems(guest.name))
        assert guest.agent("guest-fsfreeze-status") == "thawed"
        assert (await client.get_job(job_id=job.job_id)).state == t.JOB_STATE_RUNNING
        assert "identical" in qemu_img("compare", fetch(job.backup, tmp_path / "after"), tmp_path / "before")
        await client.finish_block_job(job_id=job.job_id, finish=STOP)
        await handle.wait()


async def test_ends_before_its_time(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A push is cancelled and leaves no file, a pull is cancelled, a destroy preempts one, and a guest that ends by itself fails it."""
    with with_disk(qemu_host, "ended", mib=1024) as (guest, _, directory):
        handle = await client.backup_domain(guest.name, definition=push(directory / "full"))
        job = await phase(handle, t.JOB_PHASE_BACKGROUND)
        assert job.abortable
        await handle.cancel()
        with pytest.raises(Cancelled):
            await handle.wait()
        assert not (directory / "full").exists()
        handle = await client.backup_domain(guest.name, definition=pull(directory))
        await phase(handle, t.JOB_PHASE_READY)
        await handle.cancel()
        with pytest.raises(Cancelled):
            await handle.wait()
        handle = await client.backup_domain(guest.name, definition=pull(directory))
        await phase(handle, t.JOB_PHASE_READY)
        await ended(client.destroy_domain(guest.name))
        with pytest.raises(Preempted):
            await handle.wait()
        guest.start(ready=False)
        qemu_host.wait_known(guest)
        handle = await client.backup_domain(guest.name, definition=pull(directory))
        await phase(handle, t.JOB_PHASE_READY)
        guest.domain.destroy()
        with pytest.raises(OperationFailed, match="guest ended"):
            await handle.wait()


async def test_refusals(client: AsyncClient, qemu_host: QemuHost) -> None:
    """What is missing or not allowed is refused before there is a job; what is not there, or busy, or full, is told by name."""
    with with_disk(qemu_host, "refused") as (guest, _, directory):
        open_to_all = t.BackupServer(tcp=t.BackupEndpoint(host="0.0.0.0", port=10809))  # refused: that is the point
        for definition in (
            j.BackupDefinition(),
            j.BackupDefinition(disks=[t.BackupDisk(device="vda")]),
            push(Path("relative")),
            j.BackupDefinition(mode=PULL, disks=[t.BackupDisk(device="vda", path=str(directory / "s"))]),
            j.BackupDefinition(mode=PULL, disks=[t.BackupDisk(device="vda", path=str(directory / "s"))], server=open_to_all),
        ):
            with pytest.raises(InvalidArgument):
                await ended(client.backup_domain(guest.name, definition=definition))
        with pytest.raises(InvalidArgument, match="/etc/copy"):
            await ended(client.backup_domain(guest.name, definition=push(Path("/etc/copy"))))
        with pytest.raises(InvalidArgument):
            await ended(client.backup_domain(guest.name, xml="<domainbackup/>"))
        with pytest.raises(NotFound) as caught:
            await ended(client.backup_domain(guest.name, definition=push(directory / "a", incremental="none")))
        assert caught.value.reason == "CHECKPOINT_NOT_FOUND"
        disks = [t.BackupDisk(device="vdz", path=str(directory / "a"))]
        with pytest.raises(NotFound) as caught:
            await ended(client.backup_domain(guest.name, definition=j.BackupDefinition(disks=disks)))
        assert caught.value.reason == "DEVICE_NOT_FOUND"
        guest.domain.blockCopy(
            "vda", f"<disk type='file'><source file='{directory / 'mirror'}'/></disk>", {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        )
        handle = await client.backup_domain(guest.name, definition=push(directory / "a"))

        async def blocked() -> bool:
            job = await client.get_job(job_id=handle.job_id)
            return job.waiting_for == t.JOB_WAITING_FOR_BLOCKED_BY_OTHER and "block copy" in job.holders[0].foreign_text

        await eventually(blocked, "the job to say who is in the way")
        guest.domain.blockJobAbort("vda")
        await handle.wait()
        small = directory / "small"
        small.mkdir()
        qemu_host.daemon.inside("mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", str(small))
        try:
            with pytest.raises(OperationFailed, match="No space left"):
                await ended(client.backup_domain(guest.name, definition=push(small / "full")))
        finally:
            qemu_host.daemon.inside("umount", "-l", str(small))
        guest.domain.destroy()
        qemu_host.wait_known(guest)
        with pytest.raises(WrongState):
            await ended(client.backup_domain(guest.name, definition=push(directory / "b")))


async def test_driver_process_is_lost(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A pull outlives its driver process: it is adopted, shown, finished, and SUCCEEDED with its checkpoint."""
    with with_disk(qemu_host, "adopted") as (guest, _, directory):
        handle = await client.backup_domain(guest.name, definition=pull(directory), checkpoint=j.CheckpointDefinition(name="one"))
        job = await phase(handle, t.JOB_PHASE_READY)
        old = (await client.get_host(host=qemu_host.name)).driver_process.pid
        subprocess.run(["kill", f"-{signal.SIGKILL}", str(old)], check=True)

        async def finished() -> bool:
            try:
                await client.finish_block_job(job_id=job.job_id, finish=STOP)
            except VirtrpcError:
                return False
            return True

        await eventually(finished, "the new driver process to follow it")
        assert (await handle.wait()).backup_domain_result.checkpoint.name == "one"


async def test_a_call_that_never_reached_libvirt_is_not_proven(client: AsyncClient, qemu_host: QemuHost) -> None:
    """Its driver process is killed with the call in its hands: the statistics of the backup before it do not make it a success."""
    with with_disk(qemu_host, "unsent") as (guest, _, directory):
        await ended(client.backup_domain(guest.name, definition=push(directory / "first")))
        old = (await client.get_host(host=qemu_host.name)).driver_process.pid
        os.kill(old, signal.SIGSTOP)
        handle = await client.backup_domain(guest.name, definition=push(directory / "second"))

        async def sent() -> bool:
            return (await client.get_job(job_id=handle.job_id)).state == t.JOB_STATE_RUNNING

        await eventually(sent, "the call to be sent")
        os.kill(old, signal.SIGKILL)
        with pytest.raises(Interrupted):
            await handle.wait()
        assert not (directory / "second").exists()


async def test_it_takes_the_slots_of_its_disks(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A block job on a disk that is backed up waits and names the backup; to detach the disk waits too; a socket where a file stands is refused."""
    with with_disk(qemu_host, "slots") as (guest, _, directory):
        (directory / "nbd").write_text("precious")
        with pytest.raises(AlreadyExists):
            await ended(client.backup_domain(guest.name, definition=pull(directory)))
        assert (directory / "nbd").read_text() == "precious"
        (directory / "nbd").unlink()
        backup = await client.backup_domain(guest.name, definition=pull(directory))
        await phase(backup, t.JOB_PHASE_READY)
        block_pull = await client.pull_block(guest.name, disk="vda")

        async def waits() -> bool:
            return [holder.job_id for holder in (await client.get_job(job_id=block_pull.job_id)).holders] == [backup.job_id]

        await eventually(waits, "the block job to wait for the backup")
        detach = await client.detach_device(guest.name, alias="virtio-disk0")

        async def blocked() -> bool:
            return (await client.get_job(job_id=detach.job_id)).waiting_for == t.JOB_WAITING_FOR_BLOCKED_BY_OTHER

        await eventually(blocked, "the disk to be busy")
        await detach.cancel()
        await client.finish_block_job(job_id=backup.job_id, finish=STOP)
        await backup.wait()
        await block_pull.wait()
