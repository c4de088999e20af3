"""Block jobs on real QEMU guests with real chains of images: what each did is read back by libvirt and qemu-img, past virtrpc."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.beds.domain import Disk
from tests.beds.listener import listening
from tests.e2e.server import Guest, QemuHost, ended, eventually, xml_of
from virtrpc import AsyncClient, AsyncJobHandle, Cancelled, InvalidArgument, NotFound, NotReady, OperationFailed, Preempted, VirtrpcError, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
PIVOT, STOP, WAIT = t.BLOCK_JOB_FINISH_PIVOT, t.BLOCK_JOB_FINISH_STOP, t.BLOCK_JOB_FINISH_WAIT
SLOW = MIB
"""Bytes a second at which nothing here comes to its end by itself."""


def qemu_img(*words: str | Path) -> str:
    """What qemu-img prints."""
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def info(path: Path) -> dict[str, Any]:
    """An image as qemu-img sees it, though a guest has it."""
    seen: dict[str, Any] = json.loads(qemu_img("info", "-U", "--output=json", path))
    return seen


@contextmanager
def chained(host: QemuHost, name: str, layers: int = 3) -> Iterator[tuple[Guest, list[Path]]]:
    """A guest whose disk has so many images, 32 MiB written to each; the lowest first."""
    paths = [host.daemon.path / f"{name}-{number}.qcow2" for number in range(layers)]
    for number, path in enumerate(paths):
        backing: list[str | Path] = ["-b", paths[number - 1], "-F", "qcow2"] if number else []
        qemu_img("create", "-q", "-f", "qcow2", *backing, path, "256M")
        subprocess.run(["qemu-io", "-c", f"write -P {number + 1} {64 * number}M 32M", str(path)], check=True, capture_output=True)
    try:
        with host.guest(name=name, disks=[Disk(paths[-1])], agent=False, ready=False) as guest:
            yield guest, paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def images(guest: Guest) -> list[str]:
    """The files of the disk's chain, as libvirt has it."""
    disk = xml_of(guest.domain).find("devices/disk")
    assert disk is not None
    return [source.get("file", "") for source in disk.iter("source") if "mirror" not in source.get("file", "")]


async def phase(handle: AsyncJobHandle, wanted: t.JobPhase.ValueType) -> t.Job:
    """The job once it is in a phase."""
    async for job in handle:
        assert job.state in (t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING), job.error
        if job.phase == wanted:
            return job
    raise AssertionError("it ended")


