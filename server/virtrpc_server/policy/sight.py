"""What the caller of the present RPC may see and do, as the services ask it: of domains, hosts and jobs as they are now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import TypeVar

from virtrpc_server.caller import Caller, call
from virtrpc_server.domains import Domains, Entry, Key
from virtrpc_server.following import WHOLE
from virtrpc_server.policy.actions import ABOUT_HOSTS, SEE_DOMAIN, SEE_HOST
from virtrpc_server.policy.decisions import BATCH, Decisions, denied
from virtrpc_server.policy.engine import Resource, Verdict
from virtrpc_server.policy.labels import UNREAD, Labels, labels_of
from virtrpc_server.slices import ROWS, breathe

T = TypeVar("T")
MAX_RESOURCES = 100_000


class Sight:
    """Asks the rules on behalf of whoever the present task serves."""

    def __init__(self, decisions: Decisions, domains: Domains) -> None:
        self.decisions = decisions
        self._domains = domains
        self._resources: dict[Key, tuple[str, object, Resource]] = {}

    @property
    def policed(self) -> bool:
        """Whether there are rules at all. Where there are none, nothing is asked and everything is seen."""
        return self.decisions.policed

    @property
    def labels_matter(self) -> bool:
        """Whether any rule tells domains apart by their labels."""
        return self.decisions.policy is not None and self.decisions.policy.by_labels

    # Domains

    def resource(self, entry: Entry) -> Resource:
        """A domain as rules see it."""
        config = entry.config.value if entry.config is not None else None
        held = self._resources.get(entry.key)
        if held is not None and held[0] == entry.name and held[1] is config:
            return held[2]
        if len(self._resources) >= MAX_RESOURCES:
            self._resources.clear()
        resource = Resource(entry.host, entry.uuid, entry.name, UNREAD if config is None else labels_of(config))
        if held is not None and held[2] == resource:
            resource = held[2]
        self._resources[entry.key] = (entry.name, config, resource)
        return resource

    def remembered(self, key: Key) -> Resource | None:
        """A domain that is gone, as rules last saw it."""
        held = self._resources.get(key)
        return held[2] if held is not None else None

    def sees(self, entry: Entry) -> bool:
        """Whether this domain is there for the caller at all."""
        return not self.policed or self.verdict(SEE_DOMAIN, self.resource(entry)).allowed

    def unread(self, entry: Entry) -> bool:
        """Whether it cannot be told yet who may see this domain."""
        return self.labels_matter and entry.config is None

    def seen(self, entries: list[Entry]) -> list[Entry]:
        """Those of them that are there for the caller."""
        return [entry for entry in entries if self.sees(entry)] if self.policed else entries

    def check(self, entry: Entry) -> None:
        """Raises PERMISSION_DENIED where the caller may not do to this domain, which it sees, what its RPC does."""
        if self.policed:
            self.demand(call.get().rpc, self.resource(entry))

    def check_at(self, entry: Entry, host: str, name: str, labels: Labels | None = None) -> None:
        """The same of a domain as it would be on another host, and called or labelled otherwise; without a host on none of this server's."""
        if self.policed:
            here = self.resource(entry)
            there = here._replace(host=host, name=name or entry.name, labels=here.labels if labels is None else labels)
            self.demand(call.get().rpc, there, f"there: {host or 'a host that is not configured'}")

    def demand(self, action: str, resource: Resource, detail: str = "") -> None:
        """Raises PERMISSION_DENIED where the caller may not do this."""
        verdict = self.verdict(action, resource)
        if not verdict.allowed:
            what = f"domain {resource.name}" if resource.uuid else f"host {resource.host}"
            raise denied(self.caller, action, verdict, what, detail)

    def verdict(self, action: str, resource: Resource) -> Verdict:
        """What the rules say."""
        return self.decisions.verdict(self.caller, action, resource)

    def listed(self, action: str) -> Callable[[Entry], bool] | None:
        """Whether the list or watch with this action shows a domain to the caller; None where nothing is kept from anybody."""
        if not self.policed:
            return None
        caller, actions = self.caller, tuple(dict.fromkeys((SEE_DOMAIN, action)))

        def shown(entry: Entry) -> bool:
            resource = self.resource(entry)
            return all(self.decisions.verdict(caller, each, resource).allowed for each in actions)

        return shown

    async def learn(self, resources: Iterable[Resource], *actions: str) -> None:
        """Take the verdicts on these, a few at a time, so that asking for each of them afterwards is quick."""
        caller, each = self.caller, tuple(resources)
        for action in dict.fromkeys(actions):
            unknown = iter(self.decisions.unknown(caller, action, each))
            while batch := list(islice(unknown, BATCH)):
                self.decisions.learn(caller, action, batch)
                await breathe()

    def standing(self, *actions: str, also: Callable[[], Hashable] = lambda: None) -> Callable[[], Hashable]:
        """What a stream's View calls its standing, for the caller and these actions; `also` changes with what else may matter."""
        caller = self.caller
        return lambda: WHOLE if self._all_seen(caller, actions) else (self.decisions.version, also())

    def all_seen(self, *actions: str) -> bool:
        """Whether the rules let the caller do this to whatever there is."""
        return self._all_seen(self.caller, actions)

    def _all_seen(self, caller: Caller, actions: Iterable[str]) -> bool:
        return all((verdict := self.decisions.blanket(caller, action)) is not None and verdict.allowed for action in actions)

    async def counted(self, host: str) -> tuple[int, int] | None:
        """How many domains of a host the caller sees, and how many of these are active; None where it sees whatever there is."""
        if not self.policed or self.all_seen(SEE_DOMAIN):
            return None
        domains = active = 0
        rest = iter(list(self._domains.on_host(host)))
        while entries := list(islice(rest, ROWS)):
            await self.learn(map(self.resource, entries), SEE_DOMAIN)
            seen = self.seen(entries)
            domains, active = domains + len(seen), active + sum(entry.active for entry in seen)
            await breathe()
        return domains, active

    # Hosts

    def sees_host(self, host: str) -> bool:
        """Whether this host is there for the caller."""
        return not self.policed or self.verdict(SEE_HOST, Resource(host)).allowed

    def check_host(self, host: str) -> None:
        """Raises PERMISSION_DENIED where the caller may not ask of this host what its RPC asks; nothing is asked of RPCs about domains."""
        rpc = call.get().rpc
        if self.policed and rpc in ABOUT_HOSTS:
            self.demand(rpc, Resource(host))

    @property
    def caller(self) -> Caller:
        """Who that is."""
        return call.get().caller
