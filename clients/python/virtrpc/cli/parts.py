"""Options that come together: what stands behind the type of one parameter of a command."""

from __future__ import annotations

import getpass
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from virtrpc.address import ADDRESS_VARIABLE, DEFAULT_ADDRESS, resolve_address
from virtrpc.cli import complete, params
from virtrpc.cli.session import INTERRUPTED, Session
from virtrpc.refs import domain_ref, job_options
from virtrpc.v1 import types_pb2 as t

CONNECTION = "Connection and output"
JOB = "Job"


@dataclass(frozen=True)
class Scope:
    """virsh's --live and --config."""

    live: bool
    config: bool

    @property
    def value(self) -> t.ChangeScope.ValueType:
        """As the contract says it."""
        if self.live and self.config:
            return t.CHANGE_SCOPE_BOTH
        return t.CHANGE_SCOPE_LIVE if self.live else t.CHANGE_SCOPE_CONFIG if self.config else t.CHANGE_SCOPE_UNSPECIFIED


@dataclass(frozen=True)
class Password:
    """A password, asked for or read from stdin; never out of the arguments, which every user of this machine can read."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class Part:
    """The options behind a type, and what they make."""

    options: tuple[inspect.Parameter, ...]
    build: Callable[..., Any]


def option(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _session(ctx: typer.Context, address: str | None, timeout: str | None, as_json: bool) -> Session:
    given: dict[str, Any] = ctx.find_root().params
    limit = timeout or given.get("timeout")
    return Session(
        resolve_address(address or given.get("address")),
        None if limit is None else params.parse_seconds(limit),
        as_json or bool(given.get("as_json")),
    )


Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="ADDRESS",
        help=f"unix:///path or host:port; else ${ADDRESS_VARIABLE}, else {DEFAULT_ADDRESS}.",
        rich_help_panel=CONNECTION,
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long to wait for an answer (10 s), or to listen to a job or a watch (no limit). Does not cancel a job.",
        rich_help_panel=CONNECTION,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="protobuf JSON: one document; a line for each message of a stream.", rich_help_panel=CONNECTION)]

Hosts = Annotated[
    list[str],
    typer.Option("--host", metavar="HOST", help="On this host; may be repeated.", autocompletion=complete.hosts),
]

PARTS: dict[Any, Part] = {
    Session: Part(
        (option("ctx", typer.Context), option("address", Address, None), option("timeout", Timeout, None), option("as_json", Json, False)), _session
    ),
    t.DomainRef: Part(
        (
            option(
                "domain",
                Annotated[str, typer.Argument(metavar="DOMAIN", help="Name or UUID; HOST/NAME too.", autocompletion=complete.domains)],
            ),
            option("host", Annotated[str, typer.Option(metavar="HOST", help="The domain's host.", autocompletion=complete.hosts)], ""),
        ),
        domain_ref,
    ),
    Scope: Part(
        (
            option("live", Annotated[bool, typer.Option("--live", help="Change the running domain.")], False),
            option("config", Annotated[bool, typer.Option("--config", help="Change the stored definition, from the next start on.")], False),
        ),
        Scope,
    ),
}


def _password(stdin: bool) -> Password:
    # Here and not where it is sent: under the event loop Ctrl-C would not end the prompt.
    try:
        text = sys.stdin.readline().rstrip("\r\n") if stdin or not sys.stdin.isatty() else _asked()
    except (KeyboardInterrupt, EOFError):
        raise typer.Exit(INTERRUPTED) from None
    if not text:
        raise typer.BadParameter("the password is empty")
    return Password(text)


def _asked() -> str:
    text = getpass.getpass("New password: ")
    if text != getpass.getpass("The same again: "):
        raise typer.BadParameter("the two passwords differ")
    return text


PARTS[Password] = Part(
    (option("stdin", Annotated[bool, typer.Option("--stdin", help="Read the password from stdin's first line instead of asking for it.")], False),),
    _password,
)


def _job_options(detach: bool, wait_timeout: str | None, run_timeout: str | None, on_disconnect: str, request_id: str) -> t.JobOptions:
    if detach and on_disconnect == "cancel":
        raise typer.BadParameter("--detach and --on-disconnect cancel exclude each other")
    made = job_options(
        wait_timeout=None if wait_timeout is None else params.parse_seconds(wait_timeout),
        run_timeout=None if run_timeout is None else params.parse_seconds(run_timeout),
        request_id=request_id,
    )
    leaving = "DETACH" if detach else {"default": "UNSPECIFIED"}.get(on_disconnect, on_disconnect.upper())
    made.on_disconnect = t.OnDisconnect.Value(f"ON_DISCONNECT_{leaving}")
    return made


PARTS[t.JobOptions] = Part(
    (
        option("detach", Annotated[bool, typer.Option("--detach", help="Begin it, print the job's id and leave.", rich_help_panel=JOB)], False),
        option(
            "wait_timeout",
            Annotated[
                str | None,
                typer.Option(metavar="TIME", help="How long it may queue (30 s); 0 does not queue.", rich_help_panel=JOB),
            ],
            None,
        ),
        option(
            "run_timeout",
            Annotated[str | None, typer.Option(metavar="TIME", help="How long it may run before it is cancelled.", rich_help_panel=JOB)],
            None,
        ),
        option(
            "on_disconnect",
            Annotated[
                str,
                typer.Option(
                    metavar="default|detach|cancel",
                    parser=lambda text: _one_of(text, "default", "detach", "cancel"),
                    help="When you leave: withdraw it if still queued (default), let it go on, or cancel it.",
                    rich_help_panel=JOB,
                ),
            ],
            "default",
        ),
        option(
            "request_id",
            Annotated[str, typer.Option(metavar="ID", help="Repeating with the same id finds the same job.", rich_help_panel=JOB)],
            "",
        ),
    ),
    _job_options,
)


def _one_of(text: str, *words: str) -> str:
    if text not in words:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(words)}")
    return text
