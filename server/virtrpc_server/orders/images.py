"""Orders: the definitions inside images of saved guests. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import RESUME_STATES, invalid
from virtrpc_server.orders.files import path_of


def define_save_image(request: job_pb2.DefineSaveImageRequest) -> op.DefineSaveImage:
    """DefineSaveImage; the definition says whose image it is."""
    path, given = path_of(request.path), _definition(request.xml)
    return op.DefineSaveImage(uuid=given.uuid, name=given.name, path=path, xml=given.xml, after_restore=RESUME_STATES.get(request.resume_state, ""))


def define_managed_save_image(request: job_pb2.DefineManagedSaveImageRequest, uuid: str) -> op.DefineManagedSaveImage:
    """DefineManagedSaveImage."""
    given = _definition(request.xml)
    if given.uuid != uuid:
        raise invalid("xml", f"it is the definition of {given.name} ({given.uuid}), not of the domain {uuid}")
    return op.DefineManagedSaveImage(uuid=uuid, xml=given.xml, after_restore=RESUME_STATES.get(request.resume_state, ""))


def _definition(xml: str) -> xmls.Definition:
    if not xml:
        raise invalid("xml", "a definition is required")
    try:
        given = xmls.definition(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
    # One without a uuid was given one that is nobody's.
    if given.xml is not xml:
        raise invalid("xml", "the definition has no <uuid>: that of the domain in the image is required")
    return given
