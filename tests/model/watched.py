"""A simulated host that keeps a record of what the server asks of it, and of what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tests.model.expected import Expected
from tests.model.record import HostRecord, Out, Record
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import AnyNotice, Call, Deliver, DriverSettings
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.values import CancelAnswer, Group, Listing, Outcome, Readings, Snapshots, Stamp
from virtrpc_server.verbs import gives_name

K = TypeVar("K", bound=Hashable)


class WatchedDriver(SimDriver):
    """`judge` is asked before a call, and before an abort, leaves for the hypervisor."""

    def __init__(self, settings: DriverSettings, hypervisor: SimHypervisor, record: Record, expected: Expected, judge: Judge) -> None:
        super().__init__(settings, hypervisor)
        self.name = hypervisor.options.host
        self._record, self._expected, self._judge = record, expected, judge
        self._dead = False
        record.hosts[self.name] = HostRecord(down=record.now(), since=asyncio.get_running_loop().time())

    async def start(self, deliver: Deliver) -> None:
        """Tell the record first."""

        def told(notice: AnyNotice) -> None:
            if self._dead:
                return
            self._record.notice(self.name, notice)
            deliver(notice)

        await super().start(told)

    def cut(self) -> None:
        """Its server is killed, and it with that: it asks, hears and says nothing more."""
        self._dead = True
        for job in self._calls.values():
            job.observers.remove(self._report)
        self._calls = {}

    async def run(self, call: Call) -> Outcome:
        """Recorded until its answer."""
        self._live()
        self._judge.call_sent(self.name, call)
        return await self._until_answered(self._record.sent(self.name, call, asyncio.get_running_loop().time()), super().run(call), resumed=False)

    async def resume(self, call: Call) -> Outcome:
        """Recorded until its answer."""
        self._live()
        return await self._until_answered(self._record.resumed(call), super().resume(call), resumed=True)

    async def cancel(self, call_id: str) -> CancelAnswer:
        """Recorded until it returns."""
        self._live()
        self._judge.abort_sent(call_id)
        out = self._record.calls[call_id.partition(".")[0]]
        out.aborts, out.aborted = out.aborts + 1, asyncio.get_running_loop().time()
        try:
            return await super().cancel(call_id)
        finally:
            if not self._dead:
                out.aborts -= 1
                out.over = asyncio.get_running_loop().time()

    async def probe(self, uuid: str) -> None:
        """One that comes back says that nothing is stuck."""
        try:
            with counted(self._record.probes_out, (self.name, uuid)):
                await super().probe(uuid)
        finally:
            if not self._dead:
                self._record.probed[self.name, uuid] = asyncio.get_running_loop().time()
        self._live()
        self._record.free(self.name, uuid)

    async def list(self) -> Listing:
        """Recorded with its answer."""
        listing = await super().list()
        self._live()
        self._expected.listed(self.name, listing)
        host = self._record.hosts[self.name]
        host.listed = max(host.listed, self._record.began(self.name, listing.stamp))
        return listing

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """Recorded with its answer."""
        began = self._record.now()
        try:
            readings = await super().read(uuids, group)
        except DriverError:
            self._live()
            self._record.looked(self.name, group, dict.fromkeys(uuids, began))
            raise
        self._live()
        self._expected.read(self.name, readings)
        answered = {reading.uuid: reading.stamp for reading in readings.found} | {gone.uuid: gone.stamp for gone in readings.missing}
        self._record.looked(self.name, group, {uuid: self._record.began(self.name, stamp) for uuid, stamp in answered.items()})
        self._record.touched |= {(self.name, uuid) for uuid in uuids}
        return readings

    async def snapshots(self, uuid: str) -> Snapshots:
        """Counted while it is out."""
        with counted(self._record.reads_out, self.name):
            return await super().snapshots(uuid)

    async def _until_answered(self, out: Out, answer: Awaitable[Outcome], *, resumed: bool) -> Outcome:
        try:
            outcome = await answer
        except DriverError as error:
            self._live()
            self._record.returned(out, error, resumed=resumed)
            raise
        self._live()
        self._record.returned(out, None, resumed=resumed)
        if outcome.stamp is not None and gives_name(out.operation) is not None:
            self._expected.made((self.name, out.operation.uuid), outcome.stamp)
        return outcome

    def _live(self) -> None:
        if self._dead:
            raise asyncio.CancelledError

    def _stamp(self) -> Stamp:
        stamp = super()._stamp()
        self._record.stamped(self.name, stamp)
        return stamp


@contextmanager
def counted(counts: dict[K, int], key: K) -> Iterator[None]:
    """Count what is out."""
    counts[key] = counts.get(key, 0) + 1
    try:
        yield
    finally:
        counts[key] -= 1


class Judge:
    """Says what may be sent to a hypervisor now; faults go to the record."""

    def __init__(self, call_sent: Callable[[str, Call], None], abort_sent: Callable[[str], None]) -> None:
        self.call_sent = call_sent
        self.abort_sent = abort_sent
