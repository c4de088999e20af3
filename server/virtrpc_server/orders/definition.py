"""Orders: definitions, and domains that are made. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

import re
import uuid as uuids
from typing import TypedDict

from virtrpc.v1 import job_pb2, spec_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.lookup import UUID
from virtrpc_server.orders.common import MAX_NAME_LENGTH, invalid, scope_of
from virtrpc_server.specs.build import Element, finished
from virtrpc_server.specs.domain import domain_patch
from virtrpc_server.specs.site import Place, devices_of_entry, site_of_entry

# libvirt writes a namespace as it is, so that & and < would make another one of it, or end the definition.
_URI = re.compile(r"""[^\s&<>"'\x00-\x1f\x7f]+""")


def define(request: job_pb2.DefineDomainRequest, at: Place) -> op.Define:
    """DefineDomain; a definition without a uuid is given one, a typed one that of the domain of its name.

    A typed definition of a domain that exists becomes a patch, which the driver merges when the job runs: what is stored then is what is kept.
    """
    if request.WhichOneof("source") != "spec":
        if request.replace:
            raise invalid("replace", "is said of a spec: XML always replaces the definition")
        given = _definition(request.xml)
        return op.Define(uuid=given.uuid, name=given.name, xml=given.xml, validate=True)
    uuid = _uuid(request.spec, at.entry)
    if at.entry is not None and not request.replace:
        patch = _change(request.spec, uuid, at.entry)
    else:
        patch = domain_patch(request.spec, uuid, at.site, new=True)
    xml = finished(patch, "spec", patch=not request.replace)
    return op.Define(uuid=uuid, name=request.spec.name, xml=xml, validate=True, merge=not request.replace)


def _change(spec: spec_pb2.DomainSpec, uuid: str, entry: Entry) -> Element:
    if entry.config is None and not all(disk.target for disk in spec.disks):
        raise invalid("spec.disks", "say which by their targets: which disks the domain has was not read yet")
    return domain_patch(spec, uuid, site_of_entry(entry), new=False, present=devices_of_entry(entry))


def create(request: job_pb2.CreateDomainRequest, at: Place) -> op.Create:
    """CreateDomain; a definition without a uuid is given one."""
    if request.WhichOneof("source") == "spec":
        uuid = _uuid(request.spec, at.entry)
        xml = finished(domain_patch(request.spec, uuid, at.site, new=True), "spec", patch=False)
        return op.Create(uuid=uuid, name=request.spec.name, xml=xml, paused=request.paused)
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


def rename(request: job_pb2.RenameDomainRequest, uuid: str) -> op.Rename:
    """RenameDomain."""
    if not request.name or len(request.name) > MAX_NAME_LENGTH or "/" in request.name or "\n" in request.name:
        raise invalid("name", f"a domain's name has 1 to {MAX_NAME_LENGTH} characters, no slash and no line break")
    return op.Rename(uuid=uuid, name=request.name)


def set_metadata(request: job_pb2.SetMetadataRequest, uuid: str) -> op.SetMetadata:
    """SetMetadata."""
    kind, scope = request.WhichOneof("metadata"), scope_of(request.scope)
    match kind:
        case "title":
            if "\n" in request.title:
                raise invalid("title", "a title is one line")
            return op.SetMetadata(uuid=uuid, kind=kind, value=request.title, scope=scope)
        case "description":
            return op.SetMetadata(uuid=uuid, kind=kind, value=request.description, scope=scope)
        case "element":
            return op.SetMetadata(uuid=uuid, kind=kind, scope=scope, **_element(request.element))
        case _:
            raise invalid("metadata", "a title, a description or an element is required")


class _Element(TypedDict, total=False):
    uri: str
    key: str
    value: str


def _element(element: types_pb2.MetadataElement) -> _Element:
    if not _URI.fullmatch(element.uri):
        raise invalid("element.uri", "an element's namespace is required, a URI: it has no blanks, quotes, &, < and >")
    if not element.xml:
        return {"uri": element.uri}
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", element.key, re.ASCII):
        raise invalid("element.key", "an element that is set needs a key: the prefix of its namespace, a letter and then letters, digits, . - or _")
    try:
        xmls.parse(element.xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="element.xml")) from None
    return {"uri": element.uri, "key": element.key, "value": element.xml}


def set_autostart(request: job_pb2.SetAutostartRequest, uuid: str) -> op.SetAutostart:
    """SetAutostart."""
    return op.SetAutostart(uuid=uuid, autostart=request.autostart)


def _uuid(spec: spec_pb2.DomainSpec, entry: Entry | None) -> str:
    if not spec.uuid:
        return str(uuids.uuid4()) if entry is None else entry.uuid
    if UUID.fullmatch(spec.uuid) is None:
        raise invalid("spec.uuid", f"{spec.uuid[:64]!r} is not a UUID of 8-4-4-4-12 hexadecimal digits")
    return spec.uuid.lower()


def _definition(xml: str) -> xmls.Definition:
    if not xml:
        raise invalid("xml", "a definition is required")
    try:
        return xmls.definition(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
