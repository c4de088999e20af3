"""A server's process: it serves until it is told to end, drains, and tells its last words."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from virtrpc_server.exits import EXIT_FAILED, EXIT_USAGE, complain
from virtrpc_server.settings import Settings
from virtrpc_server.settings.schema import ConfigurationError
from virtrpc_server.telemetry import logs

if TYPE_CHECKING:
    from virtrpc_server.app import App

log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 3.0


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
        return complain(error, EXIT_USAGE)
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
        return complain(error, EXIT_FAILED)
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
