"""A <domainbackup> as values: the same for every driver."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from virtrpc_drivers.values import BackupDisk, BackupInfo, BackupServer

Element = ElementTree.Element


def described(root: Element) -> BackupInfo:
    """A <domainbackup>, which a caller or libvirt wrote."""
    pull = root.get("mode") == "pull"
    disks = (disk for disk in root.iterfind("disks/disk") if disk.get("backup") != "no")
    return BackupInfo(
        disks=tuple(_disk(disk, pull=pull) for disk in disks),
        incremental=root.findtext("incremental") or "",
        server=_server(root.find("server")) if pull else None,
    )


def _disk(disk: Element, *, pull: bool) -> BackupDisk:
    device = disk.get("name", "")
    store, driver = disk.find("scratch" if pull else "target"), disk.find("driver")
    block_device = disk.get("type") == "block"
    path = store.get("dev" if block_device else "file", "") if store is not None else ""
    image_format = driver.get("type", "") if driver is not None else ""
    export = disk.get("exportname", device) if pull else ""
    return BackupDisk(
        device=device,
        path=path,
        block_device=block_device,
        format=image_format,
        incremental=disk.get("incremental", ""),
        export_name=export,
    )


def _server(server: Element | None) -> BackupServer:
    if server is None:
        return BackupServer()
    return BackupServer(
        socket=server.get("socket", ""), host=server.get("name", ""), port=_port(server.get("port", "")), tls=server.get("tls") == "yes"
    )


def _port(text: str) -> int:
    """Not yet known to be a port, but no larger than any field: 0 is none."""
    return int(text) if re.fullmatch("[0-9]{1,5}", text) else 0
