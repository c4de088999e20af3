"""Cases: starting, stopping and saving."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc.v1 import types_pb2 as t


@case("JobService/StartDomain", lambda s: ended(s.client.start_domain(s.ref)))
async def start(s: Stage) -> None:
    """A domain that was off runs."""
    await s.done(s.client.start_domain(await s.off(), options=LONG))
    assert await s.state() == t.DOMAIN_STATE_RUNNING


@case("JobService/SuspendDomain", lambda s: ended(s.client.suspend_domain(s.ref)))
async def suspend(s: Stage) -> None:
    """A running domain is paused."""
    await s.done(s.client.suspend_domain(await s.running()))
    assert await s.state() == t.DOMAIN_STATE_PAUSED


@case("JobService/ResumeDomain", lambda s: ended(s.client.resume_domain(s.ref)))
async def resume(s: Stage) -> None:
    """A paused domain runs on."""
    await s.running()
    await s.done(s.client.suspend_domain(s.ref))
    await s.done(s.client.resume_domain(s.ref))
    assert await s.state() == t.DOMAIN_STATE_RUNNING


@case("JobService/RebootDomain", lambda s: ended(s.client.reboot_domain(s.ref)))
async def reboot(s: Stage) -> None:
    """A guest is asked to reboot, and the domain runs after it."""
    ref = await s.booted()
    s.guest.boots += 1
    await s.done(s.client.reboot_domain(ref, options=LONG, mode=s.kind.asks_by))
    await s.until(lambda domain: domain.state == t.DOMAIN_STATE_RUNNING, "it to run again")


@case("JobService/ShutdownDomain", lambda s: ended(s.client.shutdown_domain(s.ref)))
async def shutdown(s: Stage) -> None:
    """A guest is asked to shut down, and the job ends when the domain is off."""
    await s.done(s.client.shutdown_domain(await s.booted(), options=LONG, mode=s.kind.asks_by))
    assert await s.state() == t.DOMAIN_STATE_SHUTOFF


@case("JobService/DestroyDomain", lambda s: ended(s.client.destroy_domain(s.ref)))
async def destroy(s: Stage) -> None:
    """A running domain is off at once."""
    await s.done(s.client.destroy_domain(await s.running(), options=LONG))
    assert await s.state() == t.DOMAIN_STATE_SHUTOFF


@case("JobService/ManagedSaveDomain", lambda s: ended(s.client.managed_save_domain(s.ref)))
async def managed_save(s: Stage) -> None:
    """A saved domain is off and has an image; the next start goes on from it."""
    await s.done(s.client.managed_save_domain(await s.savable(), options=LONG))
    saved = await s.domain()
    assert (saved.state, saved.has_managed_save) == (t.DOMAIN_STATE_SHUTOFF, True)
    await s.done(s.client.start_domain(s.ref, options=LONG))
    assert not (await s.domain()).has_managed_save


@case("SnapshotService/RemoveManagedSave", lambda s: ended(s.client.remove_managed_save(s.ref)))
async def remove_managed_save(s: Stage) -> None:
    """The image of a saved domain is removed."""
    await s.done(s.client.managed_save_domain(await s.savable(), options=LONG))
    await s.done(s.client.remove_managed_save(s.ref))
    assert not (await s.domain()).has_managed_save
