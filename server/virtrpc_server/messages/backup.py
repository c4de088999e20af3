"""A backup on its way as a Backup."""

from __future__ import annotations

from virtrpc.v1 import types_pb2
from virtrpc_drivers.values import BackupInfo, BackupServer


def backup_message(backup: BackupInfo) -> types_pb2.Backup:
    """A backup, as the hypervisor describes it."""
    return types_pb2.Backup(
        mode=types_pb2.BACKUP_MODE_PULL if backup.pull else types_pb2.BACKUP_MODE_PUSH,
        incremental=backup.incremental,
        disks=[
            types_pb2.BackupDisk(
                device=disk.device,
                path=disk.path,
                block_device=disk.block_device,
                format=disk.format,
                incremental=disk.incremental,
                export_name=disk.export_name,
            )
            for disk in backup.disks
        ],
        server=_server(backup.server) if backup.server is not None else None,
        scratch_used_bytes=backup.scratch_used_bytes,
        scratch_total_bytes=backup.scratch_total_bytes,
    )


def _server(server: BackupServer) -> types_pb2.BackupServer:
    if server.socket:
        return types_pb2.BackupServer(socket=server.socket, tls=server.tls)
    return types_pb2.BackupServer(tcp=types_pb2.BackupEndpoint(host=server.host, port=server.port), tls=server.tls)
