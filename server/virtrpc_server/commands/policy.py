"""`virtrpcd policy`: what is wrong with rules, and what they decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from virtrpc_server.exits import EXIT_FAILED, complain

app = typer.Typer(help="Look at the rules that say who may do what.", pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at the rules that say who may do what."""


@app.command("check")
def check_rules(
    file: Annotated[Path, typer.Argument(help="A file of rules, or a directory of them.")],
    cases: Annotated[Path | None, typer.Option(help="A TOML file that says what they must allow and deny.", show_default=False)] = None,
    caller: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Ask for this caller, by all its names.", show_default=False)] = None,
    rpc: Annotated[str | None, typer.Option(metavar="RPC", help="What it would do: an RPC or a right.", show_default=False)] = None,
    domain: Annotated[str | None, typer.Option(metavar="[HOST/]NAME", help="To which domain, or host.", show_default=False)] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label of that domain.", show_default=False)] = None,
    path: Annotated[str | None, typer.Option("--file", metavar="[HOST:]PATH", help="Which file it would read or write.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what is wrong with rules, and what they decide. Ends with 1 where something is wrong, or not as a case expects."""
    from virtrpc_server.policy import check
    from virtrpc_server.policy.rules import PolicyError

    try:
        asked = (check.single(caller or [], rpc, domain, label or [], path),) if rpc else ()
        report = check.check(file, (*asked, *(check.read_cases(cases) if cases else ())))
    except PolicyError as error:
        raise typer.Exit(complain(error, EXIT_FAILED)) from None
    if as_json:
        print(json.dumps(check.as_json(report), indent=2))
    else:
        check.render(report, Console())
    raise typer.Exit(0 if report.good else EXIT_FAILED)
