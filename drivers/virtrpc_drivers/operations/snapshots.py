"""Operations: snapshots."""

from __future__ import annotations

from virtrpc_drivers import image_xml
from virtrpc_drivers.operations.base import Operation


class CreateSnapshot(Operation, frozen=True):
    """virDomainSnapshotCreateXML. The name was chosen before it came here, so that it can be looked for."""

    name: str
    xml: str
    disk_only: bool = False
    quiesce: bool = False
    atomic: bool = False
    live: bool = False
    halt: bool = False
    reuse_external: bool = False
    no_metadata: bool = False
    validate: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        return image_xml.files(self.xml, "domainsnapshot")


class RevertToSnapshot(Operation, frozen=True):
    """virDomainRevertToSnapshot. `after`: "", "running" or "paused"."""

    name: str
    after: str = ""
    force: bool = False
    reset_nvram: bool = False


class DeleteSnapshot(Operation, frozen=True):
    """virDomainSnapshotDelete."""

    name: str
    children: bool = False
    children_only: bool = False
    metadata_only: bool = False


AnySnapshots = CreateSnapshot | RevertToSnapshot | DeleteSnapshot
