"""Whose a file below the roots is, as callers meet it: directories of tenants, links, images that lead to others, and what has changed since."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from grpc import aio

from tests.server.policed import ROLES, Bed, Denied, bed, ref
from tests.server.test_policy import UUID, refused
from tests.server.world import until
from virtrpc.v1 import job_pb2, snapshot_pb2, types_pb2
from virtrpc_server.host_files import HostFiles

DOCUMENT = Path(__file__).parent.parent.parent / "docs/policy.md"
XML = "<domain type='sim'><name>{}</name><uuid>{}</uuid><memory>1024</memory><vcpu>1</vcpu><devices>{}</devices></domain>"
OWN_LABEL = '<v:labels xmlns:v="urn:virtrpc:labels:1"><v:label name="tenant" value="a"/></v:labels>'
SNAPSHOT = "<domainsnapshot><name>before</name></domainsnapshot>"
SAVED = "sim://a/?domains=3&running=2&save_seconds=0.01&restore_seconds=0.01"
needs_images = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def tenants(root: Path) -> str:
    """The rules of docs/policy.md for two tenants, about directories below this root."""
    blocks: list[str] = re.findall(r"```\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (rules,) = [block for block in blocks if "tenant-a" in block]
    return rules.replace("/var/lib/libvirt/images", str(root)) + '\n@id("all") permit(principal == Caller::"admin", action, resource);'


def disk(path: Path | str, image: str = "raw", more: str = "") -> str:
    """A disk in a file."""
    return f"<disk type='file'><driver type='{image}'/><source file={quoteattr(str(path))}/><target dev='vdx' bus='virtio'/>{more}</disk>"


def labelled_xml(name: str, uuid: str, devices: str) -> str:
    """A definition of tenant A's."""
    return XML.format(name, uuid, devices).replace("<devices>", f"<metadata>{OWN_LABEL}</metadata><devices>")


def attach(path: Path | str, image: str = "raw", more: str = "") -> job_pb2.AttachDeviceRequest:
    """Plug that in."""
    return job_pb2.AttachDeviceRequest(domain=ref("guest-1"), xml=disk(path, image, more))


def save(path: Path | str, *, overwrite: bool = False) -> job_pb2.SaveDomainRequest:
    """Save to that file."""
    return job_pb2.SaveDomainRequest(domain=ref("guest-1"), path=str(path), overwrite=overwrite)


def image(path: Path, backing: Path | str = "") -> Path:
    """A qcow2 image, which is overwritten by an earlier one's guest as well."""
    words = ["-b", str(backing), "-F", "raw", "-u"] if backing else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "1M"], check=True)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two tenants' directories and one that they share."""
    for name in ("tenant-a", "tenant-b", "base"):
        (tmp_path / "roots" / name).mkdir(parents=True)
    return tmp_path / "roots"


async def ended(stream: Any) -> Denied:
    """The error that a stream ends with."""
    try:
        while await stream.read():
            pass
    except aio.AioRpcError as error:
        return Denied(error)
    pytest.fail("it ended well")


async def denied_file(server: Bed, rpc: str, request: Any, action: str, path: Path | str) -> str:
    """The message of a denial to tenant A which names this file."""
    denied = await refused(server.who("spiffe://example.org/tenant-a"), rpc, request)
    assert denied.info.metadata["action"] == action
    assert repr(str(path)) in denied.message
    return denied.message


async def labelled_a(server: Bed) -> None:
    """All domains are tenant A's."""
    for name in ("guest-1", "guest-2", "guest-3"):
        await server.label(name, tenant="a")


