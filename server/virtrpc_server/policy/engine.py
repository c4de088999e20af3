"""One version of the rules, and what it decides. Everything here works on values, and is quick: a decision is 60 µs, and less in a batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cedarpy

from virtrpc_server.caller import Caller
from virtrpc_server.policy.actions import schema
from virtrpc_server.policy.labels import NONE, UNREAD, Labels
from virtrpc_server.policy.rules import Rule, joined, number_of, parse, read

SCHEMA = cedarpy.Schema.from_str(schema())
_ACTIONS = cedarpy.Entities.from_json_str("[]", SCHEMA)


class Resource(NamedTuple):
    """What is asked about: a file where it has a path, a domain where it has a uuid, else a host. What leaves this server's hosts has no host."""

    host: str
    uuid: str = ""
    name: str = ""
    labels: Labels = NONE
    path: str = ""


class Verdict(NamedTuple):
    """What the rules say. `rules` are the names of those that decided: none where nothing permits it."""

    allowed: bool
    rules: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """In words, of a denial."""
        return f"rule {', '.join(map(repr, self.rules))} forbids it" if self.rules else "no rule permits it"


_NOT_YET = Verdict(False)
"""What may be forbidden is not permitted."""


class Policy:
    """Rules that fit the schema."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.by_labels = any("Tag" in rule.text for rule in self.rules)
        """Whether labels may matter."""
        self._set = cedarpy.PolicySet.from_str(joined(list(rules)))

    @classmethod
    def load(cls, path: Path) -> Policy:
        """The rules of a file or a directory. Raises PolicyError."""
        return cls(parse(read(path), SCHEMA))

    def decide(self, caller: Caller, asked: Sequence[tuple[str, Resource]]) -> list[Verdict]:
        """What the rules say of each (action, resource)."""
        verdicts: dict[tuple[str, Resource], Verdict] = {}
        for part in _apart(asked):
            verdicts.update(zip(part, self._decided(caller, part), strict=True))
        return [verdicts[each] for each in asked]

    def _decided(self, caller: Caller, asked: Sequence[tuple[str, Resource]]) -> list[Verdict]:
        entities = _ACTIONS.with_added_json_str(json.dumps([_principal(caller), *_resources({resource for _, resource in asked})]))
        me = {"type": "Caller", "id": caller.name}
        requests = [{"principal": me, "action": {"type": "Action", "id": action}, "resource": _uid(resource)} for action, resource in asked]
        verdicts = map(self._verdict, cedarpy.is_authorized_batch(requests, self._set, entities))
        return [_NOT_YET if self.by_labels and resource.labels == UNREAD else verdict for (_, resource), verdict in zip(asked, verdicts, strict=True)]

    def blanket(self, caller: Caller, action: str) -> Verdict | None:
        """What they say whatever it is about; None where that depends on it."""
        entities = _ACTIONS.with_added_json_str(json.dumps([_principal(caller)]))
        request: dict[str, Any] = {"principal": f"Caller::{_quoted(caller.name)}", "action": f"Action::{_quoted(action)}", "context": {}}
        try:
            result = cedarpy.is_authorized_partial(request, self._set, entities)
        except ValueError:  # a name that Cedar's own notation has no way to write
            return None
        return None if result.decision is cedarpy.Decision.NoDecision else self._verdict(result)

    def _verdict(self, result: cedarpy.AuthzResult | cedarpy.PartialAuthzResult) -> Verdict:
        allowed = result.decision is cedarpy.Decision.Allow
        numbers = sorted(map(number_of, result.diagnostics.reasons))
        effect = "permit" if allowed else "forbid"
        return Verdict(allowed, tuple(self.rules[number].name for number in numbers if self.rules[number].effect == effect))


def _apart(asked: Sequence[tuple[str, Resource]]) -> Iterator[list[tuple[str, Resource]]]:
    """The same in parts: a domain that is asked about under two names, as it was and as it is, can be only one of them at a time."""
    rest = list(dict.fromkeys(asked))
    while rest:
        known: dict[tuple[str, str, str], Resource] = {}
        part = [each for each in rest if known.setdefault((each[1].host, each[1].uuid, each[1].path), each[1]) == each[1]]
        yield part
        chosen = set(part)
        rest = [each for each in rest if each not in chosen]


def _principal(caller: Caller) -> dict[str, Any]:
    """The caller, below all else that it is known as: nobody asks for the attributes of those names."""
    return {
        "uid": {"type": "Caller", "id": caller.name},
        "attrs": {"name": caller.name, "way": caller.way.value, "names": list(caller.names)},
        "parents": [{"type": "Caller", "id": name} for name in caller.names if name != caller.name],
    }


def _resources(resources: Iterable[Resource]) -> list[dict[str, Any]]:
    resources = list(resources)
    hosts = {resource.host for resource in resources if resource.host}
    found: list[dict[str, Any]] = [{"uid": {"type": "Host", "id": host}, "attrs": {"name": host}, "parents": []} for host in hosts]
    return found + [_entity(resource) for resource in resources if resource.uuid or resource.path]


def _entity(resource: Resource) -> dict[str, Any]:
    known: dict[str, Any] = {"uid": _uid(resource), "parents": [{"type": "Host", "id": resource.host}] if resource.host else []}
    if resource.path:
        return known | {"attrs": {"path": resource.path, "host": resource.host}}
    return known | {"attrs": {"name": resource.name, "uuid": resource.uuid, "host": resource.host}, "tags": dict(resource.labels)}


def _uid(resource: Resource) -> dict[str, str]:
    if resource.path:
        return {"type": "File", "id": f"{resource.host}:{resource.path}"}
    if not resource.uuid:
        return {"type": "Host", "id": resource.host}
    return {"type": "Domain", "id": f"{resource.host}/{resource.uuid}"}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
