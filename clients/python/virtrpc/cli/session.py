"""What every command shares: where the server is, how to print, how to end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from virtrpc import errors
from virtrpc.address import ADDRESS_VARIABLE
from virtrpc.advice import advice, connection_advice
from virtrpc.aio import AsyncClient
from virtrpc.cli import text
from virtrpc.core import DEFAULT_TIMEOUT
from virtrpc.credentials import Credentials
from virtrpc.sync import Client
from virtrpc.v1 import types_pb2 as t

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

# Wide enough that nothing is ever folded where no terminal sets a width: programs read that.
_NO_TERMINAL_WIDTH = 10_000


@dataclass(frozen=True)
class Session:
    """One run of the program. `timeout` is in seconds; None was not given."""

    address: str
    timeout: float | None
    json: bool
    credentials: Credentials
    reason: str = ""

    def client(self) -> Client:
        """A blocking client, for everything that is not followed."""
        timeout = DEFAULT_TIMEOUT if self.timeout is None else self.timeout
        return Client(self.address, credentials=self.credentials, timeout=timeout, listen_timeout=self.timeout).because(self.reason)

    def listener(self) -> AsyncClient:
        """A client for what is followed."""
        return AsyncClient(self.address, credentials=self.credentials, listen_timeout=self.timeout).because(self.reason)

    def document(self, message: Message) -> None:
        """Prints a message as one JSON document."""
        print(to_json(message, indent=2))

    def line(self, message: Message) -> None:
        """Prints a message as one line of JSON."""
        print(to_json(message), flush=True)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Prints a table. Nothing is folded: a job's id that is broken in two cannot be copied, so long lines are the terminal's."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for header in headers:
            table.add_column(header, no_wrap=True)
        for row in rows:
            table.add_row(*(Text(text.one_line(cell)) for cell in row))
        wide = console()
        wide.width = _NO_TERMINAL_WIDTH
        with wide.capture() as printed:
            wide.print(table)
        print("\n".join(line.rstrip() for line in printed.get().splitlines()))

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Prints names and values, one pair a line."""
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in pairs:
            table.add_row(name, Text(text.one_line(value)))
        console().print(table)

    def say(self, words: str) -> None:
        """Prints a line of the answer."""
        print(text.one_line(words), flush=True)

    def unreachable(self, hosts: Iterable[t.UnreachableHost]) -> None:
        """Warns of hosts that are not LIVE."""
        for host in hosts:
            since = f" since {text.moment(host, 'since_time')}" if host.HasField("since_time") else ""
            held = "what is shown of it is what was last seen" if host.freshness == t.FRESHNESS_STALE else "its domains are not known"
            complain(f"host {host.host} is not live{since} [{host.reason}]: {host.message}; {held}", "warning")


def console(stderr: bool = False) -> Console:
    """A console that writes plain text where it is not a terminal. Made anew each time: tests and pipes change what stdout is."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _NO_TERMINAL_WIDTH, highlight=False, soft_wrap=False)


def to_json(message: Message, indent: int | None = None) -> str:
    """protobuf's JSON with the contract's field names: int64 is a string in it, enums are their names."""
    return MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=indent)


def complain(words: str, kind: str = "error") -> None:
    """Prints one line on stderr."""
    print(f"virtrpc: {kind}: {text.one_line(words)}", file=sys.stderr, flush=True)


def explain(error: errors.VirtrpcError, address: str) -> str:
    """An error in a line: what happened, its reason, what belongs to it, what to do next."""
    if isinstance(error, errors.ServerUnavailable) and not error.reason:
        # Of a name with several addresses gRPC tells what became of the last one alone: another one's handshake may have failed.
        secured = "" if address.startswith("unix:") else ", and does it want TLS (--ca) and a certificate of yours (--client-certificate)"
        hint = connection_advice(error.message) or f"is virtrpcd running there{secured}? --address or {ADDRESS_VARIABLE} names another server"
        return f"cannot reach the virtrpc server at {address}: {error.message} - {hint}"
    pairs = ", ".join(f"{key}: {value}" for key, value in sorted(error.metadata.items()) if value and value not in error.message)
    next_step = "name one of its hosts; the command's --help says where" if error.metadata.get("field") == "host" else advice(error.reason)
    return "".join(
        (
            error.message or error.code.name,
            f" [{error.reason or error.code.name}]",
            f" ({pairs})" if pairs else "",
            f" - {next_step}" if next_step else "",
        )
    )


def lost(error: errors.VirtrpcError | None, *, begun: bool) -> str:
    """That the server is away and what is done about it; what had `begun` goes on where it was."""
    if error is not None and error.reason == "HOST_UNREACHABLE":
        return f"{error.message}, trying again"
    why = f" ({error.message})" if error is not None and error.message else ""
    return f"{'connection lost' if begun else 'cannot reach the server'}{why}, trying again"


def exit_code(error: errors.VirtrpcError) -> int:
    """How the program ends with this error."""
    return UNREACHABLE if isinstance(error, errors.ServerUnavailable) else FAILED
