"""Block jobs beside others: when a mirror is finished, and that nothing is sent to whatever else the disk has once a block job is over."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import Mock

import libvirt
import pytest
from msgspec.structs import replace

from virtrpc_drivers import finishing
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.libvirt import block_runs, blocks
from virtrpc_drivers.libvirt.block_runs import BlockRun
from virtrpc_drivers.libvirt.blocks import BlockLook
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.events import Ear
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import Call, Report
from virtrpc_drivers.values import Phase, Steering

COPY = ops.CopyBlock(uuid="u", disk="vda", xml="<disk type='file'><source file='/images/copy'/></disk>", finish="wait")
PULL = {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL, "cur": 1, "end": 2}
COMMIT = ops.CommitBlock(uuid="u", disk="vda")
OURS = {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, "cur": 1, "end": 2}

COMMIT_DONE = {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT, "cur": 2, "end": 2}
COPY_DONE = {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, "cur": 2, "end": 2}


class Domain:
    """A domain with this block job on its disk; remembers what it was told. It is its own connection."""

    def __init__(self, info: dict[str, int]) -> None:
        self.info = info
        self.told: list[str] = []
        self.mirror = "<mirror ready='yes'/>"
        self.control = libvirt.VIR_DOMAIN_CONTROL_OK

    def lookupByUUIDString(self, _uuid: str) -> Domain:  # noqa: N802 - libvirt's name
        return self

    def blockJobInfo(self, _disk: str, _flags: int) -> dict[str, int]:  # noqa: N802 - libvirt's name
        return self.info

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return f"<domain><devices><disk><target dev='vda'/>{self.mirror}</disk></devices></domain>"

    def controlInfo(self, _flags: int) -> list[int]:  # noqa: N802 - libvirt's name
        return [self.control, 0, 0]

    def blockJobSetSpeed(self, _disk: str, _rate: int, _flags: int) -> None:  # noqa: N802 - libvirt's name
        self.told.append("speed")

    def blockJobAbort(self, _disk: str, _flags: int) -> None:  # noqa: N802 - libvirt's name
        self.told.append("abort")

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True


def block_run(domain: Any, finish: str = "wait", *others: Run, operation: ops.CopyBlock | ops.CommitBlock = COPY) -> BlockRun:
    """A mirror that is ready; what else is out."""
    runs = Runs(Lanes(lambda: domain), Clock(0), lambda _: None)
    for other in others:
        runs.remember(other)
    return BlockRun(out("c", replace(operation, finish=finish), Phase.READY), runs, Ear("u"))


def out(call_id: str, operation: ops.AnyOperation, phase: Phase) -> Run:
    """A call that is out."""
    return Run(Call(id=call_id, operation=operation, began=0.0), abortable=True, phase=phase)


async def test_a_call_waits_for_a_mirror_that_finishes() -> None:
    """It begins once the mirror is over, and at once where none finishes, or only another domain's."""
    domain, dump, elsewhere = Domain(OURS), out("d", DUMP, Phase.CALLING), out("e", replace(DUMP, uuid="v"), Phase.CALLING)
    block = block_run(domain, "pivot")
    block._run.block = block
    block._runs.remember(block._run)
    await block._runs.disks_settled(dump)
    assert not await block._is_over(READY)
    assert block.finishes
    await block._runs.disks_settled(elsewhere)
    waiting = asyncio.ensure_future(block._runs.disks_settled(dump))
    await asyncio.sleep(0)
    assert not waiting.done()
    block.ended.set()
    await waiting


READY = BlockLook(libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, 2, 2, ready=True)
DUMP = ops.DumpCore(uuid="u", path="/images/core")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(out("d", replace(DUMP, uuid="v"), Phase.CALLING), id="another domain's"),
        pytest.param(out("d", ops.DetachDevice(uuid="u", xml="<disk/>"), Phase.WAITING_GUEST), id="one that has returned"),
        pytest.param(out("d", ops.PullBlock(uuid="u", disk="vdb"), Phase.BACKGROUND), id="another disk's"),
        pytest.param(out("d", ops.ThawFilesystems(uuid="u"), Phase.CALLING), id="the agent's"),
    ],
)
async def test_a_mirror_finishes_by_itself(other: Run) -> None:
    """It is finished as soon as it is ready, beside calls that are no business of its disk's."""
    domain = Domain(OURS)
    assert not await block_run(domain, "pivot", other)._is_over(READY)
    assert domain.told == ["abort"]


async def test_a_mirror_finishes_between_two_calls() -> None:
    """While another call is inside libvirt on its domain it waits, ready, and is finished once that is over."""
    domain, dump = Domain(OURS), out("d", DUMP, Phase.CALLING)
    run = block_run(domain, "pivot", dump)
    assert not await run._is_over(READY)
    assert domain.told == []
    run._runs.forget(dump)
    assert not await run._is_over(READY)
    assert domain.told == ["abort"]


