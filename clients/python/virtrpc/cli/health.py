"""The command that a probe runs, among the program's others: `start` answers it before they are loaded, where it can."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.cli import start
from virtrpc.cli.command import command
from virtrpc.cli.panels import QUERIES
from virtrpc.cli.session import Session

Name = Annotated[
    str,
    typer.Argument(metavar="[NAME]", help="virtrpc.v1.JobService, or virtrpc.host/HOST: whether that host can be reached. None: the server."),
]


def add_to(app: typer.Typer) -> None:
    """Adds this module's command."""
    command(app, "health", panel=QUERIES)(health)


def health(session: Session, name: Name = "") -> int:
    """Say whether the server serves, for probes: 0 SERVING, 1 any other answer, 3 none within --timeout (5 s)."""
    return start.health(session.address, name, session.timeout, session.json, session.credentials)
