"""Cases: where threads run, what devices may carry, and what becomes of a domain; read back in the definition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.etree import ElementTree

from tests.e2e.server import ended, eventually
from tests.hypervisors.case import case
from tests.hypervisors.stage import Stage
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import spec_pb2
from virtrpc.v1 import types_pb2 as t

MIB = 1 << 20
CONFIG = t.CHANGE_SCOPE_CONFIG
EVENT, ACTION = j.LIFECYCLE_EVENT_CRASH, spec_pb2.LIFECYCLE_ACTION_PRESERVE


async def _definition(s: Stage, ref: str) -> ElementTree.Element:
    return ElementTree.fromstring((await s.client.get_domain_xml(ref)).xml)


@asynccontextmanager
async def _own(s: Stage) -> AsyncIterator[str]:
    """A domain of a case's own, off."""
    _, uuid, xml = s.new()
    # User-mode networking cannot be limited.
    await s.done(s.client.define_domain(host=s.host, xml=xml.replace('<interface type="user">', '<interface type="ethernet">')))
    ref = f"{s.host}/{uuid}"
    yield ref
    await s.forget(ref)


@case("JobService/PinVcpu", lambda s: ended(s.client.pin_vcpu(s.ref, number=0, host_cpus=[0])))
async def pin_vcpu(s: Stage) -> None:
    """A virtual CPU of a running domain keeps to a processor; one that the host lacks is refused."""
    ref = await s.running()
    await s.done(s.client.pin_vcpu(ref, number=0, host_cpus=[0]))
    assert (await _definition(s, ref)).find("cputune/vcpupin[@cpuset='0']") is not None
    await s.refused(s.client.pin_vcpu(ref, number=0, host_cpus=[60000]), "INVALID_ARGUMENT")


@case("JobService/PinEmulator", lambda s: ended(s.client.pin_emulator(s.ref, host_cpus=[0])))
async def pin_emulator(s: Stage) -> None:
    """The hypervisor's own threads keep to a processor."""
    ref = await s.running()
    await s.done(s.client.pin_emulator(ref, host_cpus=[0]))
    assert (await _definition(s, ref)).find("cputune/emulatorpin[@cpuset='0']") is not None


@case("JobService/AddIoThread", lambda s: ended(s.client.add_io_thread(s.ref, number=1, scope=CONFIG)))
async def add_io_thread(s: Stage) -> None:
    """A thread for disks is stored."""
    async with _own(s) as ref:
        await s.done(s.client.add_io_thread(ref, number=2, scope=CONFIG))
        assert (await _definition(s, ref)).find("iothreadids/iothread[@id='2']") is not None


@case("JobService/DeleteIoThread", lambda s: ended(s.client.delete_io_thread(s.ref, number=1, scope=CONFIG)))
async def delete_io_thread(s: Stage) -> None:
    """A thread for disks is no longer stored."""
    async with _own(s) as ref:
        await s.done(s.client.add_io_thread(ref, number=2, scope=CONFIG))
        await s.done(s.client.delete_io_thread(ref, number=2, scope=CONFIG))
        assert (await _definition(s, ref)).find("iothreadids/iothread") is None


@case("JobService/PinIoThread", lambda s: ended(s.client.pin_io_thread(s.ref, number=1, host_cpus=[0], scope=CONFIG)))
async def pin_io_thread(s: Stage) -> None:
    """A thread for disks keeps to a processor."""
    async with _own(s) as ref:
        await s.done(s.client.add_io_thread(ref, number=2, scope=CONFIG))
        await s.done(s.client.pin_io_thread(ref, number=2, host_cpus=[0], scope=CONFIG))
        assert (await _definition(s, ref)).find("cputune/iothreadpin[@iothread='2']") is not None


@case(
    "JobService/SetBlockIoTune",
    lambda s: ended(s.client.set_block_io_tune(s.ref, device="vda", total_bytes_per_second=MIB, scope=CONFIG)),
)
async def set_block_io_tune(s: Stage) -> None:
    """A disk's limit is stored."""
    async with _own(s) as ref:
        await s.done(s.client.set_block_io_tune(ref, device="vda", total_bytes_per_second=MIB, burst_total_bytes_per_second=2 * MIB, scope=CONFIG))
        assert (await _definition(s, ref)).findtext("devices/disk/iotune/total_bytes_sec") == str(MIB)


