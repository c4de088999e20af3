"""Looking at everything again and again: not every change is announced, and some hypervisors announce none.

Where there are events, an audit reads all domains once in its period, spread over it. Where there are none, polling finds what
changed: it lists often, reads at once what the list shows to be different and what something is being done to, and the rest in
rotation. Each of the two costs at most a tenth of the time, as long as its bound allows.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, takewhile

from virtrpc_drivers.protocol import Driver
from virtrpc_server.domains import Domains
from virtrpc_server.refresh import Refresher
from virtrpc_server.slices import ROWS, breathe

AUDIT_SLICES = 20
NEXT_PASS_SECONDS = 0.01
POLL_SECONDS = 2.0
LONGEST_POLL_SECONDS = 30.0
ROTATION_SECONDS = 600.0
"""In this time polling reads every domain, also where that takes more than its share."""
SHARE = 10
"""Polling pauses this many times as long as it asks."""
CLOSE_SECONDS = 30.0
"""How long a domain is watched closely after something was done to it, or something about it changed."""


class Attention:
    """The domains of a host that something is being done to, or was a moment ago."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._until: OrderedDict[str, float] = OrderedDict()

    @contextmanager
    def on(self, uuid: str) -> Iterator[None]:
        """Something is being done to this domain while the context lasts."""
        self._held[uuid] += 1
        try:
            yield
        finally:
            self._held[uuid] -= 1
            if not self._held[uuid]:
                del self._held[uuid]
            self.note(uuid)

    def note(self, uuid: str) -> None:
        """Something about this domain changed."""
        self._until[uuid] = asyncio.get_running_loop().time() + CLOSE_SECONDS
        self._until.move_to_end(uuid)
        self._prune()

    @property
    def uuids(self) -> set[str]:
        """All of them now."""
        self._prune()
        return {*self._held, *self._until}

    def _prune(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)


class Audit:
    """Has everything on one host read once in `seconds`. `pause` is how long to wait before the next round."""

    def __init__(self, host: str, driver: Driver, domains: Domains, refresher: Refresher, seconds: float) -> None:
        self._host = host
        self._driver = driver
        self._domains = domains
        self._refresher = refresher
        self.read_within = seconds
        """Seconds in which every domain is read once."""
        self.pause = NEXT_PASS_SECONDS

    async def everything(self) -> None:
        """List the host and have all of it read at once: changes may have gone unheard. Raises DriverError."""
        uuids, _ = await self._list()
        for start in range(0, len(uuids), ROWS):
            self._refresher.audit(uuids[start : start + ROWS], doubted=True)
            await breathe()

    async def again(self) -> None:
        """List the host and have it read in the course of the period. Raises DriverError."""
        uuids, _ = await self._list()
        slices = max(AUDIT_SLICES, -(-len(uuids) // ROWS))
        for number in range(slices):
            self._refresher.audit(uuids[number::slices], doubted=False)
            await asyncio.sleep(self.read_within / slices)

    async def _list(self) -> tuple[list[str], list[str]]:
        """All domains, and those that the list shows to be new or different: these are being read."""
        listing = await self._driver.list()
        different: list[str] = []
        for some in self._domains.take_in(self._host, listing):
            self._refresher.mark(some)
            different += some
            await breathe()
        return [row.uuid for row in listing.domains], different


class Poll(Audit):
    """The same for a host without events. `read_within` and `pause` follow what asking costs there."""

    def __init__(self, host: str, driver: Driver, domains: Domains, refresher: Refresher, attention: Attention) -> None:
        super().__init__(host, driver, domains, refresher, POLL_SECONDS)
        self._attention = attention
        self._after: tuple[str, str, str] | None = None
        self._credit = 0.0
        self.pause = POLL_SECONDS

    async def again(self) -> None:
        """List the host; read at once what is different or watched closely, and some of the rest. Raises DriverError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        uuids, different = await self._list()
        for uuid in different:
            self._attention.note(uuid)
        close = self._attention.uuids.intersection(uuids)
        cost = self._refresher.cost
        self.pause = min(LONGEST_POLL_SECONDS, max(POLL_SECONDS, SHARE * (loop.time() - began + cost * len(close))))
        self.read_within = max(self.pause, min(ROTATION_SECONDS, SHARE * cost * len(uuids)))
        await self._read(sorted(close))
        # Where reading does not keep up, adding to it would only make everything later.
        if self._refresher.idle:
            self._credit = min(len(uuids), self._credit + len(uuids) * self.pause / self.read_within)
            rest = self._next(int(self._credit))
            self._credit -= len(rest)
            await self._read(rest)

    async def _read(self, uuids: Sequence[str]) -> None:
        for start in range(0, len(uuids), ROWS):
            self._refresher.audit(uuids[start : start + ROWS], doubted=False)
            await breathe()

    def _next(self, count: int) -> list[str]:
        """The next domains in the order of names, and from the first one again after the last."""
        last = self._after
        keys = self._of_host(last or (self._host,))
        if last is not None:
            keys = chain(keys, takewhile(lambda key: key <= last, self._of_host((self._host,))))
        taken = list(islice(keys, count))
        self._after = taken[-1] if taken else last
        return [key[2] for key in taken]

    def _of_host(self, after: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        return takewhile(lambda key: key[0] == self._host, self._domains.order.after(after))
