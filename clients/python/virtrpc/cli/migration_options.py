"""The options behind MigrationSettings, and how a schedule is written on a command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from virtrpc.cli import complete
from virtrpc.cli.params import as_duration, parse_seconds, parse_size
from virtrpc.cli.parts import PARTS, Part, option
from virtrpc.v1 import types_pb2 as t

WAYS = "How memory and disks move"
COPIES = {"all": t.MIGRATION_STORAGE_COPY_ALL, "inc": t.MIGRATION_STORAGE_COPY_INCREMENTAL}
STEP = "after so long without progress: downtime=500ms, bandwidth=1GiB, post-copy, pause or abort; such as 30s:downtime=2s. May be repeated."


def parse_step(text: str) -> t.MigrationStep:
    """A step of a schedule: TIME:ACTION, where some actions have =VALUE."""
    after, colon, action = text.partition(":")
    word, _, value = action.partition("=")
    step = t.MigrationStep(after=as_duration(parse_seconds(after)))
    if colon and word == "downtime" and value:
        step.max_downtime.CopyFrom(as_duration(parse_seconds(value)))
    elif colon and word == "bandwidth" and value:
        step.bandwidth_bytes_per_second = parse_size(value)
    elif colon and word in ("post-copy", "pause", "abort") and not value:
        setattr(step, word.replace("-", "_"), True)
    else:
        raise typer.BadParameter(f"{text!r} is no step: say TIME:ACTION, {STEP}")
    return step


def settings(destination: str, dname: str, persistent: bool, suspend: bool, **given: Any) -> t.MigrationSettings:
    """The settings that the options make."""
    made = t.MigrationSettings(
        destination_name=dname,
        persist_destination=persistent,
        paused=suspend,
        bandwidth_bytes_per_second=given["bandwidth"],
        schedule=[parse_step(step) for step in given["step"]],
        **{name: given[name] for name in _PLAIN},
    )
    if given["downtime"] is not None:
        made.max_downtime.CopyFrom(as_duration(parse_seconds(given["downtime"])))
    _ways(made, given)
    _storage(made, given)
    # A libvirt URI, or a host's name.
    if "://" in destination or "+" in destination.partition(":")[0]:
        made.uri = destination
    else:
        made.host = destination
    return made


_PLAIN = ("migrate_uri", "listen_address", "live", "peer_to_peer", "undefine_source", "offline", "unsafe", "tunnelled", "abort_on_error")


def _ways(made: t.MigrationSettings, given: dict[str, Any]) -> None:
    if given["auto_converge"]:
        made.auto_converge.SetInParent()
    if given["post_copy"]:
        made.post_copy.SetInParent()
    if given["parallel"] is not None:
        made.parallel.connections = given["parallel"]
        made.parallel.SetInParent()
    if given["tls"]:
        made.tls.SetInParent()
    if given["compress"]:
        made.compression.methods.extend(
            t.MigrationCompressionMethod.Value(f"MIGRATION_COMPRESSION_METHOD_{word.upper()}") for word in given["compress"]
        )


def _method(word: str) -> t.MigrationCompressionMethod.ValueType:
    return t.MigrationCompressionMethod.Value(f"MIGRATION_COMPRESSION_METHOD_{word.upper()}")


def _storage(made: t.MigrationSettings, given: dict[str, Any]) -> None:
    if given["disk"] and given["copy_storage"] is None:
        raise typer.BadParameter("--disk needs --copy-storage")
    if given["copy_storage"] is not None:
        if given["copy_storage"] not in COPIES:
            raise typer.BadParameter(f"--copy-storage takes {' or '.join(COPIES)}, not {given['copy_storage']!r}")
        made.storage.copy = COPIES[given["copy_storage"]]
        made.storage.disks.extend(given["disk"])


def _flag(name: str, help: str, *more: str, panel: str | None = None) -> Any:
    kind = typer.Option(f"--{name.replace('_', '-')}", *more, help=help, rich_help_panel=panel)
    return option(name, Annotated[bool, kind], False)


_DESTINATION = typer.Argument(metavar="DESTINATION", help="A configured host, or a libvirt URI.", autocompletion=complete.hosts)
_P2P = typer.Option("--p2p/--no-p2p", help="The daemons talk to each other (default), or through the server.")
_BANDWIDTH = typer.Option(metavar="SIZE", parser=parse_size, help="At most this much a second, with a unit: 100MiB.")
_METHODS = typer.Option("--compress", metavar="METHOD", help="Compress memory: xbzrle, mt, zlib or zstd.", rich_help_panel=WAYS)
_DISKS = typer.Option("--disk", metavar="TARGET", help="Copy only this disk; may be repeated.", rich_help_panel=WAYS)
_COPY = typer.Option("--copy-storage", metavar="all|inc", help="Copy local disks along, whole or above their backing files.", rich_help_panel=WAYS)
_PARALLEL = typer.Option("--parallel", metavar="N", min=0, help="Send memory over N connections; 0 lets the hypervisor choose.", rich_help_panel=WAYS)
_LISTEN = typer.Option("--listen-address", metavar="ADDRESS", help="Where the destination waits for the memory.")
_DOWNTIME = typer.Option("--downtime", metavar="TIME", help="How long it may stand still at the end, such as 500ms.")

PARTS[t.MigrationSettings] = Part(
    (
        option("destination", Annotated[str, _DESTINATION]),
        option("migrate_uri", Annotated[str, typer.Option(metavar="URI", help="Where the guest's memory is sent: tcp://10.0.0.2:49152.")], ""),
        option("listen_address", Annotated[str, _LISTEN], ""),
        option("dname", Annotated[str, typer.Option(metavar="NAME", help="Its name at the destination.")], ""),
        option("live", Annotated[bool | None, typer.Option("--live/--no-live", help="Keep it running meanwhile (default), or pause it.")], None),
        option("peer_to_peer", Annotated[bool | None, _P2P], None),
        _flag("persistent", "Store the definition at the destination."),
        _flag("undefine_source", "Remove it at the source.", "--undefinesource"),
        _flag("offline", "Move the definition of a domain that is off."),
        _flag("unsafe", "Although disks could be damaged."),
        _flag("suspend", "Leave it paused at the destination."),
        _flag("abort_on_error", "End the move where the guest meets an I/O error."),
        option("bandwidth", Annotated[int, _BANDWIDTH], "0B"),
        option("downtime", Annotated[str | None, _DOWNTIME], None),
        option("step", Annotated[list[str], typer.Option("--step", metavar="TIME:ACTION", help=f"What to do {STEP}")], []),
        _flag("auto_converge", "Slow the guest down while it writes too fast.", panel=WAYS),
        _flag("post_copy", "Allow that it goes on at the destination before all its memory is there (see --step, tune-migration).", panel=WAYS),
        option("parallel", Annotated[int | None, _PARALLEL], None),
        option("compress", Annotated[list[str], _METHODS], []),
        option("copy_storage", Annotated[str | None, _COPY], None),
        option("disk", Annotated[list[str], _DISKS], []),
        _flag("tls", "Encrypt what is sent.", panel=WAYS),
        _flag("tunnelled", "Send everything through the daemons' own connection.", panel=WAYS),
    ),
    settings,
)