async def test_two_tenants_with_two_directories(tmp_path: Path, root: Path) -> None:
    """The documented rules: each uses its own directory, reads the shared one, and has nothing of the other's."""
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        await labelled_a(server)
        mine, others, shared = (root / name / "file" for name in ("tenant-a", "tenant-b", "base"))
        for rpc, asked, action, path in (
            ("SaveDomain", save(others), "WriteFile", others),
            ("SaveDomain", save(shared, overwrite=True), "WriteFile", shared),
            ("DumpCore", job_pb2.DumpCoreRequest(domain=ref("guest-1"), path=str(others)), "WriteFile", others),
            ("GetSaveImage", snapshot_pb2.GetSaveImageRequest(host="a", path=str(others)), "ReadFile", others),
            ("AttachDevice", attach(others), "WriteFile", others),
            ("AttachDevice", attach(others, more="<readonly/>"), "ReadFile", others),
            ("AttachDevice", attach(shared), "WriteFile", shared),
            ("AttachDevice", attach(root / "tenant-a/../tenant-b/file"), "ReachOutside", root / "tenant-a/../tenant-b/file"),
        ):
            message = await denied_file(server, rpc, asked, action, path)
            assert "no rule permits it" in message
        tenant = server.who("spiffe://example.org/tenant-a")
        await tenant.ask("AttachDevice", attach(shared, more="<readonly/>"))
        await tenant.ask("SaveDomain", save(mine))
        assert (await tenant.ask("GetSaveImage", snapshot_pb2.GetSaveImageRequest(host="a", path=str(mine)))).domain.name == "guest-1"


async def test_a_denial_names_the_rule_that_forbids_it(tmp_path: Path, root: Path) -> None:
    """And what is forbidden is not looked at: that a link leads elsewhere is told of one's own alone."""
    kept, link = root / "tenant-a/kept/file", root / "tenant-b/link"
    link.symlink_to("/etc/shadow")
    frozen = f'@id("frozen") forbid(principal, action == Action::"WriteFile", resource) when {{ resource.path == "{kept}" }};'
    async with bed(tmp_path, tenants(root) + frozen, SAVED, roots=root) as server:
        await labelled_a(server)
        assert "rule 'frozen' forbids it" in await denied_file(server, "SaveDomain", save(kept), "WriteFile", kept)
        assert "shadow" not in await denied_file(server, "SaveDomain", save(link), "WriteFile", link)


async def test_where_a_link_leads_is_what_counts(tmp_path: Path, root: Path) -> None:
    """A guest can make one in a directory that it shares with its host; a root that is itself a link is called as it is configured."""
    (root / "tenant-a/link").symlink_to(root / "tenant-b")
    (root / "tenant-a/out").symlink_to("/etc/shadow")
    configured = tmp_path / "configured"
    configured.symlink_to(root)
    async with bed(tmp_path, tenants(configured), SAVED, roots=configured) as server:
        await labelled_a(server)
        link = configured / "tenant-a/link/disk"
        message = await denied_file(server, "SaveDomain", save(link, overwrite=True), "WriteFile", configured / "tenant-b/disk")
        assert f"({str(link)!r} leads there)" in message
        await denied_file(server, "AttachDevice", attach(link), "WriteFile", configured / "tenant-b/disk")
        await denied_file(server, "AttachDevice", attach(configured / "tenant-a/out"), "ReachOutside", "/etc/shadow")
        await server.who("spiffe://example.org/tenant-a").ask("SaveDomain", save(configured / "tenant-a/file"))


@needs_images
async def test_what_an_image_leads_to_is_judged(tmp_path: Path, root: Path) -> None:
    """By the format that the request calls it by: others' files, and what lies outside, are not read through an image; shared ones are."""
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        await labelled_a(server)
        (root / "base/debian").write_bytes(b"\0" * 4096)
        (entry,) = server.core.domains.by_name("guest-3")
        for backing, action in ((root / "tenant-b/disk", "ReadFile"), ("/etc/shadow", "ReachOutside"), ("json:{}", "ReachOutside")):
            layered = image(root / "tenant-a/layered", backing)
            asked = attach(layered, "qcow2")
            if str(backing).startswith("json"):
                layered.write_bytes(image(layered, "/" * 7).read_bytes().replace(b"/" * 7, b"json:{}"))
            assert "leads" in await denied_file(server, "AttachDevice", asked, action, layered)
            define = job_pb2.DefineDomainRequest(xml=labelled_xml("guest-3", entry.uuid, disk(layered, "qcow2")))
            await denied_file(server, "DefineDomain", define, action, layered)
        tenant = server.who("spiffe://example.org/tenant-a")
        await tenant.ask("AttachDevice", attach(image(root / "tenant-a/layered", root / "base/debian"), "qcow2"))


