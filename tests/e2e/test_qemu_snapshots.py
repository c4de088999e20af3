"""Snapshots of real QEMU guests: what was made, reverted and deleted is read back through libvirt and qemu-img, past virtrpc."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.beds.listener import listening
from tests.e2e.server import Guest, QemuHost, ended, running, xml_of
from virtrpc import AlreadyExists, AsyncClient, InvalidArgument, NotFound
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

TREE = {"root": ["root"], "left": ["root", "left"], "leaf": ["root", "left", "leaf"], "right": ["root", "right"]}


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest with a qcow2 disk and little memory, for internal snapshots."""
    with qemu_host.guest(name="snapped", memory_mib=96, disk_mib=16) as guest:
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Iterator[Guest]:
    """The same, running, without a snapshot before and after."""
    yield running(shared_guest, qemu_host)
    forget(shared_guest)


@pytest.fixture(scope="module")
def tree(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that is off, with the snapshots of TREE: left and right build on root, leaf on left and is current."""
    with qemu_host.guest(start=False, name="tree", disk_mib=16) as guest:
        for name in ("root", "right"):
            snap(guest, name)
        guest.domain.revertToSnapshot(guest.domain.snapshotLookupByName("root"))
        for name in ("left", "leaf"):
            snap(guest, name)
        yield guest


def snap(guest: Guest, name: str) -> None:
    """A snapshot that libvirt itself makes."""
    guest.domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name><description>of {name}</description></domainsnapshot>")


def forget(guest: Guest) -> None:
    """Delete what snapshots a test has left."""
    for snapshot in guest.domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_ROOTS):
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN)


def in_the_image(guest: Guest) -> set[str]:
    """The snapshots that are inside the disk's image, as qemu-img sees them."""
    assert guest.disk is not None
    listing = subprocess.run(["qemu-img", "snapshot", "-U", "-l", guest.disk.path], check=True, capture_output=True, text=True).stdout
    return {line.split()[1] for line in listing.splitlines() if line[:1].isdigit()}


async def test_create_snapshot(client: AsyncClient, guest: Guest) -> None:
    """A typed definition makes a snapshot of memory and disk inside the image; its name is then taken."""
    definition = j.SnapshotDefinition(name="typed", description="in words", memory_location=j.SNAPSHOT_LOCATION_INTERNAL)
    job = await ended(client.create_snapshot(guest.name, definition=definition))
    snapshot = guest.domain.snapshotLookupByName("typed")
    assert in_the_image(guest) == {"typed"}
    assert "<description>in words</description>" in snapshot.getXMLDesc()
    assert "<memory snapshot='internal'/>" in snapshot.getXMLDesc()
    made = job.create_snapshot_result.snapshot
    assert (made.name, made.kind, made.state, made.current) == ("typed", t.SNAPSHOT_KIND_ACTIVE, t.DOMAIN_STATE_RUNNING, True)
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING
    with pytest.raises(AlreadyExists):
        await ended(client.create_snapshot(guest.name, definition=definition))
    unnamed = await ended(client.create_snapshot(guest.name, disk_only=False))
    assert unnamed.create_snapshot_result.snapshot.name in in_the_image(guest)


async def test_create_external_snapshot(client: AsyncClient, qemu_host: QemuHost) -> None:
    """Disks alone go on in a file of their own, frozen by the agent meanwhile; memory goes to one too, live."""
    with qemu_host.guest(memory_mib=96, disk_mib=16, mount_disk=True) as guest:
        assert guest.disk is not None
        guest.wait_for_agent()
        overlay, memory = (qemu_host.daemon.path / f"{guest.name}.{kind}" for kind in ("overlay", "memory"))
        disk = j.SnapshotDisk(device="vda", location=j.SNAPSHOT_LOCATION_EXTERNAL, path=str(overlay))
        definition = j.SnapshotDefinition(name="disks", disks=[disk])
        job = await ended(client.create_snapshot(guest.name, definition=definition, disk_only=True, quiesce=True, atomic=True))
        made = job.create_snapshot_result.snapshot
        assert (made.kind, made.external) == (t.SNAPSHOT_KIND_DISK_ONLY, True)
        assert source_of(guest) == str(overlay)
        assert guest.agent("guest-fsfreeze-status") == "thawed"
        xml = f"<domainsnapshot><name>all</name><memory snapshot='external' file='{memory}'/></domainsnapshot>"
        job = await ended(client.create_snapshot(guest.name, xml=xml, live=True))
        assert (job.create_snapshot_result.snapshot.parent, job.create_snapshot_result.snapshot.external) == ("disks", True)
        assert memory.stat().st_size > 0
        assert guest.domain.snapshotNum() == 2
        assert guest.state == libvirt.VIR_DOMAIN_RUNNING


def source_of(guest: Guest) -> str | None:
    """The file that a guest's disk writes to."""
    source = xml_of(guest.domain).find("devices/disk/source")
    assert source is not None
    return source.get("file")


@pytest.mark.parametrize("path", ["/root/outside", "{root}/../outside", "{root}/link/outside", "relative"])
async def test_create_snapshot_outside_the_roots(client: AsyncClient, tree: Guest, qemu_host: QemuHost, tmp_path: Path, path: str) -> None:
    """A file outside the configured roots is refused, in typed form and in XML, for disks and for memory, and nothing is made."""
    link = qemu_host.daemon.path / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    place, before = path.format(root=qemu_host.daemon.path), tree.domain.snapshotNum()
    disk = j.SnapshotDisk(device="vda", location=j.SNAPSHOT_LOCATION_EXTERNAL, path=place)
    memory = j.SnapshotDefinition(name="out", memory_location=j.SNAPSHOT_LOCATION_EXTERNAL, memory_path=place)
    xml = f"<domainsnapshot><name>out</name><disks><disk name='vda' snapshot='external'><source file='{place}'/></disk></disks></domainsnapshot>"
    for verb in (
        client.create_snapshot(tree.name, definition=j.SnapshotDefinition(name="out", disks=[disk]), disk_only=True),
        client.create_snapshot(tree.name, definition=memory),
        client.create_snapshot(tree.name, xml=xml, disk_only=True),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await ended(verb)
        assert caught.value.reason == "PATH_NOT_ALLOWED"
    assert tree.domain.snapshotNum() == before
    assert list(tmp_path.iterdir()) == []


NBD = "<source protocol='nbd' name='x'><host transport='unix' socket='{outside}/socket'/></source>"
EXTERNAL = "<domainsnapshot><name>out</name><disks>{}</disks></domainsnapshot>"


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        ("<evil name='vda' snapshot='external'><source file='{outside}/made'/></evil>", "XML_INVALID"),
        ("<disk name='vda' snapshot='external'><source xmlns:x='u' x:file='{outside}/made'/></disk>", "XML_INVALID"),
        ("<disk name='vda' snapshot='external' type='network'>" + NBD + "</disk>", "PATH_NOT_ALLOWED"),
    ],
)
async def test_create_snapshot_from_hostile_xml(client: AsyncClient, guest: Guest, tmp_path: Path, disk: str, reason: str) -> None:
    """What libvirt would take for a disk whatever it is called, or connect to, is refused: nothing is made or reached."""
    before = source_of(guest)
    async with listening(tmp_path / "socket") as reached:
        for reuse in (False, True):
            with pytest.raises(InvalidArgument) as caught:
                await ended(
                    client.create_snapshot(guest.name, xml=EXTERNAL.format(disk.format(outside=tmp_path)), disk_only=True, reuse_external=reuse)
                )
            assert caught.value.reason == reason
        assert reached == []
    assert not (tmp_path / "made").exists()
    assert (source_of(guest), guest.domain.snapshotNum()) == (before, 0)


