"""A server in this process on simulated hosts, as those see it who watch over it: by its clients and by its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.server.world import HANG_GUARD, until
from virtrpc import AsyncClient
from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.app import App
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Scrape:
    """Metrics in Prometheus' text format, as its own library reads them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        """The values of the samples with this name and these labels, whatever others they have."""
        return [sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()]

    def value(self, name: str, **labels: str) -> float:
        """The only one."""
        (value,) = self.values(name, **labels)
        return value


class Watched:
    """The server, and the hypervisor of each host."""

    def __init__(self, path: Path, uris: dict[str, str], settings: dict[str, Any]) -> None:
        self.sims = {uri: SimHypervisor(from_uri(uri)) for uri in uris.values()}
        self.socket = path / "s"
        self._uris = uris
        hosts = tuple(HostSettings(name=name, uri=uri, sample_seconds=0.1) for name, uri in uris.items())
        options: dict[str, Any] = {"metrics_listen": "127.0.0.1:0", "journal": False} | settings
        self.app = App(Settings(hosts=hosts, socket=self.socket, **options), make_driver=self._driver)

    def _driver(self, settings: DriverSettings) -> SimDriver:
        return SimDriver(settings, self.sims[settings.uri])

    def sim(self, host: str) -> SimHypervisor:
        """A host's hypervisor."""
        return self.sims[self._uris[host]]

    def driver(self, host: str) -> SimDriver:
        """A host's driver."""
        driver = self.app.hosts[host].driver
        assert isinstance(driver, SimDriver)
        return driver

    def client(self) -> AsyncClient:
        """A new client."""
        return AsyncClient(str(self.socket))

    async def get(self, request: bytes = SCRAPE) -> tuple[bytes, bytes]:
        """What the metrics endpoint answers to some bytes: the head, and the body."""
        assert self.app.metrics is not None
        host, _, port = self.app.metrics.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return head, _unchunked(body) if b"chunked" in head and body else body

    async def scrape(self) -> Scrape:
        """All metrics."""
        head, body = await self.get()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
        return Scrape(body.decode())

    async def scraped(self, condition: Callable[[Scrape], object]) -> Scrape:
        """The first of the scrapes from now on that is so."""
        async with asyncio.timeout(HANG_GUARD):
            while not condition(scrape := await self.scrape()):  # noqa: ASYNC110 # any condition, not one that announces itself
                await asyncio.sleep(0.05)
        return scrape


def _unchunked(body: bytes) -> bytes:
    """The content of a body in chunks. Fails where the last one is missing."""
    pieces: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(pieces)
        pieces.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]


@asynccontextmanager
async def watched(path: Path, *, uris: dict[str, str] | None = None, **settings: Any) -> AsyncIterator[Watched]:
    """Such a server, listening, its hosts listed and their guests sampled; with the metrics endpoint unless `settings` say otherwise."""
    bed = Watched(path, uris or {"try": "sim://try/?domains=3&running=2&save_seconds=0.2"}, settings)
    await bed.app.start()
    try:
        await until(lambda: all(host.listed for host in bed.app.hosts))
        await until(lambda: all(entry.stats.cpu for entry in bed.app.core.domains.all() if entry.active))
        yield bed
    finally:
        await bed.app.stop()
        for sim in bed.sims.values():
            await sim.close()