@case(
    "JobService/SetInterfaceParameters",
    lambda s: ended(
        s.client.set_interface_parameters(s.ref, device="52:54:00:00:00:01", inbound=j.Bandwidth(average_bytes_per_second=MIB), scope=CONFIG)
    ),
)
async def set_interface_parameters(s: Stage) -> None:
    """An interface's limit is stored."""
    async with _own(s) as ref:
        mac = (await _definition(s, ref)).find("devices/interface/mac")
        assert mac is not None
        limit = j.Bandwidth(average_bytes_per_second=MIB)
        await s.done(s.client.set_interface_parameters(ref, device=mac.get("address", ""), inbound=limit, scope=CONFIG))
        assert (await _definition(s, ref)).find("devices/interface/bandwidth/inbound[@average='1024']") is not None


@case("JobService/SetLifecycleAction", lambda s: ended(s.client.set_lifecycle_action(s.ref, event=EVENT, action=ACTION, scope=CONFIG)))
async def set_lifecycle_action(s: Stage) -> None:
    """What becomes of a domain that crashes is stored."""
    async with _own(s) as ref:
        await s.done(s.client.set_lifecycle_action(ref, event=EVENT, action=ACTION, scope=CONFIG))
        assert (await _definition(s, ref)).findtext("on_crash") == "preserve"


@case("JobService/SetIoThreadParameters", lambda s: ended(s.client.set_io_thread_parameters(s.ref, number=1, poll_grow=2)))
async def set_io_thread_parameters(s: Stage) -> None:
    """How a running domain's thread for disks works is set; of a thread that it does not have it is refused."""
    ref = await s.running()
    await s.done(s.client.add_io_thread(ref, number=7))
    await s.done(s.client.set_io_thread_parameters(ref, number=7, poll_grow=2))
    await s.refused(s.client.set_io_thread_parameters(ref, number=8, poll_grow=2), "INVALID_ARGUMENT")
    await s.done(s.client.delete_io_thread(ref, number=7))


@case("JobService/SetVcpu", lambda s: ended(s.client.set_vcpu(s.ref, vcpus=[1], enabled=True, scope=CONFIG)))
async def set_vcpu(s: Stage) -> None:
    """A virtual CPU is plugged into the stored definition by its number."""
    async with _own(s) as ref:
        await s.done(s.client.set_vcpus(ref, vcpus=2, maximum=True, scope=CONFIG))
        await s.done(s.client.set_vcpus(ref, vcpus=1, scope=CONFIG))
        await s.done(s.client.set_vcpu(ref, vcpus=[1], enabled=True, scope=CONFIG))
        assert (await _definition(s, ref)).find("vcpus/vcpu[@id='1'][@enabled='yes']") is not None


@case("JobService/SetPerfEvents", lambda s: ended(s.client.set_perf_events(s.ref, enable=[j.PERF_EVENT_CPU_CLOCK], scope=CONFIG)))
async def set_perf_events(s: Stage) -> None:
    """What is to be counted is stored."""
    async with _own(s) as ref:
        await s.done(s.client.set_perf_events(ref, enable=[j.PERF_EVENT_CPU_CLOCK], scope=CONFIG))
        assert (await _definition(s, ref)).find("perf/event[@name='cpu_clock'][@enabled='yes']") is not None


@case("JobService/SetBlockThreshold", lambda s: ended(s.client.set_block_threshold(s.ref, device="vda", threshold_bytes=MIB)))
async def set_block_threshold(s: Stage) -> None:
    """An offset in a running domain's disk is watched for, as its statistics tell."""
    ref = await s.running()
    await s.done(s.client.set_block_threshold(ref, device="vda", threshold_bytes=8 * MIB))

    async def told() -> bool:
        return any(disk.threshold_bytes == 8 * MIB for disk in (await s.client.get_block_stats(ref, device="vda")).stats.devices)

    await eventually(told, "the statistics to tell the threshold")


@case("JobService/SendProcessSignal", lambda s: ended(s.client.send_process_signal(s.ref, pid=1, signal=j.PROCESS_SIGNAL_USR1)))
async def send_process_signal(s: Stage) -> None:
    """The first process of a container ends when it is told to, and the container with it; a mock only takes the signal."""
    ref = await s.booted()
    await s.done(s.client.send_process_signal(ref, pid=1, signal=j.PROCESS_SIGNAL_TERM))
    if "SendProcessSignal" not in s.kind.vague:
        await s.until(lambda domain: not domain.active, "the container to end")
