"""Leave for what verbs carry along: the identity that they give a domain, its labels, and what reaches outside of the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias
from xml.etree import ElementTree

from msgspec import structs

from virtrpc_drivers import merging
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.metadata import namespace
from virtrpc_drivers.values import DomainConfig, Trail
from virtrpc_drivers.xml import parse
from virtrpc_server.caller import call
from virtrpc_server.domains import Entry
from virtrpc_server.errors import not_yet, refuse
from virtrpc_server.lookup import Lookup
from virtrpc_server.policy.actions import REACH_OUTSIDE, SEE_DOMAIN, SET_LABELS
from virtrpc_server.policy.decisions import denied
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.labels import LABELS_URI, Labels, labels_as_running, labels_in, labels_of, labels_of_element
from virtrpc_server.policy.outside import below_any, reaching, sharing
from virtrpc_server.policy.uses import Use, declared, described, named, opens
from virtrpc_server.policy.using import Files, Leads

Element = ElementTree.Element
Roots: TypeAlias = Callable[[str], tuple[str, ...]]
"""The directories of a host, by its name, below which files that requests name must be."""
Coming: TypeAlias = Callable[[str, str], Iterable[Labels]]
"""The labels that jobs are about to give a domain, by its host and uuid: what waits behind them must not undo that."""

_XML = ("xml", "destination_xml", "persistent_xml")
_WITH_FILES = (op.Save, op.Restore, op.DumpCore, op.DefineSaveImage, op.Start, op.RevertToSnapshot, op.CommitBlock)
"""What uses files although it describes nothing."""
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
    uses: tuple[Use, ...] = ()
    """Files, where these matter to the caller."""
    declared: frozenset[str] = frozenset()
    """Files that the domain has."""


@dataclass(frozen=True, slots=True)
class Granted:
    """An operation that its caller may have done, and the labels that its domain will have."""

    operation: op.AnyOperation
    labels: Labels


def as_it_is(operation: op.AnyOperation, entry: Entry) -> Granted:
    """What brings nothing along, and leaves the domain's labels."""
    return Granted(operation, labels_of(entry.config.value if entry.config is not None else None))


class Leave:
    """Asks the rules about what an operation carries."""

    def __init__(self, lookup: Lookup, roots: Roots, files: Files, coming: Coming) -> None:
        self._files = files
        self._lookup = lookup
        self._sight = lookup.sight
        self._roots = roots
        self._coming = coming

    async def changing(self, operation: op.AnyOperation, entry: Entry, to: str = "") -> Granted:
        """To do this to a domain that the caller may do it to, here or on another host. Raises Refusal (PERMISSION_DENIED, ALREADY_EXISTS)."""
        plain = as_it_is(operation, entry)
        if not self._sight.policed:
            return plain
        host = to or entry.host
        carried = await self._carried(operation, host, entry, elsewhere=host != entry.host)
        operation, carried = await self._using(operation, host, entry, carried)
        if isinstance(operation, op.Rename):
            self._sight.demand(call.get().rpc, Resource(entry.host, entry.uuid, operation.name, plain.labels))
            self._free(entry.host, entry.uuid, operation.name)
        if isinstance(operation, op.RevertToSnapshot) and self._sight.labels_matter:
            # The definition of then comes back, and nobody here knows which labels are in it.
            self._sight.demand(SET_LABELS, self._sight.resource(entry), "those of the snapshot come back")
        config = entry.config.value if entry.config is not None else None
        if isinstance(operation, op.Undefine | op.Migrate) and (running := labels_as_running(config)) != plain.labels:
            # What is stored stays behind, or goes: the labels of the running domain count then.
            for each in (plain.labels, running):
                self._sight.demand(SET_LABELS, self._sight.resource(entry)._replace(labels=each), "it runs with other labels than are stored")
        return Granted(operation, self._granted(carried, self._sight.resource(entry)))

    async def making(self, operation: op.AnyOperation, host: str, name: str) -> Granted:
        """To make this domain, or to give one another definition: it may be called and labelled otherwise afterwards. Raises as `changing`."""
        entry = self._lookup.existing(host, operation.uuid, "")
        config = entry.config.value if entry is not None and entry.config is not None else None
        had = labels_of(config)
        if not self._sight.policed:
            return Granted(operation, had)
        self.replacing(entry, name)
        carried = await self._carried(operation, host, entry)
        operation, carried = await self._using(operation, host, entry, carried)
        labels = self._granted(carried, new := Resource(host, operation.uuid, name, had))
        self._sight.demand(call.get().rpc, new._replace(labels=labels))
        if not isinstance(operation, op.DefineSaveImage):
            self._free(host, operation.uuid, name)
        return Granted(operation, labels)

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

    async def moving(self, operation: op.Migrate, entry: Entry, to: str) -> Granted:
        """To move a domain there, where it may be called otherwise. What leaves this server's hosts is on none. Raises as `changing`."""
        granted = await self.changing(operation, entry, to)
        if self._sight.policed:
            name = operation.new_name or entry.name
            self._sight.check_at(entry, to, name, granted.labels)
            if to:
                self._arriving(to, entry.uuid, name, granted.labels)
                self._free(to, entry.uuid, name)
        return granted

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

    async def _carried(self, operation: op.AnyOperation, host: str, entry: Entry | None, *, elsewhere: bool = False) -> Carried:
        texts = tuple(text for field in _XML if (text := getattr(operation, field, "")))
        files = not self._files.unasked and (bool(texts) or elsewhere or isinstance(operation, _WITH_FILES))
        if not texts and not files and not isinstance(operation, op.SetMetadata | op.Restore):
            return Carried()
        if files and entry is not None and entry.config is None:
            raise not_yet(f"the definition of {entry.name!r} has not been read yet, and with it which files it has", host=host, domain=entry.name)
        kept = await self._kept(operation, host, entry) if files and entry is not None else ""
        config = entry.config.value if entry is not None and entry.config is not None else None
        return await _carried_by(operation, Around(kept, texts, config, self._roots(host), files=files, elsewhere=elsewhere))

    async def _kept(self, operation: op.AnyOperation, host: str, entry: Entry) -> str:
        saved = entry.state is not None and entry.state.value.has_managed_save is True
        return await self._files.kept(host, operation, saved=saved)

    async def _using(self, operation: op.AnyOperation, host: str, entry: Entry | None, carried: Carried) -> tuple[op.AnyOperation, Carried]:
        """The operation as it is held to where its files lead, and what it carries with that. Raises PERMISSION_DENIED, and as Files.judge."""
        leads = await self._files.judge(host, carried.uses, carried.declared)
        if isinstance(operation, op.Restore) and not operation.xml and not self._files.unasked:
            # Whoever wrote the file wrote the definition that is in it.
            image = await self._files.image(host, operation)
            held = await self._carried(structs.replace(operation, xml=image.xml), host, entry)
            leads += Leads(held.outside, Trail(holds=image.digest)) + await self._files.judge(host, held.uses, held.declared)
        # Its driver looks at the files of its own host: it cannot be held to where those of a destination lead.
        if leads.trail is not None and (entry is None or entry.host == host):
            operation = structs.replace(operation, trail=leads.trail)
        return operation, replace(carried, outside=carried.outside + leads.outside)


