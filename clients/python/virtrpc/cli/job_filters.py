"""The options by which jobs are chosen: a parameter of type JobFilter stands for them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from virtrpc.cli import complete, text
from virtrpc.cli.params import as_timestamp, parse_moment
from virtrpc.cli.parts import PARTS, Hosts, Part, option
from virtrpc.refs import domain_ref
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

TIMES = "Time: so long ago (2h, 3d), or when (2026-11-27T10:00, 10:00)"


def _words(kind: Any) -> dict[str, Any]:
    return {text.enum(kind, number).replace(" ", "-"): number for number in kind.values() if number}


def _kind_words() -> dict[str, Any]:
    return {word.removesuffix("-domain"): number for word, number in _words(t.JobKind).items()}


def _value(kind: Any, word: str) -> Any:
    words = _words(kind)
    number = words.get(word, words.get(f"{word}-domain"))
    if number is None:
        raise typer.BadParameter(f"{word!r} is none of {', '.join(words)}")
    return number


def _time(metavar_help: str) -> Any:
    return Annotated[float | None, typer.Option(parser=parse_moment, metavar="TIME", help=metavar_help, rich_help_panel=TIMES)]


def _job_filter(domain: str, host: list[str], kind: list[str], state: list[str], owner: str, **times: float | None) -> j.JobFilter:
    bounds = {"since": "created_after", "until": "created_before", "ended_since": "ended_after", "ended_until": "ended_before"}
    chosen = j.JobFilter(
        domain=domain_ref(domain) if domain else None,
        hosts=host,
        kinds=[_value(t.JobKind, word) for word in kind],
        states=[_value(t.JobState, word) for word in state],
        owner=owner,
    )
    for name, moment in times.items():
        if moment is not None:
            getattr(chosen, bounds[name]).CopyFrom(as_timestamp(moment))
    return chosen


Domain = Annotated[str, typer.Option("--domain", metavar="DOMAIN", help="Of this domain.", autocompletion=complete.domains)]
Kinds = Annotated[
    list[str],
    typer.Option("--kind", metavar="KIND", help="Of this kind, such as start; may be repeated.", autocompletion=complete.of(_kind_words())),
]
States = Annotated[
    list[str],
    typer.Option("--state", metavar="STATE", help="In this state, such as failed; may be repeated.", autocompletion=complete.of(_words(t.JobState))),
]
Owner = Annotated[str, typer.Option("--owner", metavar="OWNER", help="Begun by this identity.")]

Chosen = j.JobFilter
"""The type of a command's parameter that stands for these options."""

PARTS[Chosen] = Part(
    (
        option("domain", Domain, ""),
        option("host", Hosts, []),
        option("kind", Kinds, []),
        option("state", States, []),
        option("owner", Owner, ""),
        option("since", _time("Accepted then or later."), None),
        option("until", _time("Accepted before."), None),
        option("ended_since", _time("Ended then or later."), None),
        option("ended_until", _time("Ended before."), None),
    ),
    _job_filter,
)
