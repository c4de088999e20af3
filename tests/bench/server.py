"""The server under measurement: what `virtrpcd` runs, in a process that can also be told to misbehave and asked how it fares.

Usage: python -m tests.bench.server CONFIG. Ends when its standard input closes, as after SIGTERM.
"""

from __future__ import annotations

import asyncio
import cProfile
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.child import obey
from tests.bench.processors import move_to
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim import control
from virtrpc_server.app import App, build
from virtrpc_server.serving import tame_collector
from virtrpc_server.settings import load
from virtrpc_server.telemetry import logs

LAG_INTERVAL = 0.01
"""Seconds between two looks at how late the loop is, beside the 4 ms that each takes: three times as often as a server does, for a run is short."""


class Told:
    """What can be asked of the server beside its RPCs."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._profile = cProfile.Profile()

    async def simulate(self, host: str, command: dict[str, Any]) -> Any:
        """Have a host's simulated hypervisor carry out a command of virtrpc_drivers.sim.control."""
        driver = self._app.hosts[host].driver
        assert isinstance(driver, ProcessDriver)
        return await driver.simulate(msgspec.convert(command, control.AnyCommand))

    async def memory(self) -> int:
        """Resident bytes of this process."""
        return resident_bytes("self")

    async def processor_seconds(self) -> float:
        """What this process has taken of processors since it began, all its threads together."""
        return time.process_time()

    async def addresses(self) -> list[str]:
        """Where it listens: TCP first."""
        return self._app.transport.addresses

    async def left(self) -> dict[str, int]:
        """What is alive: tasks, RPCs that are out, who waits for a change."""
        core = self._app.core
        return {
            "tasks": len(asyncio.all_tasks()),
            "calls": self._app.transport.calls,
            "waiting": len(core.domains.feed.news) + len(core.jobs.feed.news),
        }

    async def lag(self) -> dict[str, Any]:
        """How late the loop was, in seconds, and where, since this was last asked."""
        reading = self._app.lag.read()
        self._app.lag.reset()
        return asdict(reading)

    async def move_to(self, processor: int) -> None:
        """Leave the other processors to others; driver processes that run already do not come along."""
        move_to(processor)

    async def profile_on(self) -> None:
        """Begin to count where the loop's thread spends its time."""
        self._profile.enable()

    async def profile_off(self, path: str) -> None:
        """Write what was counted, for `python -m pstats`."""
        self._profile.disable()
        self._profile.dump_stats(path)


def resident_bytes(process: int | str) -> int:
    """A process's resident memory."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) << 10


async def main(config: Path) -> None:
    """Serve until standard input closes."""
    app = build(load({}, config))
    app.lag.interval = LAG_INTERVAL
    try:
        await app.start()
        tame_collector()
        told = Told(app)
        await obey({name: getattr(told, name) for name in vars(Told) if not name.startswith("_")})
        await app.drain()
    finally:
        await app.stop()


if __name__ == "__main__":
    logs.configure("WARNING", "text")
    asyncio.run(main(Path(sys.argv[1])))
