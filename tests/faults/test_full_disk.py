"""A disk that fills up during a save: the guest runs on, and nobody takes what was written for an image."""

from __future__ import annotations

import pytest

from tests.e2e.behaviour import DETACHED, last
from tests.e2e.server import QemuHost, ended
from virtrpc import AsyncClient
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

IMAGES = "/var/lib/libvirt/qemu/save"


async def test_a_managed_save(client: AsyncClient, host: QemuHost) -> None:
    """It fails with libvirt's words, without an image, and the next job runs; with room the same guest is saved."""
    with host.guest() as guest:
        host.daemon.inside("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", IMAGES)
        try:
            save = await client.managed_save_domain(guest.name, options=DETACHED)
            job = await last(client, save.job_id)
            assert (job.state, job.error.reason) == (t.JOB_STATE_FAILED, "OPERATION_FAILED")
            assert "No space left on device" in job.error.message
            told = await client.get_domain(guest.name)
            assert (told.state, told.state_reason, told.has_managed_save) == (t.DOMAIN_STATE_RUNNING, "save_canceled", False)
            assert not guest.domain.hasManagedSaveImage()
            await ended(client.suspend_domain(guest.name))
            await ended(client.resume_domain(guest.name))
        finally:
            host.daemon.inside("umount", IMAGES)
        await ended(client.managed_save_domain(guest.name))
        assert guest.domain.hasManagedSaveImage()
