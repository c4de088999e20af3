"""No field of the contract names a file that nobody judges: each text of every request is known to name none, or is shown to be judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.server.policed import bed, ref
from tests.server.test_policy import UUID, refused
from virtrpc.v1 import devices_pb2, types_pb2
from virtrpc_server.contract import METHODS

FOREIGN, OWN = "/images/others/disk", "/images/own/disk"
RULES = """
@id("all-but-files") permit(principal == Caller::"tenant", action, resource) unless { resource is File };
@id("own-files") permit(principal == Caller::"tenant", action in Action::"UseFile", resource) when { resource.path like "/images/own/*" };
"""
DOMAIN = "<domain type='sim'><name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory><devices>{disk}</devices></domain>"
DISK = "<disk type='file' device='disk'><source file='{path}'/><target dev='vdz' bus='virtio'/></disk>"
SNAPSHOT = "<domainsnapshot><disks><disk name='vda' snapshot='external'><source file='{path}'/></disk></disks></domainsnapshot>"
BACKUP = "<domainbackup mode='push'><disks><disk name='vda' type='file'><target file='{path}'/></disk></disks></domainbackup>"
XML_OF = {"AttachDevice": DISK, "UpdateDevice": DISK, "CopyBlock": DISK, "CreateSnapshot": SNAPSHOT, "BackupDomain": BACKUP}
WHOLE = frozenset({"virtrpc.v1.DomainRef", "virtrpc.v1.JobOptions", "google.protobuf.Duration", "google.protobuf.Timestamp"})
"""Messages that every request may have."""
FILES = frozenset({"path", "memory_path", "file", "block", "kernel", "initrd", "log_file", "socket"})
XML = frozenset({"xml", "xml_overlay", "destination_xml", "persistent_xml"})
NO_FILES = (
    *("alias", "arch", "arguments", "bitmap", "bridge", "bus", "cache", "cmdline", "description", "destination", "destination_name", "device"),
    *("discard", "disk", "disk_target", "disks", "export_name", "format", "host", "hosts", "incremental", "init", "interface_mac", "io", "job_id"),
    *("key", "keys", "listen_address", "mac", "machine", "mode", "model", "mountpoints", "name", "name_glob", "network", "os_type", "other", "owner"),
    *("page_token", "parent", "password", "pool", "protocol", "resume_token", "serial", "target", "title", "transport", "user", "uuid", "uuids"),
    *("virt_type", "virtualization_type", "volume"),
)
"""Names of what is said of domains, guests, networks and pools. `init` and `mountpoints` lie in the guest; pools reach outside."""
ELSEWHERE = {
    "backing_chain": "is told in answers alone",
    "hosts.socket": "reaches outside, wherever it is: storage on the network",
    "PlanMigration": "changes nothing, and what MigrateDomain would do is judged there",
    "DetachDevice": "says which device goes",
    "SetBlkioParameters": "is a device of the host whose name is a key: nobody opens it",
    "CreateCheckpoint": "names bitmaps inside of images",
    "checkpoint_xml": "names bitmaps inside of images",
    "GetDomainCapabilities": "is a program, which is none of guests' files: tests/drivers/test_conformance_files.py",
    "migrate_uri": "is a place on the network, held against migration_schemes",
    "MigrateDomain.settings.uri": "is a place on the network, held against migration_schemes",
    "MigrateDomain.settings.storage.uri": "is a place on the network, held against migration_schemes",
    "GetMetadata.uri": "is a namespace",
    "SetMetadata.element": "is the applications' own",
    "PullBlock.base": "is one of the domain's own images",
    "CommitBlock": "is one of the domain's own images, judged in test_policy_files.py",
}
"""Parts of fields' ways whose texts are judged by other means, or not at all, and why."""

Way = tuple[FieldDescriptor, ...]


def texts(kind: Descriptor, way: Way = ()) -> Iterator[Way]:
    """The way to each text of a request."""
    for field in kind.fields:
        below = field.message_type
        if below is not None:
            if below.full_name not in WHOLE and below not in [step.message_type for step in way]:
                yield from texts(below, (*way, field))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type != FieldDescriptor.TYPE_BYTES:
            yield (*way, field)