@dataclass(frozen=True, slots=True)
class Around:
    """What there is to judge an operation by."""

    kept: str = ""
    """What it brings back of before."""
    texts: tuple[str, ...] = ()
    """Its definitions and devices."""
    config: DomainConfig | None = None
    """The domain as it is, if it is."""
    roots: tuple[str, ...] = ()
    files: bool = False
    """Whether it matters which files it uses."""
    elsewhere: bool = False
    """Whether the domain goes to another host."""


async def _carried_by(operation: op.AnyOperation, around: Around) -> Carried:
    size = sum(map(len, (around.kept, *around.texts))) + (len(around.config.xml) if around.config is not None else 0)
    return carried_by(operation, around) if size <= _LONG else await asyncio.to_thread(carried_by, operation, around)


def carried_by(operation: op.AnyOperation, around: Around) -> Carried:
    """What an operation brings along. Works on values. Raises DriverError for XML that must not be sent."""
    if isinstance(operation, op.DetachDevice):
        return Carried()
    config, patch = around.config, bool(getattr(operation, "merge", False))
    given = [parse(text) for text in around.texts]
    present = [root for text in (config.xml, config.inactive_xml) if (root := _parsed(text)) is not None] if config is not None else []
    outside = [words for root in given for words in reaching(root, around.roots, present, patch=patch)]
    # What a patch makes of the stored definition: labels can be taken away, and be in a part that follows.
    whole = [_made(root, present) if patch and root.tag == "domain" else root for root in given]
    domains = [root for root in whole if root.tag == "domain"]
    outside += [words for root in domains if (words := sharing(root)) and words not in map(sharing, present)]
    carried = Carried(_labels(operation, around, domains), tuple(dict.fromkeys(outside)))
    if not around.files:
        return carried
    kept = [root for root in [_parsed(around.kept)] if root is not None]
    return replace(carried, uses=_uses(operation, around, whole + kept, present), declared=declared(present + kept))


def _made(patch: Element, present: list[Element]) -> Element:
    return merging.merged(present[-1], patch) if present else merging.plain(patch)


def _uses(operation: op.AnyOperation, around: Around, whole: list[Element], present: list[Element]) -> tuple[Use, ...]:
    uses = [*named(operation), *described(operation, whole, present, elsewhere=around.elsewhere)]
    # What is described and is not below a root reaches outside.
    below = (use for use in dict.fromkeys(uses) if not use.described or below_any(use.path, around.roots))
    return tuple(use._replace(opened=use.described and opens(operation)) for use in below)


def _labels(operation: op.AnyOperation, around: Around, domains: list[Element]) -> tuple[Labels, ...]:
    if isinstance(operation, op.SetMetadata):
        return _of_metadata(operation)
    if isinstance(operation, op.Restore) and not around.texts and around.config is None:
        # What comes back transient has the labels that its file holds, whoever wrote them.
        return ((("", "of the image"),),)
    return tuple(map(labels_in, domains))


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
