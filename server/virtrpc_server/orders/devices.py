"""Orders: devices. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import invalid, scope_of


def attach_device(request: job_pb2.AttachDeviceRequest, uuid: str) -> op.AttachDevice:
    """AttachDevice."""
    return op.AttachDevice(uuid=uuid, xml=_device(request.xml), scope=scope_of(request.scope))


def detach_device(request: job_pb2.DetachDeviceRequest, uuid: str) -> op.DetachDevice:
    """DetachDevice."""
    return op.DetachDevice(uuid=uuid, xml=_device(request.xml), scope=scope_of(request.scope))


def update_device(request: job_pb2.UpdateDeviceRequest, uuid: str) -> op.UpdateDevice:
    """UpdateDevice."""
    return op.UpdateDevice(uuid=uuid, xml=_device(request.xml), scope=scope_of(request.scope), force=request.force)


def _device(xml: str) -> str:
    if not xml:
        raise invalid("xml", "a device is required")
    try:
        xmls.parse(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
    return xml
