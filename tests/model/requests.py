"""A verb's request, from plain values that a failing script can show."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from virtrpc.v1 import job_pb2, snapshot_pb2, types_pb2

MIB = 1 << 20
XML = "<domain type='test'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>{}</memory><os><type>hvm</type></os></domain>"
DISK = "<disk type='file' device='disk'><source file='/var/lib/libvirt/{0}.img'/><target dev='{0}'/></disk>"
BLOCKS = ("PullBlock", "CopyBlock", "CommitBlock", "BackupDomain")
DISKS = ("vda", "vdb", "vda")
FINISHES = {"pivot": types_pb2.BLOCK_JOB_FINISH_PIVOT, "stop": types_pb2.BLOCK_JOB_FINISH_STOP}
IMAGES = "/var/lib/libvirt"
CHAIN = "<backingStore type='file'><source file='{0}-1.img'/><backingStore type='file'><source file='{0}-0.img'/></backingStore></backingStore>"
LEAVES = {
    "withdraw": types_pb2.ON_DISCONNECT_UNSPECIFIED,
    "detach": types_pb2.ON_DISCONNECT_DETACH,
    "cancel": types_pb2.ON_DISCONNECT_CANCEL,
}
PLAIN: dict[str, Any] = {
    "StartDomain": job_pb2.StartDomainRequest,
    "ShutdownDomain": job_pb2.ShutdownDomainRequest,
    "RebootDomain": job_pb2.RebootDomainRequest,
    "SuspendDomain": job_pb2.SuspendDomainRequest,
    "ResumeDomain": job_pb2.ResumeDomainRequest,
    "DestroyDomain": job_pb2.DestroyDomainRequest,
    "ManagedSaveDomain": job_pb2.ManagedSaveDomainRequest,
    "RemoveManagedSave": snapshot_pb2.RemoveManagedSaveRequest,
}
VERBS = (
    "SuspendDomain", "SetMemory", "ManagedSaveDomain", "DestroyDomain", "StartDomain", "MigrateDomain", "CreateDomain", "DefineDomain",
    "UndefineDomain", "ResumeDomain", "ShutdownDomain", "RebootDomain", "SetUserPassword", "AttachDevice", "DetachDevice", "UpdateDevice",
    "CreateSnapshot", "RevertToSnapshot", "DeleteSnapshot", "RemoveManagedSave", "PullBlock", "CopyBlock", "CommitBlock", "BackupDomain",
    "ListSnapshots",
)  # fmt: skip
"""Those that a failure is most likely to need come first; the last one is no verb, and waits for the hypervisor all the same."""

FREQUENT = ("SetMemory", "DestroyDomain", "ManagedSaveDomain", "StartDomain", "CopyBlock", "SetUserPassword", "MigrateDomain", "ShutdownDomain")
"""Those during whose first moments the server is killed."""


def options(wait: float, run: float, leave: str, request_id: str) -> types_pb2.JobOptions:
    """How a verb is to be run: seconds, `run` 0 for no limit."""
    return types_pb2.JobOptions(
        request_id=request_id,
        on_disconnect=LEAVES[leave],
        wait_timeout=_seconds(wait),
        run_timeout=_seconds(run) if run else None,
    )


def again(request: Message, leave: str) -> Message:
    """The same request, from one who wants something else when it leaves."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.options.on_disconnect = LEAVES[leave]  # type: ignore[attr-defined]
    return copy


