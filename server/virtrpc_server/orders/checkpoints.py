"""Orders: checkpoints. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

import secrets
import time
from xml.etree import ElementTree

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import MAX_NAME_LENGTH, invalid
from virtrpc_server.snapshot_xml import named

ROOT = "domaincheckpoint"


def create_checkpoint(request: job_pb2.CreateCheckpointRequest, uuid: str) -> op.CreateCheckpoint:
    """CreateCheckpoint."""
    name, xml = checkpoint_of(request.xml or build(request.definition), "xml")
    return op.CreateCheckpoint(uuid=uuid, name=name, xml=xml, quiesce=request.quiesce)


def checkpoint_of(xml: str, field: str) -> tuple[str, str]:
    """The name of a checkpoint to be, and its XML: one without a name gets one here, so that it can be looked for."""
    fallback = f"{time.strftime('checkpoint-%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    try:
        name, xml = named(xml, fallback, ROOT)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field=field)) from None
    return checkpoint_name(name), xml


def delete_checkpoint(request: job_pb2.DeleteCheckpointRequest, uuid: str) -> op.DeleteCheckpoint:
    """DeleteCheckpoint."""
    if request.children and request.children_only:
        raise invalid("children_only", "children and children_only exclude each other")
    return op.DeleteCheckpoint(
        uuid=uuid,
        name=checkpoint_name(request.name),
        children=request.children,
        children_only=request.children_only,
        metadata_only=request.metadata_only,
    )


def checkpoint_name(name: str) -> str:
    """A checkpoint's name; refused where it cannot be one."""
    if not name or len(name) > MAX_NAME_LENGTH or "/" in name:
        raise invalid("name", f"a checkpoint's name has 1 to {MAX_NAME_LENGTH} characters and no slash")
    return name


def build(definition: job_pb2.CheckpointDefinition) -> str:
    """The <domaincheckpoint> of a typed definition; what it leaves unset libvirt decides."""
    root = ElementTree.Element(ROOT)
    for tag, text in (("name", definition.name), ("description", definition.description)):
        if text:
            ElementTree.SubElement(root, tag).text = text
    if definition.disks:
        disks = ElementTree.SubElement(root, "disks")
        for disk in definition.disks:
            element = ElementTree.SubElement(disks, "disk", name=disk.device, checkpoint="no" if disk.excluded else "bitmap")
            if disk.bitmap:
                element.set("bitmap", disk.bitmap)
    return ElementTree.tostring(root, encoding="unicode")
