"""Which domain, which host and which domains a request means. Answers from the cache, and never waits."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_drivers.values import State
from virtrpc_server.caller import about, call
from virtrpc_server.domains import Domains, Entry
from virtrpc_server.errors import Refusal, not_yet, refuse
from virtrpc_server.hosts import Freshness, Host, Hosts
from virtrpc_server.messages.common import STATES
from virtrpc_server.policy.actions import SEE_DOMAIN
from virtrpc_server.policy.decisions import Decisions, denied
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.sight import Sight

MAX_UUIDS = 1000
MAX_TOPICS = 32
MAX_GLOB = 1024
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
STATE_OF = {number: state for state, number in STATES.items()}

Predicate = Callable[[Entry], bool]
V = TypeVar("V")


class Lookup:
    """Finds what requests name. All methods raise Refusal with the contract's reasons."""

    def __init__(self, hosts: Hosts, domains: Domains, sight: Sight | None = None) -> None:
        self._hosts = hosts
        self._domains = domains
        self.sight = sight or Sight(Decisions(), domains)

    def domain(self, ref: types_pb2.DomainRef, needs: str = "") -> Entry:
        """The one domain that a reference means, on a host whose hypervisor has what the RPC `needs` (a row's name), as far as is known.

        Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED, DOMAIN_NOT_FOUND, AMBIGUOUS_NAME, HOST_UNREACHABLE, UNSUPPORTED_BY_HYPERVISOR; and
        PERMISSION_DENIED, but a domain that the caller may not even see is not found.
        """
        entry = self._meant(ref)
        about(entry.host, entry.uuid, entry.name)
        self.sight.check(entry)
        if needs:
            self._hosts[entry.host].require(needs)
        return entry

    def _meant(self, ref: types_pb2.DomainRef) -> Entry:
        self._known(ref.host)
        if ref.WhichOneof("ref") == "uuid":
            uuid = uuid_of(ref.uuid, "domain.uuid")
            entries = self._with_uuid(uuid, ref.host)
            return self._one(_running_first(self.sight.seen(entries)), ref.host, uuid, entries)
        if not ref.name:
            raise refuse("INVALID_ARGUMENT", "no domain is named: give a uuid or a name", field="domain")
        entries = self._domains.by_name(ref.name, ref.host)
        found = self.sight.seen(entries)
        one = len({entry.uuid for entry in found}) == 1
        return self._one(_running_first(found) if one else found, ref.host, ref.name, entries)

    def by_id(self, target: query_pb2.HostDomainId) -> Entry:
        """The running domain that has this number on its host; raises as `domain` does."""
        self._known(target.host)
        if target.id < 0:
            raise refuse("INVALID_ARGUMENT", f"id {target.id} is negative", field="host_domain_id.id")
        entries = self._domains.on_host(target.host) if target.host else self._domains.all()
        found = [entry for entry in entries if entry.state is not None and entry.active and entry.state.value.id == target.id]
        entry = self._one(self.sight.seen(found), target.host, f"id {target.id}", found)
        about(entry.host, entry.uuid, entry.name)
        self.sight.check(entry)
        return entry

    def host(self, name: str) -> Host:
        """A configured host; without a name the only one. Raises HOST_NOT_CONFIGURED, INVALID_ARGUMENT, PERMISSION_DENIED."""
        hosts = [self._known_host(name)] if name else list(self._hosts)
        if len(hosts) != 1:
            seen = ", ".join(host.name for host in hosts if self.sight.sees_host(host.name))
            raise refuse("INVALID_ARGUMENT", f"name one of the configured hosts: {seen}", field="host")
        self.sight.check_host(hosts[0].name)
        return hosts[0]

    def existing(self, host: str, uuid: str, name: str) -> Entry | None:
        """The domain of a host that a definition with this uuid, or with none and this name, would change; None where it would be a new one."""
        if uuid:
            return self._domains.get((host, uuid.lower()))
        return next(iter(self._domains.by_name(name, host)), None) if name else None

    def check_named(self, host: str, uuid: str, name: str) -> None:
        """Raises PERMISSION_DENIED where the caller may not do what its RPC does to a domain of which something else than the cache told."""
        about(host, uuid, name)
        if not self.sight.policed:
            return
        entry = self._domains.get((host, uuid))
        told = Resource(host, uuid, name)
        resources = [told] if entry is None else [now := self.sight.resource(entry), told._replace(labels=now.labels)]
        for resource, action in itertools.product(resources, (SEE_DOMAIN, call.get().rpc)):
            verdict = self.sight.verdict(action, resource)
            if not verdict.allowed:
                raise denied(self.sight.caller, action, verdict, "of the domain that this is about")

    def called(self, name: str, host: str) -> list[Entry]:
        """The domains of a host that have this name, whoever may see them."""
        return self._domains.by_name(name, host)

    def filter(self, wanted: types_pb2.DomainFilter) -> Predicate:
        """Whether an entry fits. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED."""
        tests = [*self._identity_tests(wanted), *_flag_tests(wanted)]
        if not tests:
            return lambda _entry: True
        if len(tests) == 1:
            return tests[0]
        return all_of(tests)

    def fitting(self, wanted: types_pb2.DomainFilter, action: str) -> Predicate:
        """Whether an entry fits, and a list or watch with this action may show it to the caller. Raises as `filter`."""
        fits, shown = self.filter(wanted), self.sight.listed(action)
        return fits if shown is None else all_of([fits, shown])

    @staticmethod
    def topics(wanted: types_pb2.DomainFilter) -> list[str]:
        """The topics of `Domains.feed` that have all domains that fit; none where they may be any, or are too many to wait for each."""
        return [uuid.lower() for uuid in wanted.uuids] if len(wanted.uuids) <= MAX_TOPICS else []

    def covered(self, hosts: Iterable[str]) -> list[Host]:
        """The hosts that a filter's list covers: all where it is empty. Raises HOST_NOT_CONFIGURED."""
        return [self._known_host(name) for name in dict.fromkeys(hosts)] or list(self._hosts)

    def unreachable(self, hosts: Iterable[str]) -> list[Host]:
        """Those of the covered hosts that are not LIVE."""
        return [host for host in self.covered(hosts) if host.freshness is not Freshness.LIVE and self.sight.sees_host(host.name)]

    def _identity_tests(self, wanted: types_pb2.DomainFilter) -> list[Predicate]:
        tests: list[Predicate] = []
        if wanted.hosts:
            names = {host.name for host in self.covered(wanted.hosts)}
            tests.append(lambda entry: entry.host in names)
        if len(wanted.uuids) > MAX_UUIDS:
            raise refuse("INVALID_ARGUMENT", f"{len(wanted.uuids)} uuids are more than {MAX_UUIDS}", field="filter.uuids")
        if wanted.uuids:
            uuids = {uuid_of(text, "filter.uuids") for text in wanted.uuids}
            tests.append(lambda entry: entry.uuid in uuids)
        if wanted.name_glob:
            matches = _glob(wanted.name_glob)
            tests.append(lambda entry: matches(entry.name) is not None)
        return tests

    def _with_uuid(self, uuid: str, host: str) -> list[Entry]:
        if not host:
            return self._domains.by_uuid(uuid)
        entry = self._domains.get((host, uuid))
        return [entry] if entry is not None else []

    def _one(self, found: list[Entry], host: str, named: str, entries: list[Entry]) -> Entry:
        """Of the entries those that were found to be seen, which must be one."""
        if len(found) == 1:
            return found[0]
        if not found and (unread := [entry for entry in entries if self.sight.unread(entry)]):
            raise not_yet(f"the definition of {named!r} has not been read yet, and with it who may see it", host=unread[0].host, domain=named)
        raise _ambiguous(found, named) if found else self._none(host, named)

    def _none(self, host: str, named: str) -> Refusal:
        unlisted = [other.name for other in self.covered([host] if host else []) if not other.listed]
        if unlisted:
            message = f"domain {named!r} is not known, and host {', '.join(unlisted)} has not been listed yet"
            coming = all(self._hosts[name].fault is None for name in unlisted)
            told = {"host": unlisted[0], "domain": named}
            return not_yet(message, **told) if coming else refuse("HOST_UNREACHABLE", message, **told)
        where = f" on host {host}" if host else ""
        return refuse("DOMAIN_NOT_FOUND", f"there is no domain {named!r}{where}", domain=named, **({"host": host} if host else {}))

    def _known(self, host: str) -> None:
        if host:
            self._known_host(host)

    def _known_host(self, name: str) -> Host:
        host = self._hosts.get(name)
        if host is None:
            raise refuse("HOST_NOT_CONFIGURED", f"no host {name!r} is configured", host=name)
        return host


