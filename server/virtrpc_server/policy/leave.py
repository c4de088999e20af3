"""Leave for what verbs carry along: the identity that they give a domain, its labels, and what reaches outside of the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from xml.etree import ElementTree

from virtrpc_drivers import merging
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.metadata import namespace
from virtrpc_drivers.values import DomainConfig
from virtrpc_drivers.xml import parse
from virtrpc_server.caller import call
from virtrpc_server.domains import Entry
from virtrpc_server.errors import not_yet, refuse
from virtrpc_server.lookup import Lookup
from virtrpc_server.policy.actions import REACH_OUTSIDE, SEE_DOMAIN, SET_LABELS
from virtrpc_server.policy.decisions import denied
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.labels import LABELS_URI, Labels, labels_as_running, labels_in, labels_of, labels_of_element
from virtrpc_server.policy.outside import reaching, sharing

Element = ElementTree.Element
Roots: TypeAlias = Callable[[str], tuple[str, ...]]
"""The directories of a host, by its name, below which files that requests name must be."""
Coming: TypeAlias = Callable[[str, str], Iterable[Labels]]
"""The labels that jobs are about to give a domain, by its host and uuid: what waits behind them must not undo that."""

_XML = ("xml", "destination_xml", "persistent_xml")
_LONG = 64 << 10
_MORE = 5
"""Parts that reach outside, of which a refusal tells."""


def nothing_comes(_host: str, _uuid: str) -> Iterable[Labels]:
    """What has its turn waits behind no job."""
    return ()


@dataclass(frozen=True, slots=True)
class Carried:
    """What an operation brings along."""

    labels: tuple[Labels, ...] = ()
    """Those that it would have the domain get, by each of its definitions; none where it says nothing of them."""
    outside: tuple[str, ...] = ()


class Leave:
    """Asks the rules about what an operation carries. Each function gives the labels that the domain will have."""

    def __init__(self, lookup: Lookup, roots: Roots, coming: Coming) -> None:
        self._lookup = lookup
        self._sight = lookup.sight
        self._roots = roots
        self._coming = coming

    async def changing(self, operation: op.AnyOperation, entry: Entry, to: str = "") -> Labels:
        """To do this to a domain that the caller may do it to, here or on another host. Raises Refusal (PERMISSION_DENIED, ALREADY_EXISTS)."""
        config = entry.config.value if entry.config is not None else None
        had = labels_of(config)
        if not self._sight.policed:
            return had
        carried = await self._carried(operation, to or entry.host, config)
        if isinstance(operation, op.Rename):
            self._sight.demand(call.get().rpc, Resource(entry.host, entry.uuid, operation.name, had))
            self._free(entry.host, entry.uuid, operation.name)
        if isinstance(operation, op.RevertToSnapshot) and self._sight.labels_matter:
            # The definition of then comes back, and nobody here knows which labels are in it.
            self._sight.demand(SET_LABELS, self._sight.resource(entry), "those of the snapshot come back")
        if isinstance(operation, op.Undefine | op.Migrate) and (running := labels_as_running(config)) != had:
            # What is stored stays behind, or goes: the labels of the running domain count then.
            for each in (had, running):
                self._sight.demand(SET_LABELS, self._sight.resource(entry)._replace(labels=each), "it runs with other labels than are stored")
        return self._granted(carried, self._sight.resource(entry))

    async def making(self, operation: op.AnyOperation, host: str, name: str) -> Labels:
        """To make this domain, or to give one another definition: it may be called and labelled otherwise afterwards. Raises as `changing`."""
        entry = self._lookup.existing(host, operation.uuid, "")
        config = entry.config.value if entry is not None and entry.config is not None else None
        had = labels_of(config)
        if not self._sight.policed:
            return had
        self.replacing(entry, name)
        carried = await self._carried(operation, host, config)
        labels = self._granted(carried, new := Resource(host, operation.uuid, name, had))
        self._sight.demand(call.get().rpc, new._replace(labels=labels))
        if not isinstance(operation, op.DefineSaveImage):
            self._free(host, operation.uuid, name)
        return labels

    def replacing(self, entry: Entry | None, name: str) -> None:
        """To give another definition to this domain, which the caller calls by this name. Raises PERMISSION_DENIED."""
        if entry is None or not self._sight.policed:
            return
        if self._sight.unread(entry) and not self._sight.all_seen(SET_LABELS):
            # Which labels would be lost is not known.
            raise not_yet(f"the definition of {name!r} has not been read yet, and with it who may replace it", host=entry.host, domain=entry.uuid)
        for action in (SEE_DOMAIN, call.get().rpc):
            verdict = self._sight.verdict(action, self._sight.resource(entry))
            if not verdict.allowed:
                # What the domain is called now may be none of the caller's business.
                raise denied(self._sight.caller, action, verdict, f"domain {name}")

    async def moving(self, operation: op.Migrate, entry: Entry, to: str) -> Labels:
        """To move a domain there, where it may be called otherwise. What leaves this server's hosts is on none. Raises as `changing`."""
        labels = await self.changing(operation, entry, to)
        if self._sight.policed:
            name = operation.new_name or entry.name
            self._sight.check_at(entry, to, name, labels)
            if to:
                self._arriving(to, entry.uuid, name, labels)
                self._free(to, entry.uuid, name)
        return labels

    def _arriving(self, to: str, uuid: str, name: str, labels: Labels) -> None:
        # A definition that is stored there already is replaced by what arrives, or stays, and its labels count then.
        there = self._lookup.existing(to, uuid, "")
        self.replacing(there, name)
        if there is not None and (stored := self._sight.resource(there)).labels != labels:
            for each in (stored.labels, labels):
                self._sight.demand(SET_LABELS, Resource(to, uuid, name, each), f"host {to} has a definition of it with other labels")

    def _granted(self, carried: Carried, resource: Resource) -> Labels:
        """The labels that the domain will have; of several definitions those of the last."""
        labels = resource.labels
        for labels in carried.labels:
            if any(labels != others for others in (resource.labels, *self._coming(resource.host, resource.uuid))):
                for each in (resource, resource._replace(labels=labels)):
                    self._sight.demand(SET_LABELS, each)
        if carried.outside:
            more = len(carried.outside) - _MORE
            told = ", ".join(carried.outside[:_MORE]) + (f" and {more} more" if more > 0 else "")
            self._sight.demand(REACH_OUTSIDE, resource._replace(labels=labels), told)
        return labels

    def _free(self, host: str, uuid: str, name: str) -> None:
        # The hypervisor would refuse it as well, and tell the uuid of a domain that the caller may not see.
        others = [entry for entry in self._lookup.called(name, host) if entry.uuid != uuid]
        if any(not self._sight.sees(entry) for entry in others):
            raise refuse("ALREADY_EXISTS", f"host {host} has another domain called {name!r}", host=host)

    async def _carried(self, operation: op.AnyOperation, host: str, config: DomainConfig | None) -> Carried:
        texts = [text for field in _XML if (text := getattr(operation, field, ""))]
        if not texts and not isinstance(operation, op.SetMetadata | op.Restore):
            return Carried()
        roots = self._roots(host)
        size = sum(map(len, texts)) + (len(config.xml) if config is not None else 0)
        if size <= _LONG:
            return carried_by(operation, texts, config, roots)
        return await asyncio.to_thread(carried_by, operation, texts, config, roots)


