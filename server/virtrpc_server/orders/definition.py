"""Orders: definitions, and domains that are made. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import invalid


def define(request: job_pb2.DefineDomainRequest) -> op.Define:
    """DefineDomain; a definition without a uuid is given one."""
    given = _definition(request.xml)
    return op.Define(uuid=given.uuid, name=given.name, xml=given.xml, validate=True)


def create(request: job_pb2.CreateDomainRequest) -> op.Create:
    """CreateDomain; a definition without a uuid is given one."""
    given = _definition(request.xml)
    return op.Create(uuid=given.uuid, name=given.name, xml=given.xml, paused=request.paused)


def undefine(request: job_pb2.UndefineDomainRequest, uuid: str) -> op.Undefine:
    """UndefineDomain."""
    if request.nvram and request.keep_nvram:
        raise invalid("keep_nvram", "nvram and keep_nvram exclude each other")
    return op.Undefine(
        uuid=uuid,
        managed_save=request.managed_save,
        snapshots_metadata=request.snapshots_metadata,
        checkpoints_metadata=request.checkpoints_metadata,
        nvram=request.nvram,
        keep_nvram=request.keep_nvram,
    )


def _definition(xml: str) -> xmls.Definition:
    if not xml:
        raise invalid("xml", "a definition is required")
    try:
        return xmls.definition(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
