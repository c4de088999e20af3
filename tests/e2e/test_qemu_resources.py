"""What a guest may use of its host, on a real QEMU guest: read back through libvirt, past virtrpc.

The private libvirtd has no cgroups (two daemons would share them): what QEMU needs them for is refused there, and shown on containers by the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.server import Guest, QemuHost, ended, eventually, running
from virtrpc import AsyncClient, InvalidArgument, OperationFailed, Unsupported, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import resources_pb2 as r
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
CONFIG, LIVE, BOTH = t.CHANGE_SCOPE_CONFIG, t.CHANGE_SCOPE_LIVE, t.CHANGE_SCOPE_BOTH
STORED = libvirt.VIR_DOMAIN_AFFECT_CONFIG
UNLIMITED_KIB = 9_007_199_254_740_991


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that all tests here share."""
    with qemu_host.guest(name="uses", disk_mib=16, max_vcpus=3) as guest:
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


async def test_memory_parameters(client: AsyncClient, guest: Guest) -> None:
    """Limits of memory are stored in KiB, rounded up, told again in bytes, and taken away; limits in the wrong order are refused."""
    wanted = r.MemoryParameters(hard_limit_bytes=512 * MIB + 1, swap_hard_limit_bytes=1024 * MIB)
    await ended(client.set_memory_parameters(guest.name, memory=wanted, scope=CONFIG))
    found = guest.domain.memoryParameters(STORED)
    assert (found["hard_limit"], found["soft_limit"], found["swap_hard_limit"]) == (512 * 1024 + 1, UNLIMITED_KIB, 1024 * 1024)
    told = (await client.get_resource_parameters(guest.name, scope=CONFIG)).memory
    assert (told.hard_limit_bytes, told.soft_limit_bytes) == (512 * MIB + 1024, 0)
    with pytest.raises(InvalidArgument):
        await ended(client.set_memory_parameters(guest.name, memory=r.MemoryParameters(swap_hard_limit_bytes=MIB), scope=CONFIG))
    none = r.MemoryParameters(hard_limit_bytes=0, swap_hard_limit_bytes=0)
    await ended(client.set_memory_parameters(guest.name, memory=none, scope=CONFIG))
    assert set(guest.domain.memoryParameters(STORED).values()) == {UNLIMITED_KIB}
    for wrong in (r.MemoryParameters(), r.MemoryParameters(hard_limit_bytes=-1)):
        with pytest.raises(InvalidArgument):
            await ended(client.set_memory_parameters(guest.name, memory=wrong, scope=CONFIG))


async def test_numa_parameters(client: AsyncClient, guest: Guest) -> None:
    """Mode and nodes are stored; the running guest's are another answer, and both at once are none."""
    wanted = r.NumaParameters(mode=r.NUMA_MODE_PREFERRED, nodes=[0])
    await ended(client.set_numa_parameters(guest.name, numa=wanted, scope=CONFIG))
    assert guest.domain.numaParameters(STORED) == {"numa_mode": libvirt.VIR_DOMAIN_NUMATUNE_MEM_PREFERRED, "numa_nodeset": "0"}
    assert (await client.get_resource_parameters(guest.name, scope=CONFIG)).numa == wanted
    assert (await client.get_resource_parameters(guest.name, scope=LIVE)).numa == r.NumaParameters(mode=r.NUMA_MODE_STRICT)
    with pytest.raises(InvalidArgument):
        await client.get_resource_parameters(guest.name, scope=BOTH)
    for wrong in (r.NumaParameters(), r.NumaParameters(nodes=[-1])):
        with pytest.raises(InvalidArgument):
            await ended(client.set_numa_parameters(guest.name, numa=wrong, scope=CONFIG))


