"""Bad input that only a real hypervisor can judge, or that could do harm there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.e2e.refusals import refused
from tests.e2e.server import Channel, Guest, QemuHost
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor


@pytest.fixture(scope="module")
def defined(qemu_host: QemuHost) -> Iterator[Guest]:
    """A domain on QEMU that is off."""
    with qemu_host.guest(start=False, disk_mib=16) as guest:
        yield guest


@pytest.mark.parametrize("kind", ["memory", "disk", "xml", "dots", "relative", "link"])
async def test_a_snapshot_outside_the_roots(channel: Channel, qemu_host: QemuHost, defined: Guest, kind: str) -> None:
    """A file of an external snapshot that resolves outside the configured roots is PATH_NOT_ALLOWED with the path; nothing is made."""
    root = qemu_host.daemon.path
    link = root / "link-out"
    if not link.is_symlink():
        link.symlink_to("/etc")
    outside = {"dots": f"{root}/../outside.img", "relative": "outside.img", "link": f"{link}/outside.img"}.get(kind, "/etc/outside.img")
    external = j.SNAPSHOT_LOCATION_EXTERNAL
    domain = t.DomainRef(uuid=defined.uuid)
    disks = [j.SnapshotDisk(device="vda", location=external, path=outside)]
    memory = f"<domainsnapshot><name>bad</name><memory snapshot='external' file='{outside}'/></domainsnapshot>"
    request = {
        "memory": j.CreateSnapshotRequest(domain=domain, definition=j.SnapshotDefinition(name="bad", memory_location=external, memory_path=outside)),
        "xml": j.CreateSnapshotRequest(domain=domain, xml=memory),
    }.get(kind) or j.CreateSnapshotRequest(domain=domain, disk_only=True, definition=j.SnapshotDefinition(name="bad", disks=disks))
    error = await refused(channel, "CreateSnapshot", request)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PATH_NOT_ALLOWED"), error
    assert outside in error.message
    error.assert_clean()
    assert not Path(outside).exists()
    assert defined.domain.snapshotNum() == 0


@pytest.mark.parametrize("leads", ["backing", "data", "far", "json"])
async def test_an_image_that_leads_outside_the_roots(channel: Channel, qemu_host: QemuHost, defined: Guest, leads: str) -> None:
    """An image that is there and is to be used as it is must not have files behind it that lie outside: PATH_NOT_ALLOWED, and nothing is made."""
    root = qemu_host.daemon.path
    image, between, secret = root / f"leads-{leads}.qcow2", root / "between.qcow2", "/etc/hostname"
    made = {
        "backing": [["-u", "-b", secret, "-F", "raw", str(image)]],
        "data": [["-o", f"data_file={root / 'data.raw'}", str(image)]],
        "far": [["-u", "-b", secret, "-F", "raw", str(between)], ["-u", "-b", str(between), "-F", "qcow2", str(image)]],
        "json": [["-u", "-b", f'json:{{"driver":"raw","file":{{"driver":"file","filename":"{secret}"}}}}', "-F", "raw", str(image)]],
    }[leads]
    for words in made:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, "16M"], check=True)
    if leads == "data":
        (root / "data.raw").unlink()
        (root / "data.raw").symlink_to(secret)
    disk = j.SnapshotDisk(device="vda", location=j.SNAPSHOT_LOCATION_EXTERNAL, path=str(image))
    definition = j.SnapshotDefinition(name="bad", disks=[disk])
    domain = t.DomainRef(uuid=defined.uuid)
    request = j.CreateSnapshotRequest(domain=domain, disk_only=True, reuse_external=True, definition=definition)
    error = await refused(channel, "CreateSnapshot", request)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PATH_NOT_ALLOWED"), error
    assert defined.domain.snapshotNum() == 0


async def test_what_libvirt_refuses_keeps_its_words(channel: Channel, defined: Guest) -> None:
    """A definition that libvirt's schema refuses is XML_INVALID with libvirt's own message; nothing is defined."""
    xml = "<domain type='qemu'><name>schemaless</name><memory>65536</memory><os><type>hvm</type></os><bogus/></domain>"
    before = defined.direct.numOfDefinedDomains()
    error = await refused(channel, "DefineDomain", j.DefineDomainRequest(xml=xml))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "XML_INVALID")
    assert "bogus" in error.message
    error.assert_clean()
    assert defined.direct.numOfDefinedDomains() == before


async def test_values_that_qemu_would_refuse(channel: Channel, defined: Guest) -> None:
    """Too much memory, verbs in the wrong state, an unknown snapshot and an unknown device are refused on QEMU, and leave the domain as it was."""
    ref = t.DomainRef(uuid=defined.uuid)
    before = defined.domain.XMLDesc()
    for rpc, request, reason, word in (
        ("SetMemory", j.SetMemoryRequest(domain=ref, memory_bytes=1 << 40), "INVALID_ARGUMENT", "maximum"),
        ("SuspendDomain", j.SuspendDomainRequest(domain=ref), "WRONG_STATE", "shutoff"),
        ("RevertToSnapshot", j.RevertToSnapshotRequest(domain=ref, name="never-taken"), "SNAPSHOT_NOT_FOUND", "never-taken"),
        (
            "DetachDevice",
            j.DetachDeviceRequest(domain=ref, xml="<disk type='file'><target dev='vdz' bus='virtio'/></disk>"),
            "DEVICE_NOT_FOUND",
            "vdz",
        ),
        ("RemoveManagedSave", s.RemoveManagedSaveRequest(domain=ref), "WRONG_STATE", "image"),
    ):
        error = await refused(channel, rpc, request)
        assert error.reason == reason, error
        assert word in error.message, error
        error.assert_clean()
    assert defined.domain.XMLDesc() == before
