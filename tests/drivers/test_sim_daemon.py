"""Simulated hosts in a process of their own: they outlive who asks them, and tell afterwards what really happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.beds.processes import kill
from tests.beds.sim_daemon import SimDaemon
from tests.drivers.bed import Notices, call_of
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Change, DriverSettings, HostDown, HostUp, Report
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim.control import AddFault, Die, Release
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Group, State

GUARD = 60.0
SAVING = {"running": 3, "save_seconds": 600, "progress_seconds": 0.02}


@pytest.fixture
def daemon() -> Iterator[SimDaemon]:
    """A daemon without hosts as yet."""
    with SimDaemon() as daemon:
        yield daemon


@asynccontextmanager
async def driver(uri: str) -> AsyncIterator[tuple[ProcessDriver, Notices]]:
    """A driver process that is connected."""
    process, notices = ProcessDriver(DriverSettings(uri=uri)), Notices()
    await process.start(notices)
    try:
        await notices.until(HostUp)
        yield process, notices
    finally:
        await process.close()


async def state(process: ProcessDriver, uuid: str) -> State:
    """A domain's state."""
    found = (await process.read([uuid], Group.STATE)).found[0].state
    assert found is not None
    return found.state


async def guests(process: ProcessDriver) -> list[str]:
    """The host's domains."""
    return [domain.uuid for domain in (await process.list()).domains]


@pytest.mark.parametrize("remembers", [1, 0])
async def test_a_save_outlives_its_driver_process(daemon: SimDaemon, remembers: int) -> None:
    """The next process follows the very call to its end: it was sent once, and succeeded once."""
    async with driver(daemon.uri("a", save_seconds=0.1, progress_seconds=0.02, remembers=remembers)) as (process, notices):
        call = call_of(ops.ManagedSave(uuid=(await guests(process))[0]))
        await process.simulate(AddFault(rule=Rule(verb="ManagedSave", step=2, wedge=True)))
        lost = asyncio.ensure_future(process.run(call))
        await notices.until(Report, lambda report: report.call_id == call.id)
        mark = len(notices.seen)
        assert process.pid is not None
        await asyncio.to_thread(kill, process.pid)
        with pytest.raises(DriverError, match="ended while the call was out"):
            await lost
        await notices.until(HostUp, since=mark)
        followed = asyncio.ensure_future(process.resume(call))
        await notices.until(Report, since=mark)
        await process.simulate(Release())
        await followed
        assert await state(process, call.operation.uuid) is State.SHUTOFF
    (deed,) = await daemon.ledger("a")
    assert (deed.call_id, deed.verb, deed.how, deed.applied, deed.sent) == (call.id, "ManagedSave", "succeeded", True, 1)


async def test_what_ended_while_nobody_was_there(daemon: SimDaemon) -> None:
    """A host that remembers its calls tells how one ended; one that does not has nothing to prove what leaves no trace."""
    for host, remembers in (("a", 1), ("b", 0)):
        async with driver(daemon.uri(host, running=1, remembers=remembers)) as (process, _):
            call = call_of(ops.SendKey(uuid=(await guests(process))[0], keycodes=(28,)))
            await process.run(call)
        async with driver(daemon.uri(host)) as (process, _):
            if remembers:
                await process.resume(call)
            else:
                with pytest.raises(DriverError) as told:
                    await process.resume(call)
                assert told.value.reason is Reason.INTERRUPTED


