"""The driver process and its proxy: how it lives, what it survives, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.bed import GUARD, Bed, Kind, LibvirtTest, Notices, call_of, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers import proxy
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import DriverSettings, HostDown, HostUp
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.faults import Rule


@pytest_asyncio.fixture
async def bed() -> AsyncIterator[Bed]:
    """A simulated hypervisor in a driver process."""
    bed = await Bed.open(Kind())
    yield bed
    await bed.close()


def driver_of(bed: Bed) -> ProcessDriver:
    """The bed's driver, as what it is."""
    assert isinstance(bed.driver, ProcessDriver)
    return bed.driver


def pid_of(bed: Bed) -> int:
    """The id of its process."""
    pid = driver_of(bed).pid
    assert pid is not None
    return pid


def descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_loads_no_grpc() -> None:
    """A driver process has not loaded gRPC, with libvirt or without."""
    for kind in (Kind(), LibvirtTest()):
        bed = await Bed.open(kind)
        maps = Path(f"/proc/{pid_of(bed)}/maps").read_text()
        assert "msgspec" in maps
        assert "grpc" not in maps
        await bed.close()


async def test_settings_are_not_in_the_command_line() -> None:
    """The URI, which may hold credentials, travels over the socket."""
    driver, notices = ProcessDriver(DriverSettings(uri="sim://somewhere/?seed=4711")), Notices()
    await driver.start(notices)
    await notices.until(HostUp)
    assert b"4711" not in Path(f"/proc/{driver.pid}/cmdline").read_bytes()
    await driver.close()


async def test_what_cannot_heal_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A process that refuses its settings is started again and again, which fills no log: the first refusal alone is a warning."""
    driver, notices = ProcessDriver(DriverSettings(uri="sim://a/?bogus=1")), Notices()
    await driver.start(notices)
    for _ in range(3):
        await notices.until(HostDown, since=len(notices.seen))
    await driver.close()
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "bogus" in warnings[0].getMessage()
    assert "bogus" in driver.last_exit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ignores_what_a_terminal_sends(bed: Bed, number: signal.Signals) -> None:
    """SIGINT and SIGTERM do not end a driver process: its socket does. It is a session of its own."""
    assert os.getsid(pid_of(bed)) == pid_of(bed)
    os.kill(pid_of(bed), number)
    assert len((await bed.driver.list()).domains) == 3
    assert driver_of(bed).restarts == 0


async def test_ends_with_its_socket_whatever_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose loop is stuck for ever ends as soon as its socket closes; closing the driver is bounded."""
    bed = await Bed.open(Kind())
    life = driver_of(bed)._life
    assert life is not None
    process = life.process
    stuck = asyncio.ensure_future(driver_of(bed).simulate(control.BlockLoop()))
    await asyncio.sleep(0)
    monkeypatch.setattr(proxy, "CLOSING", 0.1)
    async with asyncio.timeout(GUARD):
        await bed.close()
    # It ended by itself: it was not killed.
    assert process is not None
    assert process.returncode == 0
    with pytest.raises(DriverError):
        await stuck


async def test_leaves_nothing_behind() -> None:
    """After deaths, restarts and a close there are no more files, tasks or processes than before."""
    before, tasks = descriptors(), asyncio.all_tasks()
    bed = await Bed.open(Kind())
    pids = {pid_of(bed)}
    for _ in range(2):
        mark = len(bed.notices.seen)
        driver_of(bed).kill()
        await bed.notices.until(HostUp, since=mark)
        pids.add(pid_of(bed))
    await bed.close()
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert descriptors() <= before
    assert asyncio.all_tasks() == tasks


async def test_each_process_has_a_later_number(bed: Bed) -> None:
    """Process numbers grow with each restart, and a later driver's are greater than an earlier one's."""
    first = (await bed.driver.list()).stamp
    driver_of(bed).kill(signal.SIGSEGV)
    down = await bed.notices.until(HostDown)
    assert "SIGSEGV" in down.fault.message
    await bed.notices.until(HostUp, since=1)
    second = (await bed.driver.list()).stamp
    assert second.process == first.process + 1
    other = ProcessDriver(DriverSettings(uri="sim:"))
    assert other.process > second.process


async def test_calls_meanwhile_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no process runs, calls fail at once with HOST_UNREACHABLE."""
    monkeypatch.setattr(proxy, "FIRST_DELAY", GUARD)
    bed = await Bed.open(Kind())
    driver_of(bed).kill()
    await bed.notices.until(HostDown)
    with pytest.raises(DriverError) as caught:
        await bed.driver.list()
    assert caught.value.reason is Reason.HOST_UNREACHABLE
    await bed.close()


async def test_can_be_closed_while_it_waits_to_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver whose process just died can be closed, and starts no other."""
    monkeypatch.setattr(proxy, "FIRST_DELAY", GUARD)
    bed = await Bed.open(Kind())
    driver_of(bed).kill()
    await bed.notices.until(HostDown)
    await bed.close()
    assert driver_of(bed).pid is None
    assert driver_of(bed).restarts == 0


async def test_says_why_a_driver_cannot_start() -> None:
    """A URI that no driver takes is told in HostDown, again and again."""
    driver, notices = ProcessDriver(DriverSettings(uri="sim:///?nonsense=1")), Notices()
    await driver.start(notices)
    down = await notices.until(HostDown)
    assert down.fault.reason is Reason.INVALID_ARGUMENT
    assert "nonsense" in down.fault.message
    await notices.until(HostDown, since=1)
    await driver.close()


async def test_a_process_that_dies_by_a_fault_of_its_own(bed: Bed) -> None:
    """A fault that ends the process in the middle of an operation is a lost call and a restart."""
    uuid = (await bed.driver.list()).domains[0].uuid
    await driver_of(bed).simulate(control.AddFault(rule=Rule(verb="Suspend", step=1, dies=True)))
    assert await bed.refused(ops.Suspend(uuid=uuid)) is Reason.DRIVER_LOST
    await bed.notices.until(HostUp, since=1)
    with pytest.raises(DriverError) as caught:
        await bed.driver.resume(call_of(ops.Suspend(uuid=uuid)))
    assert caught.value.reason is Reason.INTERRUPTED


async def test_many_domains_fit_through_the_socket() -> None:
    """Ten thousand domains are listed, read and sampled through the socket."""
    driver, notices = ProcessDriver(DriverSettings(uri="sim:///?domains=10000&running=10000")), Notices()
    await driver.start(notices)
    await notices.until(HostUp)
    uuids = [row.uuid for row in (await driver.list()).domains]
    assert len(uuids) == 10_000
    assert len((await driver.sample(uuids)).stats) == 10_000
    await driver.close()


async def test_a_slow_call_does_not_keep_others_waiting(bed: Bed) -> None:
    """While one call is out, others on the same socket are answered."""
    uuid = (await bed.driver.list()).domains[0].uuid
    await driver_of(bed).simulate(control.AddFault(rule=Rule(verb="Suspend", wedge=True)))
    wedged = asyncio.ensure_future(bed.driver.run(call_of(ops.Suspend(uuid=uuid))))
    await eventually(lambda: _answers(bed), "a list beside it")
    assert not wedged.done()
    assert await driver_of(bed).simulate(control.Release()) == 1
    await wedged


async def _answers(bed: Bed) -> bool:
    return len((await bed.driver.list()).domains) == 3
