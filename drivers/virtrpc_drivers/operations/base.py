"""What all operations share."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from virtrpc_drivers.values import Trail


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of all operations."""

    uuid: str
    trail: Trail | None = None
    """Where its files were found to lead when it was judged: it is not begun where they lead elsewhere by then. None: whatever they lead to."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files on the host that it names: each must lie inside the configured roots. Raises DriverError for XML that must not be sent."""
        return ()

    @property
    def no_images(self) -> tuple[str, ...]:
        """Those of its files that are no images of disks."""
        return ()

    @property
    def abortable(self) -> bool:
        """Whether this very operation can be aborted, where the hypervisor can abort its kind at all."""
        return True

    @property
    def verb(self) -> str:
        """The operation's tag: its row in the capability table."""
        return type(self).__name__


class Scope(StrEnum):
    """virDomainModificationImpact: what a change applies to."""

    CURRENT = "current"
    """The running guest where there is one, else the stored definition."""
    LIVE = "live"
    CONFIG = "config"
    BOTH = "both"
