"""Cases: backups."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t


def _to(path: str) -> j.BackupDefinition:
    return j.BackupDefinition(disks=[t.BackupDisk(device="vda", path=path)])


@case("JobService/BackupDomain", lambda s: ended(s.client.backup_domain(s.ref, definition=_to(s.kind.file("lacked")))))
async def backup_domain(s: Stage) -> None:
    """A backup is written to the file that was named."""
    path = s.kind.file("backup.qcow2")
    job = await s.done(s.client.backup_domain(await s.running(), definition=_to(path), options=LONG))
    assert [disk.path for disk in job.backup.disks] == [path]
