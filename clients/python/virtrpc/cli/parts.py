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
from virtrpc.cli.start import credentials_of
from virtrpc.credentials import CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE, PUBLIC, TOKEN_FILE_VARIABLE
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


def _session(ctx: typer.Context, **here: Any) -> Session:
    before: dict[str, Any] = ctx.find_root().params
    given = {name: value or before.get(name) for name, value in here.items()}
    limit = given["timeout"]
    address = resolve_address(given["address"])
    return Session(
        address,
        None if limit is None else params.parse_seconds(limit),
        bool(given["as_json"]),
        credentials_of(address, given),
        given["reason"] or "",
    )


Ca = Annotated[
    str | None,
    typer.Option("--ca", metavar="FILE", help=f"Speak TLS: the server's CA, or {PUBLIC}; else ${CA_VARIABLE}.", rich_help_panel=CONNECTION),
]
Certificate = Annotated[
    str | None,
    typer.Option("--client-certificate", metavar="FILE", help=f"Your certificate; else ${CERTIFICATE_VARIABLE}.", rich_help_panel=CONNECTION),
]
Key = Annotated[
    str | None,
    typer.Option("--client-key", metavar="FILE", help=f"Its key; else ${KEY_VARIABLE}.", rich_help_panel=CONNECTION),
]
ServerName = Annotated[
    str | None,
    typer.Option("--server-name", metavar="NAME", help="The name in the server's certificate.", rich_help_panel=CONNECTION),
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help=f"Where your token is; else ${TOKEN_FILE_VARIABLE}.",
        rich_help_panel=CONNECTION,
    ),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why you do it: the server notes it down.", rich_help_panel=CONNECTION),
]
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
        (
            option("ctx", typer.Context),
            option("address", Address, None),
            option("ca", Ca, None),
            option("client_certificate", Certificate, None),
            option("client_key", Key, None),
            option("server_name", ServerName, None),
            option("token_file", TokenFile, None),
            option("reason", Reason, None),
            option("timeout", Timeout, None),
            option("as_json", Json, False),
        ),
        _session,
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