def called(method: MethodDescriptor, way: Way) -> str:
    """A field's whole name."""
    return ".".join((method.name, *(field.name for field in way)))


def elsewhere(name: str) -> bool:
    """Whether it is known why a field is not judged as a file."""
    return any(f".{part}." in f".{name}." for part in ELSEWHERE)


FIELDS = {called(method, way): (method, way) for method in METHODS for way in texts(method.input_type)}
JUDGED = [name for name, (_, way) in FIELDS.items() if not elsewhere(name) and way[-1].name in FILES | XML]


def asked(method: MethodDescriptor, way: Way, uuid: str) -> Any:
    """A request with a foreign file in this field, and whatever else it takes to be understood."""
    request: Any = GetMessageClass(method.input_type)()
    held: Any = request
    for field in way[:-1]:
        held = getattr(held, field.name)
        held = held.add() if field.is_repeated else held
        _complete(held)
    name = way[-1].name
    _fill(request, method.name, uuid)
    whole = DOMAIN if method.name != "RestoreDomain" else DOMAIN.replace("{name}", "new").replace("{uuid}", UUID)
    xml = XML_OF.get(method.name, whole).format(name="guest-1", uuid=uuid, path=FOREIGN, disk=DISK.format(path=FOREIGN))
    if name == "xml_overlay":
        xml = f"<domain><devices>{DISK.format(path=FOREIGN)}</devices></domain>"
    setattr(held, name, xml if name in XML else FOREIGN)
    if held.DESCRIPTOR.name == "BackupServer":
        request.definition.mode = types_pb2.BACKUP_MODE_PULL
    return request


def _complete(held: Any) -> None:
    """What a part needs beside its file."""
    match held.DESCRIPTOR.name:
        case "DomainSpec":
            held.name, held.memory_bytes = "new", 1 << 20
        case "SnapshotDisk" | "BackupDisk" as kind:
            held.device = "vda"
            if kind == "SnapshotDisk":
                held.location = 3
        case "SnapshotDefinition":
            held.memory_location = 3
        case "BackupDefinition":
            held.disks.add(device="vda", path=OWN)
        case "KernelBoot":
            held.kernel = OWN
        case "Disk":
            held.target = "vda"
        case "Graphics":
            held.type = devices_pb2.GRAPHICS_TYPE_VNC
        case "MigrationSettings":
            held.host, held.persist_destination = "b", True


def _fill(request: Any, rpc: str, uuid: str) -> None:
    fields = request.DESCRIPTOR.fields_by_name
    if "domain" in fields:
        request.domain.CopyFrom(ref("guest-1", "a"))
    if "host" in fields:
        request.host = "a"
    if rpc == "AttachDevice" and request.HasField("disk"):
        request.disk.target = "vdz"
    if rpc == "CopyBlock":
        request.disk = "vda"
    if "path" in fields:
        request.path = OWN
    if rpc == "RestoreDomain":
        request.uuid, request.name = UUID, "new"
    if rpc == "DefineSaveImage":
        request.xml = DOMAIN.format(name="guest-1", uuid=uuid, disk="")


def test_each_text_is_known() -> None:
    """A new field is a file, which the next test shows to be judged, or none."""
    for name, (_, way) in FIELDS.items():
        known = elsewhere(name) or way[-1].name in (*FILES, *XML, *NO_FILES)
        assert known, f"{name}: does it name a file of the host? policy/uses.py finds those"
    for part in ELSEWHERE:
        assert any(f".{part}." in f".{name}." for name in FIELDS), f"{part} is no field any more"


async def test_each_file_is_judged(tmp_path: Path) -> None:
    """A request that names somebody else's file below the roots ends PERMISSION_DENIED, which names the file, and nothing has begun."""
    async with bed(tmp_path, RULES, "sim://a/?domains=2&running=1", "sim://b/?domains=0&seed=2") as server:
        (entry,) = server.core.domains.by_name("guest-1", "a")
        for name in JUDGED:
            method, way = FIELDS[name]
            denied = await refused(server.who("tenant"), method.name, asked(method, way, entry.uuid))
            assert denied.info.metadata["action"] in ("ReadFile", "WriteFile"), name
            assert f"{FOREIGN!r} of host " in denied.message, name
        assert not server.core.jobs.ids()