async def test_blkio_parameters(client: AsyncClient, guest: Guest) -> None:
    """A weight and a device's limits are stored, and told again; what could be taken for something else is refused."""
    device = r.BlkioDevice(path="/dev/vda", weight=200, read_bytes_per_second=MIB, write_operations_per_second=7)
    await ended(client.set_blkio_parameters(guest.name, blkio=r.BlkioParameters(weight=300, devices=[device]), scope=CONFIG))
    found = guest.domain.blkioParameters(STORED)
    assert (found["weight"], found["device_weight"], found["device_read_bytes_sec"]) == (300, "/dev/vda,200", f"/dev/vda,{MIB}")
    assert (found["device_write_iops_sec"], found["device_read_iops_sec"]) == ("/dev/vda,7", "")
    told = (await client.get_resource_parameters(guest.name, scope=CONFIG)).blkio
    assert told == r.BlkioParameters(weight=300, devices=[device])
    path = "/dev/vda,1,/dev/vdb"
    for devices in (
        [],
        [device, device],
        [r.BlkioDevice(path=path, weight=200)],
        [r.BlkioDevice(path="/dev/vda")],
        [r.BlkioDevice(path="vda", weight=9)],
    ):
        with pytest.raises(InvalidArgument):
            await ended(client.set_blkio_parameters(guest.name, blkio=r.BlkioParameters(devices=devices), scope=CONFIG))


async def test_scheduler_parameters(client: AsyncClient, guest: Guest) -> None:
    """What needs cgroups is refused as what the machine lacks, and the group is not told; what makes no sense is refused before."""
    half = r.SchedulerParameters(vcpu_period=Duration(nanos=100_000_000), vcpu_quota=Duration(nanos=50_000_000))
    for scope in (LIVE, CONFIG):
        with pytest.raises(Unsupported):
            await ended(client.set_scheduler_parameters(guest.name, scheduler=half, scope=scope))
    for scope in (LIVE, BOTH):
        with pytest.raises(Unsupported):
            await ended(client.set_memory_parameters(guest.name, memory=r.MemoryParameters(hard_limit_bytes=512 * MIB), scope=scope))
    # What the running guest does not take is not stored either.
    assert guest.domain.memoryParameters(STORED)["hard_limit"] == UNLIMITED_KIB
    told = await client.get_resource_parameters(guest.name)
    assert [told.HasField(group) for group in ("scheduler", "memory", "numa", "blkio")] == [False, False, True, False]
    for wrong in (
        r.SchedulerParameters(),
        r.SchedulerParameters(cpu_shares=0),
        r.SchedulerParameters(vcpu_period=Duration(seconds=2)),
        r.SchedulerParameters(vcpu_quota=Duration(nanos=1)),
    ):
        with pytest.raises(InvalidArgument):
            await ended(client.set_scheduler_parameters(guest.name, scheduler=wrong))


async def test_io_thread_parameters(client: AsyncClient, guest: Guest, direct: libvirt.virConnect) -> None:
    """How long a running guest's thread for disks looks for work is set; nothing at all, and another thread, are refused."""
    await ended(client.add_io_thread(guest.name, number=5, scope=LIVE))
    await ended(
        client.set_io_thread_parameters(guest.name, number=5, poll_max=Duration(nanos=4000), poll_grow=3, helper_threads_maximum=4, scope=LIVE)
    )
    ((_, found),) = direct.domainListGetStats([guest.domain], libvirt.VIR_DOMAIN_STATS_IOTHREAD)
    assert (found["iothread.5.poll-max-ns"], found["iothread.5.poll-grow"]) == (4000, 3)
    for wrong in (
        client.set_io_thread_parameters(guest.name, number=5),
        client.set_io_thread_parameters(guest.name, number=6, poll_grow=1),
        client.set_io_thread_parameters(guest.name, number=5, poll_grow=-1),
    ):
        with pytest.raises(InvalidArgument):
            await ended(wrong)
    await ended(client.delete_io_thread(guest.name, number=5, scope=LIVE))


async def test_set_vcpu(client: AsyncClient, guest: Guest) -> None:
    """A virtual CPU is plugged into a running guest by its number; twice, and one that it does not have, are refused."""
    await ended(client.set_vcpu(guest.name, vcpus=[2], enabled=True, scope=LIVE))
    assert [row[0] for row in guest.domain.vcpus()[0]] == [0, 2]
    for numbers in ([2], [7], []):
        with pytest.raises(InvalidArgument):
            await ended(client.set_vcpu(guest.name, vcpus=numbers, enabled=True, scope=LIVE))
    with pytest.raises(Unsupported):
        await ended(client.set_vcpu(guest.name, vcpus=[0], enabled=False, scope=LIVE))


