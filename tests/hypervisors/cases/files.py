"""Cases: files of memory, pictures, and what domains can have."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc.v1 import types_pb2 as t

NOBODY = "00000000-0000-4000-8000-00000000dead"


async def saved(s: Stage, name: str) -> str:
    """A file that holds the shared domain's memory; the domain is off."""
    path = s.kind.file(name)
    await s.done(s.client.save_domain(await s.savable(), path=path, options=LONG))
    return path


async def _restored(s: Stage, path: str) -> None:
    image = (await s.client.get_save_image(host=s.host, path=path)).domain if s.has("GetSaveImage") else await s.domain()
    await s.done(s.client.restore_domain(host=s.host, path=path, uuid=image.uuid, name=image.name, options=LONG))


@case("JobService/SaveDomain", lambda s: ended(s.client.save_domain(s.ref, path=s.kind.file("lacked"))))
async def save(s: Stage) -> None:
    """A saved domain is off, and its file is named."""
    path = s.kind.file("saved")
    job = await s.done(s.client.save_domain(await s.savable(), path=path, options=LONG))
    assert job.file_result.path == path
    assert await s.state() == t.DOMAIN_STATE_SHUTOFF


@case("JobService/RestoreDomain", lambda s: ended(s.client.restore_domain(host=s.host, path=s.kind.file("lacked"), uuid=NOBODY, name="lacked")))
async def restore(s: Stage) -> None:
    """A domain comes back from its file, running."""
    await _restored(s, await saved(s, "restored"))
    assert await s.state() == t.DOMAIN_STATE_RUNNING


@case("SnapshotService/GetSaveImage", lambda s: s.client.get_save_image(host=s.host, path=s.kind.file("lacked")))
async def get_save_image(s: Stage) -> None:
    """A file says whose memory it holds."""
    path = await saved(s, "asked")
    assert (await s.client.get_save_image(host=s.host, path=path)).domain.name == s.name


@case("JobService/DumpCore", lambda s: ended(s.client.dump_core(s.ref, path=s.kind.file("lacked"))))
async def dump_core(s: Stage) -> None:
    """A core file is written, and the domain runs on."""
    await s.done(s.client.dump_core(await s.running(), path=s.kind.file("core"), options=LONG))
    await s.until(lambda domain: domain.state == t.DOMAIN_STATE_RUNNING, "it to run on")


@case("SnapshotService/TakeScreenshot", lambda s: s.client.take_screenshot(s.ref))
async def take_screenshot(s: Stage) -> None:
    """A picture of the screen has a kind and as many bytes as it says."""
    picture = await s.client.take_screenshot(await s.running())
    assert picture.mime_type.startswith("image/")
    assert len(picture.data) == picture.total_bytes > 0


@case("SnapshotService/GetDomainCapabilities", lambda s: s.client.get_domain_capabilities(host=s.host))
async def get_domain_capabilities(s: Stage) -> None:
    """The host says what domains can have."""
    assert "<domainCapabilities>" in (await s.client.get_domain_capabilities(host=s.host)).xml
