"""Cases: names, metadata, processors, keys, sleep and sizes."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from tests.e2e.server import ended, eventually
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

MIB = 1 << 20
PERIOD = Duration(seconds=7)


@case("JobService/ResetDomain", lambda s: ended(s.client.reset_domain(s.ref)))
async def reset(s: Stage) -> None:
    """A reset domain runs on."""
    await s.booted()
    s.guest.boots += 1
    await s.done(s.client.reset_domain(s.ref))
    assert await s.state() == t.DOMAIN_STATE_RUNNING


@case("JobService/SendKey", lambda s: ended(s.client.send_key(s.ref, keycodes=[30])))
async def send_key(s: Stage) -> None:
    """A running domain takes keys."""
    await s.done(s.client.send_key(await s.running(), keycodes=[30, 48]))


@case("JobService/InjectNmi", lambda s: ended(s.client.inject_nmi(s.ref)))
async def inject_nmi(s: Stage) -> None:
    """A running domain takes an interrupt."""
    await s.done(s.client.inject_nmi(await s.running()))
    # Guests of POWER and s390x go down on it, or hang in their firmware.
    await s.off()


@case("JobService/PowerManagementSuspend", lambda s: ended(s.client.power_management_suspend(s.ref, target=j.SUSPEND_TARGET_MEMORY)))
async def power_management_suspend(s: Stage) -> None:
    """A guest that is asked to sleep sleeps."""
    await _asleep(s)
    await s.off()


@case("JobService/PowerManagementWakeup", lambda s: ended(s.client.power_management_wakeup(s.ref)))
async def power_management_wakeup(s: Stage) -> None:
    """A guest that sleeps is woken, and runs on; where none can sleep, there is none to wake."""
    ref = await s.booted() if "PowerManagementSuspend" in s.kind.refuses else await _asleep(s)
    await s.done(s.client.power_management_wakeup(ref))
    assert await s.state() == t.DOMAIN_STATE_RUNNING


async def _asleep(s: Stage) -> str:
    ref = await s.booted()
    await s.with_agent(lambda: s.client.power_management_suspend(ref, target=j.SUSPEND_TARGET_MEMORY))
    await s.until(lambda domain: domain.state == t.DOMAIN_STATE_PMSUSPENDED, "the guest to sleep")
    return ref


@case("JobService/RenameDomain", lambda s: ended(s.client.rename_domain(s.ref, name="lacked")))
async def rename(s: Stage) -> None:
    """A domain that is off is found under its new name."""
    name, uuid, xml = s.new()
    await s.done(s.client.define_domain(host=s.host, xml=xml))
    await s.done(s.client.rename_domain(f"{s.host}/{uuid}", name=f"{name}-2"))
    assert (await s.client.get_domain(f"{s.host}/{name}-2")).uuid == uuid
    await s.forget(f"{s.host}/{uuid}")


@case("JobService/SetMetadata", lambda s: ended(s.client.set_metadata(s.ref, title="a title")))
async def set_metadata(s: Stage) -> None:
    """A description is stored."""
    ref = await s.off()
    await s.done(s.client.set_metadata(ref, description="set here"))
    assert (await s.client.get_metadata(ref)).description == "set here"


@case("QueryService/GetMetadata", lambda s: s.client.get_metadata(s.ref))
async def get_metadata(s: Stage) -> None:
    """A title is told."""
    ref = await s.off()
    await s.done(s.client.set_metadata(ref, title="a title"))
    assert (await s.client.get_metadata(ref)).title == "a title"


@case("JobService/SetAutostart", lambda s: ended(s.client.set_autostart(s.ref, autostart=True)))
async def set_autostart(s: Stage) -> None:
    """Autostart is switched on and off."""
    ref = await s.off()
    for wanted in (True, False):
        await s.done(s.client.set_autostart(ref, autostart=wanted))
        assert (await s.domain()).autostart is wanted


@case("JobService/SetVcpus", lambda s: ended(s.client.set_vcpus(s.ref, vcpus=1)))
async def set_vcpus(s: Stage) -> None:
    """The number of virtual CPUs of a domain that is off is set."""
    _, uuid, xml = s.new()
    await s.done(s.client.define_domain(host=s.host, xml=xml))
    ref = f"{s.host}/{uuid}"
    if s.kind.vcpus_maximum:
        await s.done(s.client.set_vcpus(ref, vcpus=2, maximum=True, scope=t.CHANGE_SCOPE_CONFIG))
    await s.done(s.client.set_vcpus(ref, vcpus=2, options=LONG))
    assert (await s.client.get_domain(ref)).vcpus.config == 2
    await s.forget(ref)


@case("JobService/SetMemoryStatsPeriod", lambda s: ended(s.client.set_memory_stats_period(s.ref, stats_period=PERIOD)))
async def set_memory_stats_period(s: Stage) -> None:
    """The stored period is set."""
    ref = await s.off()
    await s.done(s.client.set_memory_stats_period(ref, stats_period=PERIOD, scope=t.CHANGE_SCOPE_CONFIG))
    assert 'period="7"' in (await s.client.get_domain_xml(ref)).xml.replace("'", '"')


@case("JobService/ResizeBlock", lambda s: ended(s.client.resize_block(s.ref, device="vda", capacity_bytes=32 * MIB)))
async def resize_block(s: Stage) -> None:
    """A disk of a running domain grows, and the statistics tell."""
    ref = await s.running()
    await s.done(s.client.resize_block(ref, device="vda", capacity_bytes=32 * MIB))

    async def told() -> bool:
        return any(disk.capacity_bytes == 32 * MIB for disk in (await s.client.get_block_stats(ref)).stats.devices)

    await eventually(told, "the new size to be sampled")


@case("QueryService/GetHostStats", lambda s: s.client.get_host_stats(host=s.host))
async def get_host_stats(s: Stage) -> None:
    """The host is sampled."""

    async def sampled() -> bool:
        return (await s.client.get_host_stats(host=s.host)).observation.freshness == t.FRESHNESS_LIVE

    await eventually(sampled, "the host to be sampled")
