"""`virtrpcd policy check`: whether rules can be used, what is odd about them, and whether they say what is expected of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cedarpy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from rich.console import Console
from rich.table import Column, Table

from virtrpc_server.caller import BY_SOCKET, Caller, Way
from virtrpc_server.policy.actions import ABOUT_FILES, ABOUT_HOSTS, ROLE_OF, USE_FILE, kind_of
from virtrpc_server.policy.engine import Policy, Resource, Verdict
from virtrpc_server.policy.rules import PolicyError, Rule

SOME_UUID = "00000000-0000-4000-8000-000000000000"
SOME_HOST = "local"


class DomainCase(BaseModel):
    """The domain of a case; what is left out is anything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    host: str = SOME_HOST
    uuid: str = SOME_UUID
    labels: dict[str, str] = Field(default_factory=dict)


class Case(BaseModel):
    """What somebody is expected to be allowed, or denied. `caller` is a name, or all names that one caller has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    caller: str | tuple[str, ...]
    way: Way = Way.TLS
    rpc: str
    domain: DomainCase | None = None
    host: str | None = None
    """Of a host, or of a file."""
    file: str | None = None
    expect: Literal["allow", "deny"] | None = None
    rule: str | None = None

    @field_validator("rpc")
    @classmethod
    def _check_rpc(cls, rpc: str) -> str:
        if rpc not in ROLE_OF:
            both = f": ask for {' or '.join(sorted(ABOUT_FILES))}" if rpc == USE_FILE else ""
            raise ValueError(f"there is no RPC or right {rpc!r}{both}")
        return rpc

    @model_validator(mode="after")
    def _check_resource(self) -> Case:
        about = kind_of(self.rpc)
        if not self.caller or (self.domain is None) != (about != "Domain") or (self.file is None) != (about != "File"):
            raise ValueError(f"{self.rpc} is about a {about.lower()}: say which, and name a caller")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the caller."""
        return (self.caller,) if isinstance(self.caller, str) else self.caller

    @property
    def resource(self) -> Resource:
        """What it is about."""
        if self.domain is None:
            return Resource(self.host or SOME_HOST, path=self.file or "")
        return Resource(self.domain.host, self.domain.uuid, self.domain.name, tuple(sorted(self.domain.labels.items())))


class Cases(BaseModel):
    """A file of cases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case and what the rules say of it."""

    case: Case
    verdict: Verdict

    @property
    def good(self) -> bool:
        """Whether that is what was expected, where anything was."""
        expected = self.case.expect is None or self.verdict.allowed == (self.case.expect == "allow")
        return expected and (self.case.rule is None or self.case.rule in self.verdict.rules)


@dataclass(frozen=True, slots=True)
class Report:
    """What a check has found."""

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def good(self) -> bool:
        """Whether every case is as expected."""
        return all(outcome.good for outcome in self.outcomes)


def check(path: Path, cases: tuple[Case, ...]) -> Report:
    """Look at the rules of a file or a directory. Raises PolicyError."""
    policy = Policy.load(path)
    return Report(policy.rules, tuple(_warnings(policy)), tuple(Outcome(case, _decided(policy, case)) for case in cases))


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases of a TOML file. Raises PolicyError."""
    try:
        return Cases.model_validate(tomllib.loads(path.read_text())).cases
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, detail['loc']))}: {detail['msg'].removeprefix('Value error, ')}" for detail in error.errors()]
        raise PolicyError("\n".join(lines)) from None
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise PolicyError(f"{path}: {error}") from None


def single(caller: list[str], rpc: str, domain: str | None, labels: list[str], file: str | None = None) -> Case:
    """The case of a command line: a domain as NAME or HOST/NAME, labels as NAME=VALUE, a file as PATH or HOST:PATH. Raises PolicyError."""
    host, _, name = (domain or "").rpartition("/")
    pairs = dict(label.partition("=")[::2] for label in labels)
    at, _, path = (file or "").partition("/")
    given: dict[str, Any] = {"caller": tuple(caller), "rpc": rpc, "file": f"/{path}" if file else None}
    if rpc in ABOUT_HOSTS:
        given["host"] = name or SOME_HOST
    elif rpc in ABOUT_FILES:
        given["host"] = at.removesuffix(":") or SOME_HOST
    else:
        given["domain"] = DomainCase(name=name, host=host or SOME_HOST, labels=pairs)
    try:
        return Case(**given)
    except ValidationError as error:
        raise PolicyError("\n".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())) from None


def _decided(policy: Policy, case: Case) -> Verdict:
    return policy.decide(Caller(case.names[0], case.way, case.names), [(case.rpc, case.resource)])[0]


def _warnings(policy: Policy) -> list[str]:
    found = [f"{rule.place}: this rule matches nothing, whoever asks for whatever" for rule in policy.rules if _is_vain(rule)]
    blankets = [policy.blanket(BY_SOCKET, action) for action in ROLE_OF]
    if all(verdict is not None and not verdict.allowed for verdict in blankets):
        found.append('no rule lets the Unix socket\'s callers do anything: permit (principal == Caller::"unix", action, resource);')
    return found


def _is_vain(rule: Rule) -> bool:
    told = cedarpy.is_authorized_partial({"context": {}}, rule.text, []).diagnostics
    return not told.reasons and not told.nontrivial_residuals and not told.errors


def as_json(report: Report) -> dict[str, Any]:
    """For programs."""
    return {
        "rules": len(report.rules),
        "warnings": list(report.warnings),
        "cases": [
            {
                "caller": list(outcome.case.names),
                "rpc": outcome.case.rpc,
                "resource": _shown(outcome.case),
                "allowed": outcome.verdict.allowed,
                "rules": list(outcome.verdict.rules),
                "good": outcome.good,
            }
            for outcome in report.outcomes
        ],
        "good": report.good,
    }


def render(report: Report, console: Console) -> None:
    """For people."""
    console.print(f"{len(report.rules)} rules", highlight=False)
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    if not report.outcomes:
        return
    # Names differ at their ends: broken into lines where there is no room, never cut.
    table = Table(*(Column(title, overflow="fold") for title in ("caller", "rpc", "on", "decision", "by rule", "")))
    for outcome in report.outcomes:
        decision = "allow" if outcome.verdict.allowed else "deny"
        verdict = "" if outcome.case.expect is None and outcome.case.rule is None else "ok" if outcome.good else f"expected {_expected(outcome.case)}"
        rules = ", ".join(outcome.verdict.rules)
        cells = (", ".join(outcome.case.names), outcome.case.rpc, _shown(outcome.case), decision, rules or "none permits it", verdict)
        table.add_row(*cells, style=None if outcome.good else "red")
    console.print(table, markup=False)


def _expected(case: Case) -> str:
    return " by ".join(part for part in (case.expect, case.rule) if part)


def _shown(case: Case) -> str:
    if case.file is not None:
        return f"file {case.resource.host}:{case.file}"
    if case.domain is None:
        return f"host {case.resource.host}"
    labels = "".join(f" {name}={value}" for name, value in case.resource.labels)
    return f"{case.domain.host}/{case.domain.name or '*'}{labels}"