async def test_a_mirror_whose_cancel_came_too_early_is_not_finished_by_itself() -> None:
    """A cancel that comes before there is a block job cannot be sent; the mirror is left for the next try, which breaks it off."""
    domain = Domain({})
    block = block_run(domain, "pivot")
    block._runs.remember(block._run)
    assert not (await block._runs.cancel("c")).sent
    domain.info, block._run.block = OURS, block
    assert not await block._is_over(READY)
    assert domain.told == []
    assert (await block._runs.cancel("c")).sent
    assert domain.told == ["abort"]


@pytest.mark.parametrize("steering", [Steering(finish="pivot"), Steering(finish="stop"), Steering(bandwidth_bytes_per_second=1)])
@pytest.mark.parametrize("info", [pytest.param({}, id="none"), pytest.param(PULL, id="another's")])
async def test_what_is_over_is_told_nothing(info: dict[str, int], steering: Steering) -> None:
    """Where the disk has no block job, or another one, nothing is sent and the answer says that this one is over."""
    domain = Domain(info)
    answer = await block_run(domain).steer(steering)
    assert (answer.sent, answer.message, domain.told) == (False, "its block job is over", [])


async def test_what_runs_is_told() -> None:
    """Where the disk has the call's own block job, it is sent."""
    domain = Domain(OURS)
    run = block_run(domain)
    assert (await run.steer(Steering(bandwidth_bytes_per_second=1))).sent
    assert (await run.steer(Steering(finish="pivot"))).sent
    assert domain.told == ["speed", "abort"]


async def test_a_commit_that_libvirt_lost_sight_of_is_finished_and_never_broken_off() -> None:
    """It counts as ready once all is done, is pivoted, and a cancel is not sent: libvirt would crash."""
    domain = Domain(COMMIT_DONE)
    domain.mirror = ""
    run = block_run(domain, "pivot", operation=COMMIT)
    answer = await run.cancel()
    assert (answer.sent, "lost sight" in answer.message, domain.told) == (False, True, [])
    assert not await run._is_over(blocks.job_of(domain, "vda"))
    assert domain.told == ["abort"]


async def test_a_copy_that_libvirt_lost_sight_of_is_never_pivoted() -> None:
    """It is not ready, a pivot is refused without asking libvirt, which would crash, and it can be broken off."""
    domain = Domain(COPY_DONE)
    domain.mirror = ""
    run = block_run(domain)
    assert not blocks.job_of(domain, "vda").ready
    with pytest.raises(DriverError, match="lost sight"):
        await run.steer(Steering(finish="pivot"))
    assert domain.told == []
    assert (await run.cancel()).sent


PIVOT = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
NOT_READY = Fault(reason=Reason.FAILED, message="not ready for pivot yet", libvirt_code=libvirt.VIR_ERR_BLOCK_COPY_ACTIVE)
HELD = Fault(reason=Reason.FOREIGN_JOB, message="held by virsh")
LANE_DOWN = Fault(reason=Reason.HOST_UNREACHABLE, message="too many clients")


class Refusing(Domain):
    """A domain whose mirror cannot be ended so."""

    def __init__(self, fault: Fault, flags: int = PIVOT) -> None:
        super().__init__(OURS)
        self.fault: Fault | None = fault
        self.flags = flags

    def blockJobAbort(self, disk: str, flags: int) -> None:  # noqa: N802 - libvirt's name
        if self.fault is not None and flags & self.flags:
            raise DriverError(self.fault)
        super().blockJobAbort(disk, flags)


def told(run: BlockRun) -> list[Fault | None]:
    """What was in the way with each report from now on."""
    troubles: list[Fault | None] = []
    run._runs.deliver = lambda notice: troubles.append(notice.trouble) if isinstance(notice, Report) else None
    return troubles


@pytest.mark.parametrize("fault", [NOT_READY, HELD, LANE_DOWN], ids=lambda fault: fault.message)
async def test_a_mirror_that_cannot_be_finished_now_says_so_and_is_left_for_the_next_look(fault: Fault) -> None:
    """It is neither broken off nor failed for it, each look tells why, and once nothing is in the way it is finished and that is over."""
    domain = Refusing(fault)
    run = block_run(domain, "pivot")
    troubles = told(run)
    for _ in range(3):
        assert not await run._is_over(READY)
    domain.fault = None
    assert not await run._is_over(READY)
    assert not await run._is_over(READY)
    assert (domain.told, troubles) == (["abort"], [None, fault, fault, fault, None])


