"""The command `virtrpcd`: `serve` (also without any word), `doctor`, `policy`, `--version`.

Exit codes: 0 ended in good order; 1 something failed, or is wrong with a host; 2 the command line or the configuration; 128 + signal
where a second signal cut a drain short.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from virtrpc_server.commands import doctor, policy, serve


class ServeByDefault(TyperGroup):
    """Takes `virtrpcd --host …` for `virtrpcd serve --host …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the missing word in front, unless the option is the group's own."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if not args or (args[0].startswith("-") and args[0].partition("=")[0] not in own):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


cli = typer.Typer(cls=ServeByDefault, pretty_exceptions_enable=False)
cli.command()(serve.serve)
cli.command()(doctor.doctor)
cli.add_typer(policy.app, name="policy")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"virtrpcd {version('virtrpc')}")
        raise typer.Exit


@cli.callback()
def _group(
    _version: Annotated[bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Serves hypervisors over gRPC, and stays responsive whatever they do.

    Without a command it serves: virtrpcd --host NAME=URI is virtrpcd serve --host NAME=URI. What can be set is listed by virtrpcd serve --help.
    """


def main() -> None:
    """The entry of `virtrpcd`."""
    # Lines about handshakes, errors among them, would let strangers fill the log. gRPC reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    cli(prog_name="virtrpcd")
