"""The command `virtrpcd`: `serve` (also without any word), `doctor`, `--version`.

Exit codes: 0 ended in good order; 1 something failed, or is wrong with a host; 2 the command line or the configuration; 128 + signal
where a second signal cut a drain short.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from virtrpc_server.settings import DEFAULT_CONFIG, ConfigurationError, Settings, load
from virtrpc_server.telemetry import logs

if TYPE_CHECKING:
    from virtrpc_server.app import App

log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 3.0
EXIT_FAILED = 1
EXIT_USAGE = 2


class ServeByDefault(TyperGroup):
    """Takes `virtrpcd --host …` for `virtrpcd serve --host …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the missing word in front, unless the option is the group's own."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if not args or (args[0].startswith("-") and args[0].partition("=")[0] not in own):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


cli = typer.Typer(cls=ServeByDefault, pretty_exceptions_enable=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option(envvar="VIRTRPC_CONFIG", help=f"A TOML file. Without it {DEFAULT_CONFIG}, where that exists.", show_default=False),
]
HostOption = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME=URI", help="A host, any number of times; a URI alone is called local.", show_default="local=qemu:///system"),
]


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


@cli.command()
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
        "policy": policy,
        "tls": _given(certificate=tls_certificate, key=tls_key, client_ca=tls_client_ca), "trusted_proxies": trusted_proxy or None,
        "drain_timeout": drain_timeout,
        "state_dir": state_dir, "journal": journal, "journal_sync": journal_sync, "history_days": history_days, "history_jobs": history_jobs,
        "path_roots": path_root or None, "migration_schemes": migration_scheme or None, "limits": limit or None,
        "audit_log": audit_log, "audit_required": audit_required,
        "heartbeat": heartbeat, "lag_warning": lag_warning, "log_level": log_level, "log_format": log_format,
        "log_otlp": log_otlp,
        "tracing": tracing, "tracing_ratio": tracing_ratio, "tracing_endpoint": tracing_endpoint,
        "otlp_endpoint": otlp_endpoint, "metrics": metrics, "metrics_seconds": metrics_seconds,
        "metrics_listen": metrics_listen, "metrics_insecure": metrics_insecure,
    }  # fmt: skip
    settings = _load(flags, config)
    logs.configure(settings.log_level, settings.log_format)
    raise typer.Exit(asyncio.run(run(settings)))


@cli.command()
def doctor(
    host: HostOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="Raise the limits of the running daemons that are too low.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: ConfigOption = None,
) -> None:
    """Say what is wrong with each host. Ends with 1 where something is."""
    from virtrpc_server import doctor as doctors

    settings = _load({"hosts": host or None}, config)
    logs.configure("WARNING", "text")
    diagnoses = doctors.examine(settings, fix=fix)
    if as_json:
        print(json.dumps(doctors.as_json(diagnoses), indent=2))
    else:
        doctors.render(diagnoses, Console())
    raise typer.Exit(0 if all(diagnosis.healthy for diagnosis in diagnoses) else EXIT_FAILED)


def _given(**flags: Any) -> dict[str, Any] | None:
    """The keys of a table that were given."""
    return {key: value for key, value in flags.items() if value is not None} or None


policy_cli = typer.Typer(help="Look at the rules that say who may do what.", pretty_exceptions_enable=False, no_args_is_help=True)
cli.add_typer(policy_cli, name="policy")


@policy_cli.callback()
def _policy_group() -> None:
    """Look at the rules that say who may do what."""


@policy_cli.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(help="A file of rules, or a directory of them.")],
    cases: Annotated[Path | None, typer.Option(help="A TOML file that says what they must allow and deny.", show_default=False)] = None,
    caller: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Ask for this caller, by all its names.", show_default=False)] = None,
    rpc: Annotated[str | None, typer.Option(metavar="RPC", help="What it would do: an RPC or a right.", show_default=False)] = None,
    domain: Annotated[str | None, typer.Option(metavar="[HOST/]NAME", help="To which domain, or host.", show_default=False)] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A label of that domain.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what is wrong with rules, and what they decide. Ends with 1 where something is wrong, or not as a case expects."""
    from virtrpc_server.policy import check
    from virtrpc_server.policy.rules import PolicyError

    try:
        asked = (check.single(caller or [], rpc, domain, label or []),) if rpc else ()
        report = check.check(file, (*asked, *(check.read_cases(cases) if cases else ())))
    except PolicyError as error:
        _complain(error)
        raise typer.Exit(EXIT_FAILED) from None
    if as_json:
        print(json.dumps(check.as_json(report), indent=2))
    else:
        check.render(report, Console())
    raise typer.Exit(0 if report.good else EXIT_FAILED)


def _load(flags: dict[str, Any], config: Path | None) -> Settings:
    try:
        return load(flags, config)
    except ConfigurationError as error:
        raise typer.Exit(_complain(error)) from None


def _complain(error: Exception) -> int:
    """The exit code, once each fault has its line."""
    print(*(f"virtrpcd: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
    return EXIT_USAGE


async def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once. Returns the exit code."""
    from virtrpc_server import tracing
    from virtrpc_server.app import build
    from virtrpc_server.audit import AuditError
    from virtrpc_server.notify import Notifier
    from virtrpc_server.policy.rules import PolicyError
    from virtrpc_server.store import InUse
    from virtrpc_server.unix_socket import ListenError

    tracing.configure(tracing.make_exporter(settings.tracing, settings.tracing_endpoint or settings.otlp_endpoint), settings.tracing_ratio)
    exported = _export_log(settings.otlp_endpoint) if settings.log_otlp else None
    try:
        app = build(settings)
    except (ConfigurationError, PolicyError) as error:
        return _complain(error)
    asked = _on_signals(app)
    systemd = Notifier(lambda: app.status)
    try:
        await app.start()
        tame_collector()
        systemd.ready()
        if app.metrics is not None:
            logs.say(f"virtrpcd tells its metrics on http://{app.metrics.address}/metrics")
        logs.say(f"virtrpcd {version('virtrpc')} listens on {' and '.join(app.transport.addresses)}")
        log.info("%s: draining", signal.Signals(await asked).name)
        systemd.stopping()
        await app.drain()
    except (ListenError, InUse, AuditError) as error:
        print(f"virtrpcd: {error}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        await app.stop()
        await _bounded(tracing.shutdown)
        if exported is not None:
            logging.getLogger().removeHandler(exported)
            await _bounded(exported.close)
        systemd.close()
    return 0


def _export_log(endpoint: str | None) -> logging.Handler:
    from virtrpc_server.telemetry.log_export import LogExport, make_exporter

    handler = LogExport(make_exporter(endpoint))
    logging.getLogger().addHandler(handler)
    return handler


async def _bounded(work: Callable[[], None]) -> None:
    """Give what sends its last words to a collector a few seconds; a daemon thread, since a dead collector would hold up the end of others."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(over.set)

    threading.Thread(target=run, name="last-words", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), LAST_WORDS_SECONDS)


def tame_collector() -> None:
    """Keep the collector from stopping the loop for long; called once all that stays has been made."""
    # A full collection stops the loop, and every query with it, for as long as it looks at all that lives: at what was imported,
    # which is never garbage, and at the cache, whose values hold no cycles. What comes after: gRPC leaves a circle of five objects with
    # each RPC, and a pass over 20,000 of those takes 6 ms, so there are many small ones.
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 50, 100)


def _on_signals(app: App) -> asyncio.Future[int]:
    """The first signal's number, once it has come."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()

    def on_signal(number: int) -> None:
        if not asked.done():
            asked.set_result(number)
            return
        log.warning("a second signal: ending at once")
        app.transport.remove_socket()
        logging.shutdown()
        # Driver processes end with their sockets; anything gentler could wait for what the first signal already waits for.
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return asked


def main() -> None:
    """The entry of `virtrpcd`."""
    cli(prog_name="virtrpcd")
