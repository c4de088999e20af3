"""The program: its options, its commands, its exit codes."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from virtrpc import trace
from virtrpc.cli import (
    agent,
    backup,
    blocks,
    changes,
    checkpoints,
    devices,
    files,
    health,
    images,
    jobs,
    keys,
    lifecycle,
    migration,
    queries,
    resources,
    snapshots,
    stats,
    tuning,
    watches,
)
from virtrpc.cli.parts import Address, Ca, Certificate, Json, Key, Reason, ServerName, Timeout, TokenFile
from virtrpc.cli.session import FAILED, complain

_EPILOG = (
    "Exit codes: 0 done; 1 a call or a job failed; 2 wrong usage; 3 the server cannot be reached; 130 interrupted. "
    "Ctrl-C cancels the job that a command has begun and goes on to its end; a second Ctrl-C leaves."
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", epilog=_EPILOG)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"virtrpc {importlib.metadata.version('virtrpc')}")
        raise typer.Exit


@app.callback()
def _options(
    address: Address = None,
    ca: Ca = None,
    client_certificate: Certificate = None,
    client_key: Key = None,
    server_name: ServerName = None,
    token_file: TokenFile = None,
    reason: Reason = None,
    timeout: Timeout = None,
    as_json: Json = False,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)] = False,
) -> None:
    """Hypervisor hosts that answer at once, whatever they are doing: queries, and changes as jobs that can be seen and cancelled.

    The options below may stand before or after the command.
    """
    trace.inherit()


for _commands in (
    queries,
    health,
    stats,
    lifecycle,
    files,
    images,
    keys,
    changes,
    devices,
    blocks,
    tuning,
    resources,
    agent,
    snapshots,
    checkpoints,
    backup,
    migration,
    jobs,
    watches,
):
    _commands.add_to(app)


def main() -> int:
    """Runs the program and ends the process; see the epilog for the exit codes."""
    try:
        app(prog_name="virtrpc")
    except Exception as error:  # a user gets a line; whoever looks for the fault asks for the rest
        if os.environ.get("VIRTRPC_DEBUG"):
            raise
        complain(f"a fault of this program: {type(error).__name__}: {error} - VIRTRPC_DEBUG=1 shows where")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