@needs_images
async def test_a_guest_that_has_written_a_header_gains_nothing(tmp_path: Path, root: Path) -> None:
    """Its raw disk may become an image that leads elsewhere after the definition was taken: that is found when it is called one, and at its start."""
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        await labelled_a(server)
        path, tenant = root / "tenant-a/disk", server.who("spiffe://example.org/tenant-a")
        (entry,) = server.core.domains.by_name("guest-3")
        as_raw, as_image = (labelled_xml("guest-3", entry.uuid, disk(path, kind)) for kind in ("raw", "qcow2"))
        await tenant.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=as_raw))
        await tenant.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=as_image))  # there is no file yet
        image(path, "/etc/shadow")
        await until(lambda: "qcow2" in _stored(server, "guest-3"))
        start = job_pb2.StartDomainRequest(domain=ref("guest-3"))
        await denied_file(server, "StartDomain", start, "ReachOutside", "/etc/shadow")
        image(path, root / "tenant-b/disk")
        await denied_file(server, "StartDomain", start, "ReadFile", root / "tenant-b/disk")
        await server.who("admin").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=as_raw))
        await until(lambda: "qcow2" not in _stored(server, "guest-3"))
        await denied_file(server, "DefineDomain", job_pb2.DefineDomainRequest(xml=as_image), "ReadFile", root / "tenant-b/disk")
        await tenant.ask("StartDomain", start)


@needs_images
async def test_an_image_that_cannot_be_looked_into(tmp_path: Path, root: Path) -> None:
    """Who may use all files starts a domain with it; who may use some is told why not. Once it is seen to lead outside, neither starts it."""
    async with bed(tmp_path, tenants(root) + ROLES, SAVED, roots=root) as server:
        await labelled_a(server)
        path, tenant, operator = root / "tenant-a/disk", server.who("spiffe://example.org/tenant-a"), server.who("operator")
        (entry,) = server.core.domains.by_name("guest-3")
        await tenant.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=labelled_xml("guest-3", entry.uuid, disk(path, "qcow2"))))
        await until(lambda: "qcow2" in _stored(server, "guest-3"))
        start = job_pb2.StartDomainRequest(domain=ref("guest-3"))
        assert "this server does not see it" in (await refused(tenant, "StartDomain", start, "PATH_NOT_ALLOWED")).message
        await operator.ask("StartDomain", start)
        await operator.ask("DestroyDomain", job_pb2.DestroyDomainRequest(domain=ref("guest-3")))
        image(path, "/etc/shadow")
        for caller in (tenant, operator):
            denied = await refused(caller, "StartDomain", start, "PERMISSION_DENIED")
            assert (denied.info.metadata["action"], "/etc/shadow" in denied.message) == ("ReachOutside", True)


def _stored(server: Bed, name: str) -> str:
    (entry,) = server.core.domains.by_name(name)
    return "" if entry.config is None else entry.config.value.xml


@needs_images
async def test_what_was_kept_is_followed_when_it_comes_back(tmp_path: Path, root: Path) -> None:
    """The definition in a managed-save image, and that of a snapshot, may name what the stored one does not name any more."""
    async with bed(tmp_path, tenants(root), SAVED + "&snapshot_seconds=0.01", roots=root) as server:
        await labelled_a(server)
        path, admin = root / "tenant-a/disk", server.who("admin")
        (saved,), (kept,) = (server.core.domains.by_name(name) for name in ("guest-1", "guest-3"))
        image(path)
        await admin.ask("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-1")))
        within = labelled_xml("guest-1", saved.uuid, disk(path, "qcow2"))
        await admin.ask("DefineManagedSaveImage", job_pb2.DefineManagedSaveImageRequest(domain=ref("guest-1"), xml=within))
        await admin.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=labelled_xml("guest-3", kept.uuid, disk(path, "qcow2"))))
        await admin.ask("CreateSnapshot", job_pb2.CreateSnapshotRequest(domain=ref("guest-3"), xml=SNAPSHOT))
        await admin.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=labelled_xml("guest-3", kept.uuid, "")))
        await until(lambda: "qcow2" not in _stored(server, "guest-3"))
        image(path, root / "tenant-b/disk")
        await denied_file(server, "StartDomain", job_pb2.StartDomainRequest(domain=ref("guest-1")), "ReadFile", root / "tenant-b/disk")
        revert = job_pb2.RevertToSnapshotRequest(domain=ref("guest-3"), name="before")
        await denied_file(server, "RevertToSnapshot", revert, "ReadFile", root / "tenant-b/disk")
        await server.who("spiffe://example.org/tenant-a").ask("StartDomain", job_pb2.StartDomainRequest(domain=ref("guest-1"), force_boot=True))


