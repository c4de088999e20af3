"""Operations: snapshots."""

from __future__ import annotations

from virtrpc_drivers import image_xml
from virtrpc_drivers.operations.base import Operation
from virtrpc_drivers.xml import parse


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
    def saves_memory(self) -> bool:
        """Whether the guest's memory goes to a file of its own, which has progress and can be aborted."""
        memory = parse(self.xml, "domainsnapshot").find("memory")
        return not self.disk_only and memory is not None and (memory.get("snapshot") == "external" or memory.get("file") is not None)

    @property
    def abortable(self) -> bool:
        return self.saves_memory

    @property
    def files(self) -> tuple[str, ...]:
        return image_xml.files(self.xml, "domainsnapshot")

    @property
    def no_images(self) -> tuple[str, ...]:
        memory = parse(self.xml, "domainsnapshot").find("memory")
        return () if memory is None else (memory.get("file", ""),)


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
