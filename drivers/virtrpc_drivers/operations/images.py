"""Operations: the definitions inside images of saved guests."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class DefineSaveImage(Operation, frozen=True):
    """virDomainSaveImageDefineXML, of an image that holds the domain of this uuid. `after_restore`: "" (as it is), "running" or "paused"."""

    name: str
    path: str
    xml: str
    after_restore: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,)


class DefineManagedSaveImage(Operation, frozen=True):
    """virDomainManagedSaveDefineXML. `after_restore`: "" (as it is), "running" or "paused"."""

    xml: str
    after_restore: str = ""


AnyImages = DefineSaveImage | DefineManagedSaveImage
