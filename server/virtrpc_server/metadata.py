"""What applications and people keep in a domain's definition, out of the cache."""

from __future__ import annotations

from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_drivers.values import DomainConfig, Group, Metadata
from virtrpc_server.domains import Entry
from virtrpc_server.errors import refuse
from virtrpc_server.hosts import Host
from virtrpc_server.messages.common import identity_message, observation
from virtrpc_server.xml_forms import refuse_transient, unread


def answer(entry: Entry, host: Host, *, inactive: bool, uri: str) -> query_pb2.GetMetadataResponse:
    """The metadata that are asked for. Raises HOST_UNREACHABLE where they were not read yet, WRONG_STATE, METADATA_NOT_FOUND."""
    if entry.config is None:
        raise unread(entry)
    config = entry.config.value
    if inactive and not config.persistent:
        raise refuse_transient(entry)
    found = _of(config, inactive=inactive)
    elements = [element for element in found.elements if uri in ("", element.uri)]
    if uri and not elements:
        raise refuse("METADATA_NOT_FOUND", f"domain {entry.name} has no element of {uri!r}", uri=uri, domain=entry.uuid, host=entry.host)
    return query_pb2.GetMetadataResponse(
        domain=identity_message(entry),
        observation=observation(host.group_freshness(entry, Group.CONFIG), entry.config),
        title=found.title,
        description=found.description,
        elements=[types_pb2.MetadataElement(uri=element.uri, xml=element.xml) for element in elements],
    )


def _of(config: DomainConfig, *, inactive: bool) -> Metadata:
    return config.inactive_metadata if inactive and config.inactive_metadata is not None else config.metadata
