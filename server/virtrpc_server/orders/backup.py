"""Orders: backups, each refused where it can be seen to be wrong."""

from __future__ import annotations

import ipaddress
from xml.etree import ElementTree

from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.values import BackupInfo, BackupServer
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders import checkpoints
from virtrpc_server.orders.common import invalid
from virtrpc_server.orders.files import path_of

PULL = types_pb2.BACKUP_MODE_PULL
MAX_PORT = (1 << 16) - 1


def backup_domain(request: job_pb2.BackupDomainRequest, uuid: str) -> op.Backup:
    """BackupDomain. What XML asks for is held to the same rules as the typed form."""
    xml = request.xml if request.WhichOneof("source") == "xml" else build(request.definition)
    name, checkpoint_xml = _checkpoint(request)
    operation = op.Backup(uuid=uuid, xml=xml, checkpoint=name, checkpoint_xml=checkpoint_xml, reuse_external=request.reuse_external)
    try:
        asked = operation.asked
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
    _check(asked)
    return operation


def _checkpoint(request: job_pb2.BackupDomainRequest) -> tuple[str, str]:
    match request.WhichOneof("checkpoint_source"):
        case "checkpoint_xml":
            return checkpoints.checkpoint_of(request.checkpoint_xml, "checkpoint_xml")
        case "checkpoint":
            return checkpoints.checkpoint_of(checkpoints.build(request.checkpoint), "checkpoint")
    return "", ""


def _check(asked: BackupInfo) -> None:
    if not asked.disks:
        raise invalid("definition.disks", "name each disk that is to be backed up")
    for disk in asked.disks:
        if not disk.device or not disk.path:
            named = disk.device or "(without a name)"
            raise invalid("definition.disks", f"disk {named} needs a file: else the hypervisor chooses one beside its image")
    if asked.server is not None:
        _check_server(asked.server)


def _check_server(server: BackupServer) -> None:
    if server.socket:
        return
    if not 1 <= server.port <= MAX_PORT:
        raise invalid("definition.server", "a pull needs a socket, or a TCP port from 1 to 65535, to serve its data")
    if not server.tls and not _is_loopback(server.host):
        raise invalid("definition.server", f"whoever reaches {server.host} could read the disks: use TLS, a loopback address or a socket")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def build(definition: job_pb2.BackupDefinition) -> str:
    """The <domainbackup> of a typed definition; what it leaves unset libvirt decides."""
    pull = definition.mode == PULL
    root = ElementTree.Element("domainbackup", mode="pull" if pull else "push")
    if definition.incremental:
        ElementTree.SubElement(root, "incremental").text = definition.incremental
    if pull:
        root.append(_server(definition.server))
    disks = ElementTree.SubElement(root, "disks")
    for number, disk in enumerate(definition.disks):
        disks.append(_disk(disk, f"definition.disks[{number}].path", pull=pull))
    return ElementTree.tostring(root, encoding="unicode")


def _server(server: types_pb2.BackupServer) -> ElementTree.Element:
    element = ElementTree.Element("server", transport="unix" if server.socket else "tcp")
    if server.socket:
        element.set("socket", path_of(server.socket, "definition.server.socket"))
    else:
        element.set("name", server.tcp.host or "localhost")
        element.set("port", str(server.tcp.port))
    if server.tls:
        element.set("tls", "yes")
    return element


def _disk(disk: types_pb2.BackupDisk, field: str, *, pull: bool) -> ElementTree.Element:
    element = ElementTree.Element("disk", name=disk.device, type="block" if disk.block_device else "file")
    if disk.incremental:
        element.set("backupmode", "incremental")
        element.set("incremental", disk.incremental)
    if disk.export_name and pull:
        element.set("exportname", disk.export_name)
    store = ElementTree.SubElement(element, "scratch" if pull else "target")
    store.set("dev" if disk.block_device else "file", path_of(disk.path, field))
    if disk.format:
        ElementTree.SubElement(element, "driver", type=disk.format)
    return element
