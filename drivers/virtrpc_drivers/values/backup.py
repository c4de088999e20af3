"""A backup of a running domain's disks."""

from __future__ import annotations

from virtrpc_drivers.values.base import Value


class BackupDisk(Value, frozen=True):
    """One disk that takes part. Empty is unset."""

    device: str
    """Its target."""
    path: str = ""
    """Where it is copied to; of a pull, what keeps the blocks that the guest overwrites meanwhile."""
    block_device: bool = False
    """Whether that is a device, which is there already, rather than a file."""
    format: str = ""
    incremental: str = ""
    """The checkpoint since which the disk's changes are taken; empty for all of it."""
    export_name: str = ""
    """By which a pull's server exports it."""


class BackupServer(Value, frozen=True):
    """Where a pull is fetched from, by NBD: a socket's path, or a host and port."""

    socket: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False


class BackupInfo(Value, frozen=True):
    """A backup as the hypervisor describes it (virDomainBackupGetXMLDesc)."""

    disks: tuple[BackupDisk, ...] = ()
    incremental: str = ""
    server: BackupServer | None = None
    """None for a push: the hypervisor writes files of its own accord."""
    scratch_used_bytes: int | None = None
    """Of a pull: how much of the guest's overwritten blocks is kept."""
    scratch_total_bytes: int | None = None

    @property
    def pull(self) -> bool:
        """Whether the hypervisor waits to be asked for the data."""
        return self.server is not None
