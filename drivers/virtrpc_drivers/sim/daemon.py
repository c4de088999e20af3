"""`python -m virtrpc_drivers.sim.daemon --socket PATH`: simulated hosts in a process of their own, as libvirtd is one beside its clients.

A driver process whose URI has `daemon=PATH` connects to it (`sim.remote`). It outlives them: operations go on, whoever goes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Callable, Sequence

from virtrpc_drivers.protocol import Driver, DriverSettings
from virtrpc_drivers.serving import Serving
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.ledger import Ledger
from virtrpc_drivers.sim.options import from_uri


class Daemon:
    """Hosts by name: whoever names one first says what it is like. They reach each other for migrations."""

    def __init__(self) -> None:
        self._hosts: dict[str, SimHypervisor] = {}
        self.closing: set[asyncio.Task[None]] = set()
        """Drivers of connections that were closed, on their way out."""

    def host(self, uri: str) -> SimHypervisor:
        """The host that a URI names. Raises DriverError (INVALID_ARGUMENT)."""
        options = from_uri(uri)
        known = self._hosts.get(options.host)
        return known or SimHypervisor(options, network=self._hosts, ledger=Ledger())

    def connection(self) -> asyncio.Protocol:
        """A client has connected."""
        return _Connection(self).serving.channel


class _Connection:
    """One client: a driver, which goes when the client does, as a process that dies."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._driver: SimDriver | None = None
        self.serving = Serving(self._make_driver, self._closed)

    def _make_driver(self, settings: DriverSettings, give_up: Callable[[], None]) -> Driver:
        self._driver = SimDriver(settings, self._daemon.host(settings.uri), crash=give_up)
        return self._driver

    def _closed(self) -> None:
        if self._driver is None:
            return
        self._driver.lose(stay_down=True)
        closing = asyncio.get_running_loop().create_task(self._driver.close())
        self._daemon.closing.add(closing)
        closing.add_done_callback(self._daemon.closing.discard)


async def serve(socket: str, uris: Sequence[str] = ()) -> None:
    """Listen until SIGTERM or SIGINT; these hosts are there from the beginning."""
    daemon, ended, loop = Daemon(), asyncio.Event(), asyncio.get_running_loop()
    for uri in uris:
        daemon.host(uri)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_unix_server(daemon.connection, socket)
    print(f"simulated hosts on {socket}", flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m virtrpc_drivers.sim.daemon", description=__doc__)
    parser.add_argument("--socket", required=True, help="the Unix socket to listen on")
    parser.add_argument("--uri", action="append", default=[], help="a host that is there before anybody asks for it, such as sim://a/?domains=20")
    given = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(levelname)s simulation[%(process)d] %(name)s: %(message)s")
    asyncio.run(serve(given.socket, given.uri))


if __name__ == "__main__":
    main()