async def test_revert_to_snapshot(client: AsyncClient, guest: Guest) -> None:
    """A guest goes back to what it was, memory included, paused where that is asked for; an unknown snapshot is NOT_FOUND."""
    snap(guest, "before")
    await ended(client.set_user_password(guest.name, user="root", password="later"))
    assert not guest.read_file("/etc/shadow").startswith("root:*:")
    await ended(client.revert_to_snapshot(guest.name, name="before", resume_state=t.RESUME_STATE_PAUSED))
    assert guest.domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT]
    assert (await client.get_domain(guest.name)).state_reason == "from_snapshot"
    await ended(client.revert_to_snapshot(guest.name, name="before", resume_state=t.RESUME_STATE_RUNNING))
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING
    guest.wait_for_agent()
    assert guest.read_file("/etc/shadow").startswith("root:*:")
    with pytest.raises(NotFound) as caught:
        await ended(client.revert_to_snapshot(guest.name, name="never"))
    assert caught.value.reason == "SNAPSHOT_NOT_FOUND"


async def test_delete_snapshot(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A snapshot is deleted alone, with all that build on it, without itself, or only forgotten."""
    with qemu_host.guest(start=False, disk_mib=16) as guest:
        for name in ("one", "two", "three", "four", "five"):
            snap(guest, name)
        await ended(client.delete_snapshot(guest.name, name="two"))
        assert guest.domain.snapshotLookupByName("three").getParent().getName() == "one"
        assert in_the_image(guest) == {"one", "three", "four", "five"}
        await ended(client.delete_snapshot(guest.name, name="four", children=True))
        assert set(guest.domain.snapshotListNames()) == in_the_image(guest) == {"one", "three"}
        await ended(client.delete_snapshot(guest.name, name="one", children_only=True))
        assert set(guest.domain.snapshotListNames()) == in_the_image(guest) == {"one"}
        await ended(client.delete_snapshot(guest.name, name="one", metadata_only=True))
        assert (guest.domain.snapshotListNames(), in_the_image(guest)) == ([], {"one"})
        with pytest.raises(NotFound) as caught:
            await ended(client.delete_snapshot(guest.name, name="one"))
        assert caught.value.reason == "SNAPSHOT_NOT_FOUND"


async def test_list_snapshots(client: AsyncClient, tree: Guest) -> None:
    """All snapshots, the children of one at one depth or all, each filter, and pages that know how many there are."""

    async def names(parent: str = "", descendants: bool = False, **fields: object) -> list[str]:
        chosen = s.SnapshotFilter(**fields)  # type: ignore[arg-type] # by the test's own reading
        listing = client.list_snapshots(tree.name, parent=parent, descendants=descendants, filter=chosen)
        return [snapshot.name async for snapshot in listing]

    assert await names() == sorted(tree.domain.snapshotListNames()) == sorted(TREE)
    root = tree.domain.snapshotLookupByName("root")
    assert await names(parent="root") == sorted(root.listChildrenNames())
    everything = libvirt.VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS
    assert await names(parent="root", descendants=True) == sorted(child.getName() for child in root.listAllChildren(everything))
    assert await names(roots=True) == ["root"]
    assert await names(leaf=True) == ["leaf", "right"]
    assert await names(leaf=False) == ["left", "root"]
    assert await names(external=True) == await names(has_metadata=False) == await names(kinds=[t.SNAPSHOT_KIND_ACTIVE]) == []
    assert await names(kinds=[t.SNAPSHOT_KIND_INACTIVE], external=False, has_metadata=True) == sorted(TREE)
    pages = [page async for page in client.list_snapshots(tree.name, page_size=3).pages()]
    assert [[snapshot.name for snapshot in page.snapshots] for page in pages] == [["leaf", "left", "right"], ["root"]]
    assert [page.total_size for page in pages] == [tree.domain.snapshotNum()] * 2
    for parent in ("never", "LEFT"):
        with pytest.raises(NotFound):
            await names(parent=parent)


async def test_get_snapshot(client: AsyncClient, tree: Guest) -> None:
    """A snapshot says what libvirt says of it."""
    for name, line in TREE.items():
        theirs, ours = tree.domain.snapshotLookupByName(name), await client.get_snapshot(tree.name, name=name)
        assert (ours.name, ours.description, ours.kind) == (theirs.getName(), f"of {name}", t.SNAPSHOT_KIND_INACTIVE)
        assert (ours.parent if ours.HasField("parent") else None) == (theirs.getParent().getName() if len(line) > 1 else None)
        assert (ours.current, ours.has_metadata, ours.children) == (bool(theirs.isCurrent()), bool(theirs.hasMetadata()), theirs.numChildren())
        assert (ours.external, ours.state, ours.domain.uuid) == (False, t.DOMAIN_STATE_SHUTOFF, tree.uuid)
        assert f"<creationTime>{ours.create_time.seconds}</creationTime>" in theirs.getXMLDesc()
    with pytest.raises(NotFound) as caught:
        await client.get_snapshot(tree.name, name="never")
    assert caught.value.reason == "SNAPSHOT_NOT_FOUND"
    assert "never" in caught.value.message


async def test_get_snapshot_xml(client: AsyncClient, tree: Guest, qemu_host: QemuHost) -> None:
    """A snapshot's XML is libvirt's own, without the password that libvirt would tell."""
    answer = await client.get_snapshot_xml(tree.name, name="left")
    assert answer.xml == tree.domain.snapshotLookupByName("left").getXMLDesc()
    assert answer.snapshot.parent == "root"
    secret = '<graphics type="vnc" port="-1" passwd="sesame42"/><video><model type="vga"/></video>'
    with qemu_host.guest(start=False, disk_mib=16, more_devices=secret) as guest:
        snap(guest, "with")
        assert "sesame42" in guest.domain.snapshotLookupByName("with").getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
        assert "sesame42" not in (await client.get_snapshot_xml(guest.name, name="with")).xml


async def test_get_current_snapshot(client: AsyncClient, tree: Guest, qemu_host: QemuHost) -> None:
    """The snapshot that the present state builds on; a domain without one says so."""
    assert tree.domain.hasCurrentSnapshot()
    assert (await client.get_current_snapshot(tree.name)).name == tree.domain.snapshotCurrent().getName() == "leaf"
    with qemu_host.guest(start=False) as guest:
        assert not guest.domain.hasCurrentSnapshot()
        with pytest.raises(NotFound) as caught:
            await client.get_current_snapshot(guest.name)
    assert caught.value.reason == "SNAPSHOT_NOT_FOUND"
