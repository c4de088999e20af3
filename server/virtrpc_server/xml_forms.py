"""The forms of a domain's XML, out of the cache."""

from __future__ import annotations

from virtrpc.v1 import query_pb2
from virtrpc_drivers.values import DomainConfig, Group
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal, refuse
from virtrpc_server.hosts import Host
from virtrpc_server.messages.common import identity_message, observation


def answer(entry: Entry, host: Host, *, inactive: bool, migratable: bool) -> query_pb2.GetDomainXmlResponse:
    """The form that is asked for. Raises HOST_UNREACHABLE where it was not read yet, WRONG_STATE, UNSUPPORTED_BY_HYPERVISOR."""
    if entry.config is None:
        raise unread(entry)
    config = entry.config.value
    if inactive and not config.persistent:
        raise refuse_transient(entry)
    # What a domain that is off has is its stored definition.
    stored = config.persistent and (inactive or (entry.state is not None and not entry.active))
    return query_pb2.GetDomainXmlResponse(
        domain=identity_message(entry),
        xml=_migratable(entry, config, stored=stored) if migratable else _plain(entry, config, stored=stored),
        inactive=stored,
        observation=observation(host.group_freshness(entry, Group.CONFIG), entry.config),
    )


def _plain(entry: Entry, config: DomainConfig, *, stored: bool) -> str:
    if not stored:
        return config.xml
    if config.inactive_xml is not None:
        return config.inactive_xml
    # Read while it was off, when there is only the one; else it would be the running guest's.
    if entry.active:
        raise unread(entry)
    return config.xml


def _migratable(entry: Entry, config: DomainConfig, *, stored: bool) -> str:
    if config.migratable_xml is None or (stored and entry.active):
        which = "stored definition" if stored else "domain"
        raise refuse(
            "UNSUPPORTED_BY_HYPERVISOR", f"no migratable form of the {which} of {entry.name} is to be had", domain=entry.uuid, host=entry.host
        )
    return config.migratable_xml


def unread(entry: Entry) -> Refusal:
    """The refusal of what was not read yet."""
    return refuse("HOST_UNREACHABLE", f"this form of the definition of {entry.name} has not been read yet", domain=entry.uuid, host=entry.host)


def refuse_transient(entry: Entry) -> Refusal:
    """The refusal of a stored definition where there is none."""
    state = entry.state.value.state.value if entry.state is not None else ""
    return refuse("WRONG_STATE", f"domain {entry.name} is transient: it has no stored definition", domain=entry.uuid, host=entry.host, state=state)
