"""`virtrpcd doctor`: what is wrong with each host."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from virtrpc_server.commands.parts import ConfigOption, HostOption, settings_of
from virtrpc_server.exits import EXIT_FAILED
from virtrpc_server.telemetry import logs


def doctor(
    host: HostOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="Raise the limits of the running daemons that are too low.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: ConfigOption = None,
) -> None:
    """Say what is wrong with each host. Ends with 1 where something is."""
    from virtrpc_server import doctor as doctors

    settings = settings_of({"hosts": host or None}, config)
    logs.configure("WARNING", "text")
    diagnoses = doctors.examine(settings, fix=fix)
    if as_json:
        print(json.dumps(doctors.as_json(diagnoses), indent=2))
    else:
        doctors.render(diagnoses, Console())
    raise typer.Exit(0 if all(diagnosis.healthy for diagnosis in diagnoses) else EXIT_FAILED)
