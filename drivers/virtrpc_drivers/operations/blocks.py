"""Operations: block jobs, which go on in the hypervisor after their call. Bytes, and bytes a second; zero is no limit, or the hypervisor's choice."""

from __future__ import annotations

from virtrpc_drivers import image_xml
from virtrpc_drivers.operations.base import Operation


class _BlockJob(Operation, frozen=True, kw_only=True):
    disk: str
    """The disk's target."""
    bandwidth_bytes_per_second: int = 0


class PullBlock(_BlockJob, frozen=True):
    """virDomainBlockPull; virDomainBlockRebase where a base stays."""

    base: str = ""


class CopyBlock(_BlockJob, frozen=True, kw_only=True):
    """virDomainBlockCopy to what a <disk> names. `finish`: pivot, stop or wait."""

    xml: str
    finish: str = "wait"
    shallow: bool = False
    reuse_external: bool = False
    transient_job: bool = False
    granularity_bytes: int = 0
    buffer_bytes: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        return image_xml.files(self.xml, "disk")


class CommitBlock(_BlockJob, frozen=True):
    """virDomainBlockCommit. An empty base is the lowest image, an empty top the active one. `finish`, of the active one only: pivot or wait."""

    base: str = ""
    top: str = ""
    finish: str = "pivot"
    delete: bool = False


AnyBlocks = PullBlock | CopyBlock | CommitBlock