@needs_images
async def test_what_is_behind_an_image_is_not_told_to_whom_it_is_not_shown(tmp_path: Path, root: Path) -> None:
    """Whether another's file is there, or what it holds, makes no difference to what the one hears whose image or link leads to it."""
    others = root / "tenant-b/disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", str(others), "-F", "qcow2", str(root / "tenant-a/over"), "1M"], check=True)
    (root / "tenant-a/link").symlink_to(others)
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        await labelled_a(server)
        for mine, action in ((root / "tenant-a/over", "ReadFile"), (root / "tenant-a/link", "WriteFile")):
            asked = attach(mine, "qcow2")
            asked.scope = types_pb2.CHANGE_SCOPE_LIVE
            others.unlink(missing_ok=True)
            told = [await denied_file(server, "AttachDevice", asked, action, others)]
            others.touch()
            told.append(await denied_file(server, "AttachDevice", asked, action, others))
            image(others)
            told.append(await denied_file(server, "AttachDevice", asked, action, others))
            assert len(set(told)) == 1


@needs_images
async def test_where_others_links_lead_is_not_told(tmp_path: Path, root: Path) -> None:
    """Of what an image names the name is told: it can be a link of anybody's, also outside the roots, where drivers see whatever there is."""
    (tmp_path / "outside").symlink_to(tmp_path / "secret")
    (root / "tenant-b/current").symlink_to(root / "tenant-b/secret")
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        await labelled_a(server)
        for link, action in ((root / "tenant-b/current", "ReadFile"), (tmp_path / "outside", "ReachOutside")):
            asked = attach(image(root / "tenant-a/over", link), "qcow2")
            assert "secret" not in await denied_file(server, "AttachDevice", asked, action, link)


async def test_files_of_another_host_are_not_looked_for_on_this_one(tmp_path: Path, root: Path) -> None:
    """Where a domain's files lead at its destination is judged there; its own host, which may have them elsewhere, is not held to that."""
    mover = 'permit(principal == Caller::"mover", action in [Action::"viewer", Action::"MigrateDomain", Action::"UseFile"], resource);'
    there = tmp_path / "there"
    there.symlink_to(root)
    async with bed(tmp_path, ROLES + mover, SAVED, "sim://b/?domains=0", roots=root, roots_of_b=(there,)) as server:
        admin, xml = server.who("admin"), XML.format("new", UUID, disk(there / "tenant-a/disk"))
        await admin.ask("DefineDomain", job_pb2.DefineDomainRequest(host="a", xml=xml))
        await admin.ask("StartDomain", job_pb2.StartDomainRequest(domain=ref("new")))
        settings = types_pb2.MigrationSettings(host="b")
        await server.who("mover").ask("MigrateDomain", job_pb2.MigrateDomainRequest(domain=ref("new", "a"), settings=settings))


async def test_a_job_that_waited_uses_what_was_judged(tmp_path: Path, root: Path) -> None:
    """Where a file leads elsewhere by the time that the job runs, that is judged anew."""
    async with bed(tmp_path, tenants(root), "sim://a/?domains=3&running=2&save_seconds=1000", roots=root) as server:
        await labelled_a(server)
        tenant = server.who("spiffe://example.org/tenant-a")
        holder = server.who("admin").call("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-1")))
        held = await holder.read()
        waiting = tenant.call("DumpCore", job_pb2.DumpCoreRequest(domain=ref("guest-1"), path=str(root / "tenant-a/core")))
        assert (await waiting.read()).job.state == types_pb2.JOB_STATE_QUEUED
        (root / "tenant-a/core").symlink_to(root / "tenant-b/disk")
        await server.who("admin").ask("CancelJob", job_pb2.CancelJobRequest(job_id=held.job.job_id))
        refusal = await ended(waiting)
        assert (refusal.reason, refusal.info.metadata["action"]) == ("PERMISSION_DENIED", "WriteFile")
        assert f"{str(root / 'tenant-a/core')!r} leads there" in refusal.message