def request(verb: str, uuid: str, host: str, number: int, how: types_pb2.JobOptions) -> Message:
    """One of the forms of a verb, by number: other sizes, names, flags. `host` is where a domain is to be made or to go."""
    domain = types_pb2.DomainRef(uuid=uuid)
    if verb in PLAIN:
        return PLAIN[verb](domain=domain, options=how)  # type: ignore[no-any-return]
    disk = DISK.format(f"vd{'abc'[number % 3]}")
    if verb in BLOCKS:
        return block_job(verb, domain, number, how)
    match verb:
        case "DefineDomain" | "CreateDomain":
            # Another name now and then, and the name of another domain.
            name = f"new-{number % 2}"
            return getattr(job_pb2, f"{verb}Request")(host=host, options=how, xml=XML.format(name, uuid, 64 + number))  # type: ignore[no-any-return]
        case "UndefineDomain":
            return job_pb2.UndefineDomainRequest(domain=domain, options=how, managed_save=number > 0, snapshots_metadata=number > 0)
        case "SetMemory":
            return job_pb2.SetMemoryRequest(domain=domain, options=how, memory_bytes=(64, 512, 1024)[number % 3] * MIB)
        case "SetUserPassword":
            return job_pb2.SetUserPasswordRequest(domain=domain, options=how, user="root", password="x")
        case "AttachDevice" | "DetachDevice" | "UpdateDevice":
            return getattr(job_pb2, f"{verb}Request")(domain=domain, options=how, xml=disk)  # type: ignore[no-any-return]
        case "CreateSnapshot":
            definition = job_pb2.SnapshotDefinition(name=f"s{number}")
            if number == 2:
                definition.memory_location, definition.memory_path = job_pb2.SNAPSHOT_LOCATION_EXTERNAL, "/var/lib/libvirt/s2.mem"
            return job_pb2.CreateSnapshotRequest(domain=domain, options=how, definition=definition)
        case "RevertToSnapshot":
            return job_pb2.RevertToSnapshotRequest(domain=domain, options=how, name=f"s{number}")
        case "DeleteSnapshot":
            return snapshot_pb2.DeleteSnapshotRequest(domain=domain, options=how, name=f"s{number}")
        case "ListSnapshots":
            return snapshot_pb2.ListSnapshotsRequest(domain=domain)
        case "MigrateDomain":
            settings = types_pb2.MigrationSettings(host=host, persist_destination=number != 1, undefine_source=number == 0)
            return job_pb2.MigrateDomainRequest(domain=domain, options=how, settings=settings)
        case _:
            raise ValueError(verb)


def block_job(verb: str, domain: types_pb2.DomainRef, number: int, how: types_pb2.JobOptions) -> Message:
    """What goes on in the background, on the disk with this number: 0 finishes by itself, 1 and 2 wait to be told, where the verb can."""
    disk, path = DISKS[number % 3], f"{IMAGES}/{how.request_id}.img".replace(" ", "-")
    finish = types_pb2.BLOCK_JOB_FINISH_WAIT if number else types_pb2.BLOCK_JOB_FINISH_PIVOT
    match verb:
        case "PullBlock":
            return job_pb2.PullBlockRequest(domain=domain, options=how, disk=disk, bandwidth_bytes_per_second=number * 512 * MIB)
        case "CopyBlock":
            return job_pb2.CopyBlockRequest(domain=domain, options=how, disk=disk, finish=finish, file=job_pb2.BlockCopyFile(path=path))
        case "CommitBlock":
            return job_pb2.CommitBlockRequest(domain=domain, options=how, disk=disk, finish=finish)
    return job_pb2.BackupDomainRequest(domain=domain, options=how, definition=_backup(number, path))


def _backup(number: int, path: str) -> job_pb2.BackupDefinition:
    """One that writes the first disk, one that serves the second, and one that writes both."""
    disks = [types_pb2.BackupDisk(device=disk, path=f"{path}.{disk}") for disk in ("vda", "vdb")]
    if number == 1:
        server = types_pb2.BackupServer(socket=f"{path}.nbd")
        return job_pb2.BackupDefinition(mode=types_pb2.BACKUP_MODE_PULL, disks=disks[1:], server=server)
    return job_pb2.BackupDefinition(mode=types_pb2.BACKUP_MODE_PUSH, disks=disks if number == 2 else disks[:1])


def with_disks(xml: str) -> str:
    """A simulated guest's definition with two disks, each on images that can be pulled and committed."""
    first, rest = xml.split("</disk>", 1)
    second = f"<disk type='file' device='disk'><source file='{IMAGES}/second.img'/><target dev='vdb' bus='virtio'/>"
    return f"{first}{CHAIN.format(f'{IMAGES}/first')}</disk>{second}{CHAIN.format(f'{IMAGES}/second')}</disk>{rest}"


def _seconds(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