def carried_by(operation: op.AnyOperation, texts: list[str], config: DomainConfig | None, roots: tuple[str, ...]) -> Carried:
    """What an operation with these texts brings along, for a domain that has this definition, if any. Works on values."""
    match operation:
        case op.SetMetadata():
            return Carried(_of_metadata(operation))
        case op.Restore() if not texts and config is None:
            # What comes back transient has the labels that its file holds, whoever wrote them.
            return Carried(((("", "of the image"),),))
        case op.DetachDevice():
            return Carried()
    roots_of_texts = [parse(text) for text in texts]
    present = [root for text in (config.xml, config.inactive_xml) if (root := _parsed(text)) is not None] if config is not None else []
    patch = bool(getattr(operation, "merge", False))
    outside = [words for root in roots_of_texts for words in reaching(root, roots, present, patch=patch)]
    if patch:
        # What it makes of the stored definition: labels can be taken away, and be in a part that follows.
        roots_of_texts = [merging.merged(present[-1], root) if present else merging.plain(root) for root in roots_of_texts]
    domains = [root for root in roots_of_texts if root.tag == "domain"]
    outside += [words for root in domains if (words := sharing(root)) and words not in map(sharing, present)]
    return Carried(tuple(map(labels_in, domains)), tuple(dict.fromkeys(outside)))


def _parsed(text: str | None) -> Element | None:
    try:
        return parse(text) if text else None
    except DriverError:  # what libvirt wrote is too long for us
        return None


def _of_metadata(operation: op.SetMetadata) -> tuple[Labels, ...]:
    if operation.kind != "element":
        return ()
    # libvirt keeps the namespace that an element has of its own, whatever it is said to be set for.
    own = operation.value and namespace(parse(operation.value)) == LABELS_URI
    return (labels_of_element(operation.value),) if own or operation.uri == LABELS_URI else ()
