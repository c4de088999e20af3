"""Operations: memory that goes to a file of the caller's choice, and comes back."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class _File(Operation, frozen=True):
    path: str

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,)


class Save(_File, frozen=True):
    """virDomainSaveFlags. `after_restore`: "", "running" or "paused"; `xml` replaces the definition that it comes back with."""

    overwrite: bool = False
    bypass_cache: bool = False
    after_restore: str = ""
    xml: str = ""


class Restore(_File, frozen=True):
    """virDomainRestoreFlags, of an image that holds the domain of this uuid. `after`: "", "running" or "paused"."""

    name: str
    bypass_cache: bool = False
    after: str = ""
    xml: str = ""


class DumpCore(_File, frozen=True):
    """virDomainCoreDumpWithFormat. `format`: raw, kdump_zlib, kdump_lzo or kdump_snappy."""

    overwrite: bool = False
    format: str = "raw"
    memory_only: bool = False
    live: bool = False
    crash: bool = False
    reset: bool = False
    bypass_cache: bool = False

    @property
    def abortable(self) -> bool:
        return not self.memory_only


AnyFiles = Save | Restore | DumpCore