async def test_what_a_domain_has_may_stay(tmp_path: Path, root: Path) -> None:
    """Who changes a definition need not be allowed the files that somebody else gave the domain; to write what was only read is new."""
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        given = disk(root / "base/tools", more="<readonly/>") + disk(root / "tenant-b/gift").replace("vdx", "vdy")
        xml = labelled_xml("new", UUID, given)
        await server.who("admin").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=xml))
        await until(lambda: server.core.domains.by_name("new") and "gift" in _stored(server, "new"))
        tenant = server.who("spiffe://example.org/tenant-a")
        await tenant.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=xml.replace("1024", "2048")))
        await tenant.ask("StartDomain", job_pb2.StartDomainRequest(domain=ref("new")))
        writable = xml.replace("<readonly/>", "")
        await denied_file(server, "DefineDomain", job_pb2.DefineDomainRequest(xml=writable), "WriteFile", root / "base/tools")


async def save_as(server: Bed, devices: str, path: Path) -> None:
    """Have a file hold a domain with these devices, which it has no more when it is off."""
    admin = server.who("admin")
    await admin.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=labelled_xml("new", UUID, devices)))
    await until(lambda: server.core.domains.by_name("new") and devices[:9] in _stored(server, "new"))
    await admin.ask("StartDomain", job_pb2.StartDomainRequest(domain=ref("new")))
    await admin.ask("SaveDomain", job_pb2.SaveDomainRequest(domain=ref("new"), path=str(path), overwrite=True))
    await admin.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=labelled_xml("new", UUID, "")))
    await until(lambda: devices[:9] not in _stored(server, "new"))


async def test_what_a_saved_image_holds_is_judged(tmp_path: Path, root: Path) -> None:
    """Whoever could write the file could write the definition that comes back with it."""
    async with bed(tmp_path, tenants(root), SAVED, roots=root) as server:
        path, tenant = root / "tenant-a/saved", server.who("spiffe://example.org/tenant-a")
        restore = job_pb2.RestoreDomainRequest(host="a", uuid=UUID, name="new", path=str(path))
        for devices, action, words in (
            ("<hostdev mode='subsystem' type='pci'/>", "ReachOutside", "<hostdev>"),
            (disk(root / "tenant-b/disk"), "WriteFile", str(root / "tenant-b/disk")),
        ):
            await save_as(server, devices, path)
            denied = await refused(tenant, "RestoreDomain", restore)
            assert denied.info.metadata["action"] == action
            assert words in denied.message
        await save_as(server, disk(root / "tenant-a/disk"), path)
        await tenant.ask("RestoreDomain", restore)


async def test_a_commit_writes_to_what_was_only_read(tmp_path: Path, root: Path) -> None:
    """A disk's own images may be committed to; not a shared one that they lie on."""
    layer = "<backingStore type='file'><format type='qcow2'/><source file='{}'/>{}</backingStore>"
    chain = layer.format(root / "tenant-a/middle", layer.format(root / "base/debian", ""))
    xml = labelled_xml("new", UUID, disk(root / "tenant-a/top", "qcow2", chain))
    async with bed(tmp_path, tenants(root), SAVED + "&block_seconds=0.01", roots=root) as server:
        await server.who("admin").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=xml))
        await until(lambda: server.core.domains.by_name("new") and "middle" in _stored(server, "new"))
        await server.who("admin").ask("StartDomain", job_pb2.StartDomainRequest(domain=ref("new")))
        lowest = job_pb2.CommitBlockRequest(domain=ref("new"), disk="vdx")
        await denied_file(server, "CommitBlock", lowest, "WriteFile", root / "base/debian")
        middle = job_pb2.CommitBlockRequest(domain=ref("new"), disk="vdx", base=str(root / "tenant-a/middle"))
        await server.who("spiffe://example.org/tenant-a").ask("CommitBlock", middle)


async def test_who_may_use_all_files_is_asked_nothing(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver is asked where files lead for an operator of the shipped roles, whose files the driver itself holds against the roots."""
    async with bed(tmp_path, ROLES, SAVED, roots=root) as server:
        monkeypatch.setattr(HostFiles, "follow", None)
        await server.who("operator").ask("SaveDomain", save(root / "file"))
        await server.who("admin").ask("AttachDevice", job_pb2.AttachDeviceRequest(domain=ref("guest-2"), xml=disk(root / "x", "qcow2")))
        await refused(server.who("operator"), "SaveDomain", job_pb2.SaveDomainRequest(domain=ref("guest-2"), path="/etc/x"), "PATH_NOT_ALLOWED")