async def test_block_threshold(client: AsyncClient, guest: Guest, direct: libvirt.virConnect) -> None:
    """An offset in a disk is watched for and stands in the statistics, until it is watched for no longer; a strange disk is refused."""
    for offset in (8 * MIB, 0):
        await ended(client.set_block_threshold(guest.name, device="vda", threshold_bytes=offset))
        ((_, found),) = direct.domainListGetStats([guest.domain], libvirt.VIR_DOMAIN_STATS_BLOCK)
        assert found.get("block.0.threshold", 0) == offset
    for device, offset in (("vdz", MIB), ("", MIB), ("vda", -1)):
        with pytest.raises(InvalidArgument):
            await ended(client.set_block_threshold(guest.name, device=device, threshold_bytes=offset))


async def test_perf_events(client: AsyncClient, guest: Guest) -> None:
    """An event is counted for a running guest and its next start, and no longer; one that is to be both, and signals, are refused."""
    event = j.PERF_EVENT_CPU_CLOCK
    for counted in (True, False):
        on, off = ([event], []) if counted else ([], [event])
        await ended(client.set_perf_events(guest.name, enable=on, disable=off, scope=BOTH))
        assert [guest.domain.perfEvents(kind)["cpu_clock"] for kind in (libvirt.VIR_DOMAIN_AFFECT_LIVE, STORED)] == [counted, counted]
    with pytest.raises(InvalidArgument):
        await ended(client.set_perf_events(guest.name, enable=[event], disable=[event]))
    with pytest.raises(Unsupported):
        await ended(client.send_process_signal(guest.name, pid=1, signal=j.PROCESS_SIGNAL_TERM))


async def test_dirty_rate(client: AsyncClient, guest: Guest, direct: libvirt.virConnect) -> None:
    """How fast a guest changes its memory is measured and told; a second measurement beside it, and too long a one, are refused."""
    await ended(client.start_dirty_rate_calculation(guest.name, period=Duration(seconds=2)))
    with pytest.raises(OperationFailed):
        await ended(client.start_dirty_rate_calculation(guest.name))

    async def measured() -> bool:
        return (await client.get_dirty_rate(guest.name)).HasField("dirty_bytes_per_second")

    await eventually(measured, "the rate to be measured")
    told = await client.get_dirty_rate(guest.name)
    ((_, found),) = direct.domainListGetStats([guest.domain], libvirt.VIR_DOMAIN_STATS_DIRTYRATE)
    assert told.dirty_bytes_per_second == found["dirtyrate.megabytes_per_second"] * MIB
    assert (told.measuring, told.period.seconds) == (False, 2)
    for period in (Duration(seconds=61), Duration(), Duration(nanos=1)):
        with pytest.raises(InvalidArgument):
            await ended(client.start_dirty_rate_calculation(guest.name, period=period))


async def test_off(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """Shares and quotas of a guest that is off are stored, told and taken away; what holds for a running guest is neither told nor set."""
    guest.domain.destroy()
    qemu_host.wait_known(guest)
    half = r.SchedulerParameters(cpu_shares=2048, vcpu_period=Duration(nanos=100_000_000), vcpu_quota=Duration(nanos=50_000_000))
    await ended(client.set_scheduler_parameters(guest.name, scheduler=half))
    found = guest.domain.schedulerParametersFlags(STORED)
    assert (found["cpu_shares"], found["vcpu_period"], found["vcpu_quota"]) == (2048, 100_000, 50_000)
    told = await client.get_resource_parameters(guest.name)
    assert not told.scheduler.HasField("emulator_period")
    assert (told.scheduler_type, told.scheduler.cpu_shares, told.scheduler.vcpu_quota) == ("posix", 2048, half.vcpu_quota)
    await ended(client.set_scheduler_parameters(guest.name, scheduler=r.SchedulerParameters(vcpu_quota=Duration())))
    assert guest.domain.schedulerParametersFlags(STORED)["vcpu_quota"] == -1
    assert not (await client.get_resource_parameters(guest.name)).scheduler.vcpu_quota.nanos
    with pytest.raises(WrongState):
        await client.get_resource_parameters(guest.name, scope=LIVE)
    with pytest.raises(WrongState):
        await ended(client.set_numa_parameters(guest.name, numa=r.NumaParameters(nodes=[0]), scope=LIVE))