async def test_pull_block(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A pull fills the active image and drops what was under it; with a base, that stays; it reports bytes."""
    with chained(qemu_host, "pull") as (guest, paths):
        job = await ended(client.pull_block(guest.name, disk="vda", base=str(paths[0])))
        assert images(guest) == [str(paths[2]), str(paths[0])]
        assert info(paths[2])["backing-filename"] == str(paths[0])
        job = await ended(client.pull_block(guest.name, disk="vda"))
        assert (job.block_job_result.disk, job.block_job_result.path) == ("vda", str(paths[2]))
        assert images(guest) == [str(paths[2])]
        assert "backing-filename" not in info(paths[2])
        assert info(paths[2])["actual-size"] > 90 * MIB


async def test_pull_is_watched_slowed_and_cancelled(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A slow pull shows progress and leaves its domain free; its speed is set; a cancel ends the very job and the chain stays."""
    with chained(qemu_host, "slow") as (guest, _):
        before = images(guest)
        handle = await client.pull_block(guest.name, disk="vda", bandwidth_bytes_per_second=SLOW)
        job = await phase(handle, t.JOB_PHASE_BACKGROUND)
        assert (job.block_job.disk, job.abortable) == ("vda", True)
        await ended(client.suspend_domain(guest.name, options=t.JobOptions()))
        await ended(client.resume_domain(guest.name))
        await client.set_job_speed(job_id=job.job_id, bandwidth_bytes_per_second=2 * SLOW)
        assert guest.domain.blockJobInfo("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)["bandwidth"] == 2 * SLOW
        await eventually(lambda: client.get_job(job_id=job.job_id), "the job")

        async def moved() -> bool:
            progress = (await client.get_job(job_id=job.job_id)).progress
            return progress.total_bytes > 0 and 0 < progress.processed_bytes < progress.total_bytes and progress.rate_bytes_per_second > 0

        await eventually(moved, "progress")
        with pytest.raises(InvalidArgument):
            await client.finish_block_job(job_id=job.job_id)
        await handle.cancel()
        with pytest.raises(Cancelled):
            await handle.wait()
        assert guest.domain.blockJobInfo("vda") == {}
        assert images(guest) == before


async def test_copy_is_pivoted_by_itself(client: AsyncClient, qemu_host: QemuHost) -> None:
    """With PIVOT the guest goes on in the copy, which has what the disk had."""
    with chained(qemu_host, "pivot") as (guest, paths):
        copy = qemu_host.daemon.path / "pivot-copy.qcow2"
        file = j.BlockCopyFile(path=str(copy), format="qcow2")
        job = await ended(client.copy_block(guest.name, disk="vda", file=file, finish=PIVOT, transient_job=True))
        assert (job.block_job_result.finish, job.block_job_result.path) == (PIVOT, str(copy))
        assert images(guest) == [str(copy)]
        guest.domain.destroy()
        assert "identical" in qemu_img("compare", copy, paths[2])


async def test_copy_waits_and_is_finished(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A mirror is READY until it is told: STOP leaves the guest where it was with a whole copy, PIVOT moves it; before READY it is refused."""
    with chained(qemu_host, "wait") as (guest, paths):
        first, second = (qemu_host.daemon.path / f"wait-copy-{number}.qcow2" for number in (1, 2))
        handle = await client.copy_block(
            guest.name, disk="vda", file=j.BlockCopyFile(path=str(first), format="qcow2"), bandwidth_bytes_per_second=SLOW, transient_job=True
        )
        job = await phase(handle, t.JOB_PHASE_BACKGROUND)
        with pytest.raises(NotReady):
            await client.finish_block_job(job_id=job.job_id)
        await client.set_job_speed(job_id=job.job_id, bandwidth_bytes_per_second=0)
        await phase(handle, t.JOB_PHASE_READY)
        await client.finish_block_job(job_id=job.job_id, finish=STOP)
        assert (await handle.wait()).block_job_result.finish == STOP
        assert images(guest)[0] == str(paths[2])
        assert "identical" in qemu_img("compare", "-U", first, paths[2])
        handle = await client.copy_block(guest.name, disk="vda", file=j.BlockCopyFile(path=str(second), format="qcow2"), transient_job=True)
        job = await phase(handle, t.JOB_PHASE_READY)
        await client.finish_block_job(job_id=job.job_id)
        assert (await handle.wait()).block_job_result.finish == PIVOT
        assert images(guest) == [str(second)]
        with pytest.raises(NotReady):
            await client.finish_block_job(job_id=job.job_id)


async def test_commit_block(client: AsyncClient, qemu_host: QemuHost) -> None:
    """An inner layer is committed into the base and dropped; then the active one, and the guest goes on in the base by itself."""
    with chained(qemu_host, "commit") as (guest, paths):
        await ended(client.commit_block(guest.name, disk="vda", base=str(paths[0]), top=str(paths[1])))
        assert images(guest) == [str(paths[2]), str(paths[0])]
        job = await ended(client.commit_block(guest.name, disk="vda"))
        assert (job.block_job_result.finish, job.block_job_result.path) == (PIVOT, str(paths[0]))
        assert images(guest) == [str(paths[0])]


HOST = "<host transport='unix' socket='{}'/>"


@pytest.mark.parametrize("kind", ["network", "file"])
async def test_copy_to_a_socket_outside(client: AsyncClient, qemu_host: QemuHost, tmp_path: Path, kind: str) -> None:
    """A copy that would go out by a socket is refused, with what to name instead; nobody connects, and no block job is begun."""
    xml = f"<disk type='{kind}'><driver type='raw'/><source protocol='nbd' name='x'>{HOST.format(tmp_path / 'socket')}</source></disk>"
    with chained(qemu_host, f"out-{kind}", layers=1) as (guest, paths):
        async with listening(tmp_path / "socket") as reached:
            with pytest.raises(InvalidArgument, match="name a file or block device below") as caught:
                await ended(client.copy_block(guest.name, disk="vda", xml=xml, transient_job=True, reuse_external=True))
            assert caught.value.reason == "PATH_NOT_ALLOWED"
            assert reached == []
        assert guest.domain.blockJobInfo("vda") == {}
        assert images(guest) == [str(paths[0])]


async def test_refusals(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A disk that is not there, a path outside the roots, a domain that is off, and an unknown base."""
    with chained(qemu_host, "refused", layers=1) as (guest, _):
        with pytest.raises(NotFound):
            await ended(client.pull_block(guest.name, disk="vdz"))
        with pytest.raises(VirtrpcError) as caught:
            await ended(client.copy_block(guest.name, disk="vda", file=j.BlockCopyFile(path="/etc/copy")))
        assert caught.value.reason == "PATH_NOT_ALLOWED"
        with pytest.raises(InvalidArgument):
            await ended(client.pull_block(guest.name, disk="vda", base="/nowhere/base"))
        with pytest.raises(InvalidArgument):
            await ended(client.copy_block(guest.name, disk="vda"))
        guest.domain.destroy()
        qemu_host.wait_known(guest)
        with pytest.raises(WrongState):
            await ended(client.commit_block(guest.name, disk="vda"))


async def test_foreign_block_job(client: AsyncClient, qemu_host: QemuHost) -> None:
    """Another's block job on the disk is waited for, named, and never hit by a cancel."""
    with chained(qemu_host, "foreign") as (guest, _):
        guest.domain.blockPull("vda", SLOW, libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES)
        handle = await client.pull_block(guest.name, disk="vda")

        async def blocked() -> bool:
            job = await client.get_job(job_id=handle.job_id)
            return job.waiting_for == t.JOB_WAITING_FOR_BLOCKED_BY_OTHER and "block pull" in job.holders[0].foreign_text

        await eventually(blocked, "the job to say who is in the way")
        await handle.cancel()
        with pytest.raises(Cancelled):
            await handle.wait()
        assert guest.domain.blockJobInfo("vda")
        handle = await client.pull_block(guest.name, disk="vda")
        guest.domain.blockJobAbort("vda")
        await handle.wait()
        assert len(images(guest)) == 1


async def test_guest_that_ends(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A destroy preempts the block job; a guest that ends by itself fails it."""
    with chained(qemu_host, "ends") as (guest, _):
        handle = await client.pull_block(guest.name, disk="vda", bandwidth_bytes_per_second=SLOW)
        await phase(handle, t.JOB_PHASE_BACKGROUND)
        await ended(client.destroy_domain(guest.name))
        with pytest.raises(Preempted):
            await handle.wait()
        guest.start(ready=False)
        qemu_host.wait_known(guest)
        handle = await client.pull_block(guest.name, disk="vda", bandwidth_bytes_per_second=SLOW)
        await phase(handle, t.JOB_PHASE_BACKGROUND)
        guest.domain.destroy()
        with pytest.raises(OperationFailed, match="guest ended"):
            await handle.wait()


async def test_full_destination(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A copy to a file system that is full fails, and the guest goes on with its disk."""
    small = qemu_host.daemon.path / "small-copies"
    small.mkdir()
    qemu_host.daemon.inside("mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", str(small))
    try:
        with chained(qemu_host, "full-copy") as (guest, paths):
            with pytest.raises(OperationFailed):
                await ended(
                    client.copy_block(guest.name, disk="vda", file=j.BlockCopyFile(path=str(small / "copy"), format="qcow2"), transient_job=True)
                )
            assert images(guest)[0] == str(paths[2])
    finally:
        qemu_host.daemon.inside("umount", "-l", str(small))


async def test_driver_process_is_lost(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A block job outlives its driver process: it is adopted, shown, finished, and SUCCEEDED."""
    with chained(qemu_host, "lost") as (guest, _):
        copy = qemu_host.daemon.path / "lost-copy.qcow2"
        file = j.BlockCopyFile(path=str(copy), format="qcow2")
        handle = await client.copy_block(guest.name, disk="vda", file=file, bandwidth_bytes_per_second=SLOW, transient_job=True)
        job = await phase(handle, t.JOB_PHASE_BACKGROUND)
        old = (await client.get_host(host=qemu_host.name)).driver_process.pid
        subprocess.run(["kill", f"-{signal.SIGKILL}", str(old)], check=True)

        async def steered() -> bool:
            try:
                await client.set_job_speed(job_id=job.job_id, bandwidth_bytes_per_second=0)
            except VirtrpcError:
                return False
            return True

        await eventually(steered, "the new driver process to follow it")
        await phase(handle, t.JOB_PHASE_READY)
        await client.finish_block_job(job_id=job.job_id)
        assert (await handle.wait()).block_job_result.path == str(copy)
        assert images(guest) == [str(copy)]
