"""Operations: backups, which go on in the hypervisor after their call."""

from __future__ import annotations

from virtrpc_drivers import image_xml
from virtrpc_drivers.backup_xml import described
from virtrpc_drivers.operations.base import Operation
from virtrpc_drivers.values import BackupInfo
from virtrpc_drivers.xml import parse


class Backup(Operation, frozen=True, kw_only=True):
    """virDomainBackupBegin. A push writes files; a pull serves the data until it is told to stop. A checkpoint is what later ones can build on."""

    xml: str
    checkpoint: str = ""
    checkpoint_xml: str = ""
    reuse_external: bool = False

    @property
    def asked(self) -> BackupInfo:
        """What the XML asks for, before the hypervisor fills in the rest."""
        return described(parse(self.xml, "domainbackup"))

    @property
    def files(self) -> tuple[str, ...]:
        return image_xml.files(self.xml, "domainbackup")

    @property
    def sockets(self) -> tuple[str, ...]:
        """Where the hypervisor is to listen; it removes what stands there."""
        server = self.asked.server
        return (server.socket,) if server is not None and server.socket else ()

    @property
    def no_images(self) -> tuple[str, ...]:
        return self.sockets

    @property
    def new_files(self) -> tuple[str, ...]:
        """Those of its files that the hypervisor makes, and that must not be there yet."""
        return () if self.reuse_external else tuple(disk.path for disk in self.asked.disks if disk.path and not disk.block_device)


AnyBackup = Backup
