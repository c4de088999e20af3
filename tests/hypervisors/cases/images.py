"""Cases: the definitions inside images of saved guests."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.cases.files import NOBODY, saved
from tests.hypervisors.stage import LONG, Stage

TITLE = "set in the image"
NONE = f"<domain type='none'><name>lacked</name><uuid>{NOBODY}</uuid></domain>"


def _titled(s: Stage, xml: str) -> str:
    return xml.replace(f"<name>{s.name}</name>", f"<name>{s.name}</name><title>{TITLE}</title>")


@case("JobService/DefineSaveImage", lambda s: ended(s.client.define_save_image(host=s.host, path=s.kind.file("lacked"), xml=NONE)))
async def define_save_image(s: Stage) -> None:
    """A file's definition is replaced, and told so."""
    path = await saved(s, "redefined")
    image = await s.client.get_save_image(host=s.host, path=path)
    await s.done(s.client.define_save_image(host=s.host, path=path, xml=_titled(s, image.xml)))
    assert TITLE in (await s.client.get_save_image(host=s.host, path=path)).xml


async def _managed(s: Stage) -> str:
    ref = await s.savable()
    await s.done(s.client.managed_save_domain(ref, options=LONG))
    return (await s.client.get_managed_save_image(ref)).xml


@case("SnapshotService/GetManagedSaveImage", lambda s: s.client.get_managed_save_image(s.ref))
async def get_managed_save_image(s: Stage) -> None:
    """A domain's image says what it comes back with."""
    assert f"<name>{s.name}</name>" in await _managed(s)


@case("JobService/DefineManagedSaveImage", lambda s: ended(s.client.define_managed_save_image(s.ref, xml=NONE.replace(NOBODY, s.guest.uuid))))
async def define_managed_save_image(s: Stage) -> None:
    """The definition in a domain's image is replaced, and told so."""
    xml = await _managed(s)
    await s.done(s.client.define_managed_save_image(s.ref, xml=_titled(s, xml)))
    assert TITLE in (await s.client.get_managed_save_image(s.ref)).xml
