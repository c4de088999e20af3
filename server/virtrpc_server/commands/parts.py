"""What the commands have in common: options, and the settings that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from virtrpc_server.exits import EXIT_USAGE, complain
from virtrpc_server.settings import DEFAULT_CONFIG, Settings, load
from virtrpc_server.settings.schema import ConfigurationError

ConfigOption = Annotated[
    Path | None,
    typer.Option(envvar="VIRTRPC_CONFIG", help=f"A TOML file. Without it {DEFAULT_CONFIG}, where that exists.", show_default=False),
]
HostOption = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME=URI", help="A host, any number of times; a URI alone is called local.", show_default="local=qemu:///system"),
]


def settings_of(flags: dict[str, Any], config: Path | None) -> Settings:
    """The settings of a command line. Ends with EXIT_USAGE where they cannot be used."""
    try:
        return load(flags, config)
    except ConfigurationError as error:
        raise typer.Exit(complain(error, EXIT_USAGE)) from None