async def test_a_daemon_that_dies_is_a_host_that_is_lost(daemon: SimDaemon) -> None:
    """The call that was out is DRIVER_LOST, further ones find the host unreachable, and the driver process finds the next daemon by itself."""
    async with driver(daemon.uri("a", **SAVING)) as (process, notices):
        uuid = (await guests(process))[0]
        call, mark, pid = call_of(ops.ManagedSave(uuid=uuid)), len(notices.seen), process.pid
        lost = asyncio.ensure_future(process.run(call))
        await notices.until(Report)
        await asyncio.to_thread(daemon.kill)
        with pytest.raises(DriverError) as out:
            await lost
        down = await notices.until(HostDown, since=mark)
        assert (out.value.reason, down.fault.reason, down.process_lost) == (Reason.DRIVER_LOST, Reason.HOST_UNREACHABLE, False)
        with pytest.raises(DriverError) as refused:
            await process.list()
        assert refused.value.reason is Reason.HOST_UNREACHABLE
        mark = len(notices.seen)
        await notices.until(HostDown, lambda down: "cannot be reached" in down.fault.message, since=mark)
        await asyncio.to_thread(daemon.start)
        await notices.until(HostUp, since=mark)
        assert await state(process, uuid) is State.RUNNING
        assert process.pid == pid


async def test_two_drivers_share_a_host(daemon: SimDaemon) -> None:
    """Each sees what the other does and hears of it; when one leaves, the other goes on."""
    uri = daemon.uri("a", domains=2, running=1)
    async with driver(uri) as (stays, heard):
        async with driver(uri) as (leaves, _):
            uuid = (await guests(leaves))[0]
            await leaves.run(call_of(ops.Suspend(uuid=uuid)))
            await heard.event(uuid, Change.LIFECYCLE)
            assert await state(stays, uuid) is State.PAUSED
        await stays.run(call_of(ops.Resume(uuid=uuid)))
        assert await state(stays, uuid) is State.RUNNING
    assert [(deed.verb, deed.how) for deed in await daemon.ledger("a")] == [("Suspend", "succeeded"), ("Resume", "succeeded")]


async def test_a_migration_between_two_hosts_outlives_both_driver_processes(daemon: SimDaemon) -> None:
    """Each host has a driver process of its own; the guest arrives though both are killed on the way."""
    there = daemon.uri("b", domains=0, running=0)
    async with driver(daemon.uri("a", running=1, progress_seconds=0.02)) as (source, told), driver(there) as (destination, heard):
        uuid = (await guests(source))[0]
        call = call_of(ops.Migrate(uuid=uuid, destination_uri=there))
        lost = asyncio.ensure_future(source.run(call))
        await told.until(Report, lambda report: bool(report.processed_bytes))
        marks = len(told.seen), len(heard.seen)
        for process in (source, destination):
            process.kill(signal.SIGKILL)
        with pytest.raises(DriverError):
            await lost
        await told.until(HostUp, since=marks[0])
        await heard.until(HostUp, since=marks[1])
        assert (await source.resume(call)).destination_uri == there
        assert await state(destination, uuid) is State.RUNNING


async def test_a_process_that_is_told_to_die_leaves_the_daemon_alone(daemon: SimDaemon) -> None:
    """The command befalls the driver process that it was sent to."""
    async with driver(daemon.uri("a")) as (process, notices):
        before, mark = process.pid, len(notices.seen)
        with pytest.raises(DriverError):
            await process.simulate(Die())
        assert (await notices.until(HostDown, since=mark)).process_lost
        await notices.until(HostUp, since=mark)
        assert process.pid != before
    assert await daemon.ledger("a") == []


async def test_the_ledger_tells_how_each_call_ended(daemon: SimDaemon) -> None:
    """One that was aborted and one that was refused have changed nothing; one that is sent again under its id is not done again."""
    async with driver(daemon.uri("a", **SAVING)) as (process, notices):
        uuid = (await guests(process))[0]
        aborted, refused = call_of(ops.ManagedSave(uuid=uuid)), call_of(ops.Resume(uuid=uuid))
        saving = asyncio.ensure_future(process.run(aborted))
        await notices.until(Report, lambda report: bool(report.abortable))
        assert (await process.cancel(aborted.id)).sent
        for ended in (saving, process.run(refused), process.run(refused)):
            with pytest.raises(DriverError):
                await ended
    first, second = await daemon.ledger("a")
    assert (first.how, first.applied, first.sent) == ("aborted", False, 1)
    assert (second.how, second.reason, second.applied, second.sent) == ("failed", Reason.WRONG_STATE, False, 2)
    assert first.ended is not None
    assert first.began <= first.ended <= second.began
