"""A whole server in a thread of this process: simulated hypervisors live in it, and so reach each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from tests.e2e.server import GUARD
from virtrpc import AsyncClient
from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.app import App
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings


class InsideServer:
    """A server whose hosts are all `sim:` URIs, started on entering."""

    def __init__(self, socket: str, hosts: Mapping[str, str], path_roots: tuple[str, ...]) -> None:
        hosts_of = tuple(HostSettings(name=name, uri=uri) for name, uri in hosts.items())
        self._settings = Settings.model_validate({"hosts": hosts_of, "socket": socket, "path_roots": path_roots})
        self._socket = socket
        self._up: Future[asyncio.AbstractEventLoop] = Future()
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="a server inside")

    def client(self) -> AsyncClient:
        """A new client, for the loop that runs."""
        return AsyncClient(self._socket)

    async def _serve(self) -> None:
        network: WeakValueDictionary[str, SimHypervisor] = WeakValueDictionary()

        def driver(settings: DriverSettings) -> SimDriver:
            return SimDriver(settings, SimHypervisor(from_uri(settings.uri), network=network))

        self._over = asyncio.Event()
        app = App(self._settings, make_driver=driver)
        try:
            await app.start()
            self._up.set_result(asyncio.get_running_loop())
            await self._over.wait()
        except BaseException as error:
            if not self._up.done():
                self._up.set_exception(error)
            raise
        finally:
            await app.stop()

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.result(GUARD)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._over is not None
        self._up.result().call_soon_threadsafe(self._over.set)
        self._thread.join(GUARD)