def uuid_of(text: str, field: str) -> str:
    """A UUID in lower case; raises INVALID_ARGUMENT for what is none."""
    if not UUID.fullmatch(text):
        raise refuse("INVALID_ARGUMENT", f"{text[:64]!r} is not a UUID of 8-4-4-4-12 hexadecimal digits", field=field)
    return text.lower()


def all_of(tests: list[Callable[[V], bool]]) -> Callable[[V], bool]:
    """Whether a value passes all tests."""

    def fits(value: V) -> bool:
        # A plain loop: long lists are filtered with it on the event loop, and all() over a generator takes twice as long.
        for test in tests:  # noqa: SIM110 # see above
            if not test(value):
                return False
        return True

    return fits


def _running_first(entries: list[Entry]) -> list[Entry]:
    """Of one uuid on several hosts those that run, else those that are active at all: a migration's incoming half waits paused."""
    running = [entry for entry in entries if entry.state is not None and entry.state.value.state in (State.RUNNING, State.BLOCKED)]
    return running or [entry for entry in entries if entry.active] or entries


def _ambiguous(found: list[Entry], named: str) -> Refusal:
    matches = ", ".join(sorted(f"{entry.host}/{entry.uuid}" for entry in found))
    return refuse("AMBIGUOUS_NAME", f"{named!r} fits several domains, name the host or use the UUID: {matches}", matches=matches)


def _glob(pattern: str) -> Callable[[str], re.Match[str] | None]:
    if len(pattern) > MAX_GLOB:
        raise refuse("INVALID_ARGUMENT", f"a glob of {len(pattern)} characters is longer than {MAX_GLOB}", field="filter.name_glob")
    # fnmatch also knows [sets], which the contract does not; its regular expressions do not backtrack from star to star.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match


def _flag_tests(wanted: types_pb2.DomainFilter) -> list[Predicate]:
    tests: list[Predicate] = []
    if wanted.states:
        states = {STATE_OF[number] for number in wanted.states if number in STATE_OF}
        tests.append(lambda entry: entry.state is not None and entry.state.value.state in states)
    if wanted.HasField("active"):
        active = wanted.active
        tests.append(lambda entry: entry.state is not None and entry.state.value.active is active)
    if wanted.HasField("has_managed_save"):
        saved = wanted.has_managed_save
        tests.append(lambda entry: entry.state is not None and entry.state.value.has_managed_save is saved)
    if wanted.HasField("persistent"):
        persistent = wanted.persistent
        tests.append(lambda entry: entry.config is not None and entry.config.value.persistent is persistent)
    if wanted.HasField("autostart"):
        autostart = wanted.autostart
        tests.append(lambda entry: entry.config is not None and entry.config.value.autostart is autostart)
    return tests
