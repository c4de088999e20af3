"""Verbs whose operation goes on in the background: no hypervisor here has one yet, so that a driver made for this offers one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.server.fake_driver import FakeDriver, reading, uuid
from tests.server.world import until, virtual
from tests.virtual_time import wall
from virtrpc_drivers.operations import Operation, Suspend
from virtrpc_drivers.protocol import Call, Report
from virtrpc_drivers.values import Outcome, Phase, Slot, VerbSupport
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.jobs import Jobs
from virtrpc_server.listening import Listener
from virtrpc_server.records import JobState, Order, WaitingFor
from virtrpc_server.store import MemoryStore


class Pull(Operation, frozen=True):
    """A block job on one disk."""

    disk: str


class BlockDriver(FakeDriver):
    """Begins a pull when it is let, and goes on with it in the background until it is told to end it."""

    def __init__(self) -> None:
        super().__init__(reading(1, 0.0))
        self.begin = asyncio.Event()
        self.end = {disk: asyncio.Event() for disk in ("vda", "vdb")}
        self.out: list[str] = []

    async def run(self, call: Call) -> Outcome:
        """See the class."""
        operation: Any = call.operation
        if isinstance(operation, Pull):
            self.out.append(operation.disk)
            await self.begin.wait()
            self.deliver(Report(call_id=call.id, phase=Phase.BACKGROUND))
            await self.end[operation.disk].wait()
            self.out.remove(operation.disk)
        return Outcome()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Jobs, BlockDriver]]:
    """A host with such a driver, connected and listed."""
    driver, domains = BlockDriver(), Domains()
    host = Host(HostConfig("a", "fake:///"), driver, domains, clock=wall)
    jobs = Jobs(Hosts([host]), domains, MemoryStore(), clock=wall)
    await host.start(jobs.report, lambda _host: None, lambda _spans: None)
    driver.up(verbs=(VerbSupport(verb="Pull", slot=Slot.BACKGROUND), VerbSupport(verb="Suspend")))
    await until(lambda: host.listed)
    yield jobs, driver
    await jobs.close()
    await host.close()


def pull(jobs: Jobs, disk: str, **more: Any) -> Listener:
    """A job that pulls this disk."""
    operation: Any = Pull(uuid=uuid(1), disk=disk)
    return jobs.accept(Order(host="a", operation=operation, name="guest-1", **more))


def in_background(listener: Listener) -> bool:
    """Whether its call has returned and its operation goes on."""
    return listener.job.phase is Phase.BACKGROUND


@virtual
async def test_two_disks_go_on_together_and_the_domain_is_free() -> None:
    """The condition is held to begin only: another disk's job begins then, and other changes of the domain run."""
    async with served() as (jobs, driver):
        first, second = pull(jobs, "vda"), pull(jobs, "vdb")
        await until(lambda: driver.out == ["vda"])
        assert second.job.state is JobState.QUEUED
        assert second.job.holders[0].job_id == first.job.id
        driver.begin.set()
        await until(lambda: in_background(first) and in_background(second))
        suspend = jobs.accept(Order(host="a", operation=Suspend(uuid=uuid(1)), name="guest-1", wait_limit=0.0))
        await until(lambda: suspend.job.finished)
        assert suspend.job.state is JobState.SUCCEEDED
        assert jobs.hosts["a"].budget.idle
        for event in driver.end.values():
            event.set()
        await until(lambda: first.job.finished and second.job.finished)
        assert list(jobs.conditions) == []


@virtual
async def test_two_jobs_on_one_disk_queue() -> None:
    """The second waits for the disk, named as its holder's, and holds up nobody else on the domain meanwhile."""
    async with served() as (jobs, driver):
        driver.begin.set()
        first = pull(jobs, "vda")
        await until(lambda: in_background(first))
        second = pull(jobs, "vda", wait_limit=100.0)
        await until(lambda: second.job.waiting_for is WaitingFor.CONDITION)
        assert second.job.holders[0].job_id == first.job.id
        suspend = jobs.accept(Order(host="a", operation=Suspend(uuid=uuid(1)), name="guest-1"))
        await until(lambda: suspend.job.finished)
        assert (suspend.job.state, driver.out) == (JobState.SUCCEEDED, ["vda"])
        driver.end["vda"].set()
        await until(lambda: second.job.finished)
        assert second.job.state is JobState.SUCCEEDED