@pytest.mark.parametrize("fault", [NOT_READY, LANE_DOWN], ids=lambda fault: fault.message)
async def test_a_mirror_that_is_never_let_finish_is_broken_off(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """After a time, and the error says why and that the disk is as it was."""
    monkeypatch.setattr(finishing, "PATIENCE_SECONDS", 0.0)
    domain = Refusing(fault)
    with pytest.raises(DriverError, match=f"{fault.message}; it was broken off") as caught:
        await block_run(domain, "pivot")._is_over(READY)
    assert (caught.value.reason, caught.value.fault.libvirt_code, domain.told) == (Reason.FAILED, fault.libvirt_code, ["abort"])


async def test_a_mirror_that_can_be_neither_finished_nor_broken_off_is_said_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that it is left on the disk, READY, and what to do about it."""
    monkeypatch.setattr(finishing, "PATIENCE_SECONDS", 0.0)
    domain = Refusing(LANE_DOWN, flags=libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)
    with pytest.raises(DriverError, match=r"left READY on the disk.*virsh blockjob") as caught:
        await block_run(domain, "pivot")._is_over(READY)
    assert (caught.value.reason, domain.told) == (Reason.FAILED, [])


async def test_a_mirror_of_a_domain_that_is_held_waits_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's job holds the domain: no time is too long for that, and what was refused before does not count."""
    monkeypatch.setattr(finishing, "PATIENCE_SECONDS", 0.0)
    domain = Refusing(HELD)
    run = block_run(domain, "pivot")
    for _ in range(3):
        assert not await run._is_over(READY)
    assert domain.told == []


async def test_a_try_to_finish_that_hangs_is_not_repeated_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one place among the aborts, is told as what is in the way, and counts when it comes through after all."""
    monkeypatch.setattr(block_runs, "STUCK_SECONDS", 0.01)
    go_on, calls = threading.Event(), Mock()
    domain = Domain(OURS)
    monkeypatch.setattr(domain, "blockJobAbort", lambda *_: (calls(), go_on.wait()))
    run = block_run(domain, "pivot")
    troubles = told(run)
    for _ in range(3):
        assert not await run._is_over(READY)
    go_on.set()
    assert run._trying is not None
    await run._trying
    assert not await run._is_over(READY)
    assert (calls.call_count, run.finishes) == (1, True)
    assert [fault is not None and fault.reason is Reason.FOREIGN_JOB for fault in troubles] == [False, True, True, True]


@pytest.mark.parametrize("sent_by", ["itself", "a caller"])
async def test_a_stop_that_is_answered_late_is_what_ended_the_copy(monkeypatch: pytest.MonkeyPatch, sent_by: str) -> None:
    """Its event comes as that of any abort: the copy was finished all the same, also where nobody waited for the answer any more."""
    monkeypatch.setattr(block_runs, "STUCK_SECONDS", 0.5)
    asked, go_on, returned = threading.Event(), threading.Event(), threading.Event()
    domain = Domain(OURS)

    def stop(_disk: str, _flags: int) -> None:
        asked.set()
        go_on.wait()
        returned.set()

    monkeypatch.setattr(domain, "blockJobAbort", stop)
    run = block_run(domain, "stop" if sent_by == "itself" else "wait")
    if sent_by == "itself":
        await run._is_over(READY)
    else:
        steering = asyncio.ensure_future(run.steer(Steering(finish="stop")))
        await asyncio.to_thread(asked.wait)
        steering.cancel()
        await asyncio.wait([steering])
    await asyncio.to_thread(asked.wait)
    assert run.finishes
    go_on.set()
    await asyncio.to_thread(returned.wait)
    domain.info, run._end = {}, libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
    assert (await run._outcome()).finish == "stop"


@pytest.mark.parametrize("what", ["cancel", "call"])
async def test_a_try_to_finish_whose_turn_comes_late_looks_again(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Where its cancel was asked for meanwhile, or another call is out on its domain, it is not sent."""
    monkeypatch.setattr(block_runs, "STUCK_SECONDS", 0.01)
    domain = Domain(OURS)
    run = block_run(domain, "pivot")
    lane, go_on = run._runs.lanes.abort, threading.Event()
    others = [asyncio.ensure_future(lane.call(lambda _: go_on.wait())) for _ in range(lane.cap or 0)]
    await asyncio.sleep(0)
    assert not await run._is_over(READY)
    run._run.unwanted = what == "cancel"
    if what == "call":
        run._runs.remember(out("d", DUMP, Phase.CALLING))
    go_on.set()
    assert run._trying is not None
    await asyncio.gather(run._trying, *others)
    assert (domain.told, run.finishes) == ([], False)


@pytest.mark.parametrize("fault", [HELD, LANE_DOWN, block_runs._SILENT], ids=["held", "no connection", "occupied"])
async def test_a_block_job_that_is_not_shown_says_why(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Where that lasts it is told, and no longer once it is seen again; it is followed on all the while."""
    monkeypatch.setattr(block_runs, "STUCK_SECONDS", 0.3)
    domain = Domain(OURS)
    run = block_run(domain)
    troubles = told(run)
    following = asyncio.ensure_future(run.follow())
    async with asyncio.timeout(30):
        with monkeypatch.context() as patch:
            patch.setattr(domain, "control", libvirt.VIR_DOMAIN_CONTROL_OCCUPIED if fault is block_runs._SILENT else domain.control)
            patch.setattr(domain, "blockJobInfo", Mock(side_effect=DriverError(fault)))
            while fault not in troubles:  # noqa: ASYNC110 - nobody announces a report
                await asyncio.sleep(0.01)
        while troubles[-1] is not None:  # noqa: ASYNC110 - nobody announces a report
            await asyncio.sleep(0.01)
    assert not following.done()
    following.cancel()
