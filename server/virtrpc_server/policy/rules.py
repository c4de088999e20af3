"""Rules as texts: where each stands in its file, so that an error and a denial can say which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cedarpy

from virtrpc_server.policy.actions import schema

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|;|[^;"/]+|.', re.DOTALL)
SUFFIX = ".cedar"
MAX_OPERATORS = 600
"""Operators and brackets of one rule: Cedar's parser goes one call deeper with each of some, and where the stack ends so does this process."""
_OPERATOR = re.compile(r'"(?:\\.|[^"\\])*"|(\|\||&&|[-+*!.(\[{]|\bthen\b)')


class PolicyError(Exception):
    """The rules cannot be used; each line says where and why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One permit or forbid. `name` is its @id, or where it stands."""

    name: str
    place: str
    """file:line."""
    effect: str
    text: str


def files_of(path: Path) -> list[Path]:
    """The file itself, or all *.cedar files of a directory in order of name."""
    return sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]


def read(path: Path) -> list[tuple[str, str]]:
    """The names and texts of these files. Raises PolicyError."""
    try:
        files = files_of(path)
        if not files:
            raise PolicyError(f"{path}: the directory has no *{SUFFIX} file")
        return [(file.name, file.read_text()) for file in files]
    except OSError as error:
        raise PolicyError(f"{error.filename or path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: {error}") from None


def parse(texts: list[tuple[str, str]], checked: cedarpy.Schema | None = None) -> list[Rule]:
    """The rules of these files, in order. Raises PolicyError for what is no rule, and for what does not fit the schema."""
    found = [rule for file, text in texts for rule in _of_file(file, text)]
    _check_names(found)
    _check(found, checked or cedarpy.Schema.from_str(schema()))
    return found


def _of_file(file: str, text: str) -> Iterator[Rule]:
    for line, statement in _statements(text):
        place = f"{file}:{line}"
        if sum(map(bool, _OPERATOR.findall(statement))) > MAX_OPERATORS:
            raise PolicyError(f"{place}: one rule with more than {MAX_OPERATORS} operators and brackets: make several of it, or ask a set")
        try:
            known = json.loads(cedarpy.policies_to_json_str(statement))
        except (ValueError, RecursionError) as error:
            raise PolicyError(f"{place}: {error}") from None
        if known["templates"]:
            raise PolicyError(f"{place}: a template permits nothing by itself, and nothing here fills it in: name principal and resource")
        for policy in known["staticPolicies"].values():
            yield Rule(policy.get("annotations", {}).get("id") or place, place, policy["effect"], statement)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with the line on which it begins."""
    line, begun, parts = 1, 0, []
    for token in _TOKEN.findall(text):
        comment = token.startswith("//")
        if not begun and not comment and token.strip():
            begun = line + token[: len(token) - len(token.lstrip())].count("\n")
        line += token.count("\n")
        if begun and not comment:
            parts.append(token)
        if token == ";":
            yield begun, "".join(parts).strip()
            begun, parts = 0, []
    if begun:
        yield begun, "".join(parts).strip()


def _check_names(rules: list[Rule]) -> None:
    places: dict[str, str] = {}
    for rule in rules:
        if (other := places.setdefault(rule.name, rule.place)) != rule.place:
            raise PolicyError(f'{rule.place}: there is a rule with @id("{rule.name}") already, at {other}: ids must differ')


def _check(rules: list[Rule], checked: cedarpy.Schema) -> None:
    # One by one: Cedar keeps the loop waiting while it works, and a thousand rules take a second.
    found = [(rule, error) for rule in rules for error in cedarpy.validate_policies(rule.text, checked).errors]
    lines = [f"{rule.place}: {re.sub(r'^for policy `[^`]*`, ', '', error.error)}" for rule, error in found]
    if lines:
        raise PolicyError("\n".join(lines))


def joined(rules: list[Rule]) -> str:
    """The rules as one text, in which Cedar calls the first policy0."""
    return "\n".join(rule.text for rule in rules)


def number_of(policy_id: str) -> int:
    """Which of the rules Cedar means."""
    return int(policy_id.removeprefix("policy"))
