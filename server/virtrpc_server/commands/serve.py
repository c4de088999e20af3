"""`virtrpcd serve`: what can be set for a server on its command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from virtrpc_server.commands.parts import ConfigOption, HostOption, settings_of
from virtrpc_server.serving import run
from virtrpc_server.telemetry import logs


def serve(
    host: HostOption = None,
    socket: Annotated[
        Path | None, typer.Option(help="The Unix socket to listen on.", show_default="virtrpc/virtrpc.sock in /run or the user's")
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A TCP address to listen on as well.")] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Allow --listen although callers there do not say who they are.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A file of rules, or a directory of them: who may do what.", show_default="none")] = None,
    socket_mode: Annotated[str | None, typer.Option(metavar="MODE", help="The socket's mode, such as 0660.", show_default="0600")] = None,
    socket_group: Annotated[str | None, typer.Option(metavar="GROUP", help="The socket's group.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="The server's certificate at --listen, a PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="Who signs clients' certificates: nobody connects without one of theirs.")] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A caller that says for whom it calls, such as unix, any number of times.")
    ] = None,
    drain_timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="How long running jobs are waited for.", show_default="60")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the journal of jobs is kept.", show_default="/var/lib/virtrpc or the user's")] = None,
    journal: Annotated[bool | None, typer.Option(" /--no-journal", help="Forget jobs when the server ends.")] = None,
    journal_sync: Annotated[
        bool | None, typer.Option("--journal-sync", help="Have the journal survive a loss of power as well: each batch waits for the disk.")
    ] = None,
    history_days: Annotated[float | None, typer.Option(metavar="DAYS", help="How long finished jobs are kept.", show_default="7")] = None,
    history_jobs: Annotated[int | None, typer.Option(metavar="NUMBER", help="How many finished jobs are kept.", show_default="10000")] = None,
    path_root: Annotated[
        list[Path] | None,
        typer.Option(help="Where files named in requests may be, any number of times.", show_default="/var/lib/libvirt"),
    ] = None,
    migration_scheme: Annotated[
        list[str] | None,
        typer.Option(
            help="A scheme that a migration's destination URI may have, any number of times.", show_default="qemu+tls qemu+tcp xen+tls xen+tcp"
        ),
    ] = None,
    audit_log: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|stderr|none", help="Where audit lines go.", show_default="audit.log in --state-dir where it listens on TCP or has a policy"
        ),
    ] = None,
    audit_required: Annotated[
        bool | None, typer.Option("--audit-required", help="Refuse what changes something while no audit line can be written.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="What one caller may have, such as jobs=100, any number of times.", show_default="see the manual"),
    ] = None,
    heartbeat: Annotated[float | None, typer.Option(metavar="SECONDS", help="How long a stream may be silent.", show_default="15")] = None,
    lag_warning: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the event loop may be held up before that is logged.", show_default="0.1")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Where metrics are sent: none or otlp.", show_default="none")] = None,
    metrics_seconds: Annotated[float | None, typer.Option(metavar="SECONDS", help="How often they are sent.", show_default="60")] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A TCP address on which Prometheus finds /metrics.", show_default="none")
    ] = None,
    metrics_insecure: Annotated[
        bool | None, typer.Option("--metrics-insecure", help="Allow --metrics-listen to be reachable from other machines.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.", show_default="INFO")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.", show_default="text")] = None,
    log_otlp: Annotated[bool | None, typer.Option("--log-otlp", help="Send the log by OTLP as well.")] = None,
    tracing: Annotated[str | None, typer.Option(help="none, console or otlp.", show_default="none")] = None,
    tracing_ratio: Annotated[
        float | None, typer.Option(metavar="SHARE", help="The share of traces that is recorded, from 0 to 1.", show_default="1")
    ] = None,
    tracing_endpoint: Annotated[str | None, typer.Option(metavar="URL", help="For traces, instead of --otlp-endpoint.")] = None,
    otlp_endpoint: Annotated[str | None, typer.Option(metavar="URL", help="The collector: such as http://127.0.0.1:4317.")] = None,
    config: ConfigOption = None,
) -> None:
    """Serve the hosts. Flags go before the environment (VIRTRPC_SOCKET and so on), that before the file."""
    flags = {
        "hosts": host or None, "socket": socket, "listen": listen, "insecure": insecure, "socket_mode": socket_mode, "socket_group": socket_group,
        "policy": policy, "tls": _given(certificate=tls_certificate, key=tls_key, client_ca=tls_client_ca), "trusted_proxies": trusted_proxy or None,
        "drain_timeout": drain_timeout, "state_dir": state_dir, "journal": journal, "journal_sync": journal_sync,
        "history_days": history_days, "history_jobs": history_jobs, "path_roots": path_root or None,
        "migration_schemes": migration_scheme or None, "limits": limit or None, "audit_log": audit_log, "audit_required": audit_required,
        "heartbeat": heartbeat, "lag_warning": lag_warning, "log_level": log_level, "log_format": log_format, "log_otlp": log_otlp,
        "tracing": tracing, "tracing_ratio": tracing_ratio, "tracing_endpoint": tracing_endpoint, "otlp_endpoint": otlp_endpoint,
        "metrics": metrics, "metrics_seconds": metrics_seconds, "metrics_listen": metrics_listen, "metrics_insecure": metrics_insecure,
    }  # fmt: skip
    settings = settings_of(flags, config)
    logs.configure(settings.log_level, settings.log_format)
    raise typer.Exit(asyncio.run(run(settings)))


def _given(**flags: Any) -> dict[str, Any] | None:
    """The keys of a table that were given."""
    return {key: value for key, value in flags.items() if value is not None} or None
