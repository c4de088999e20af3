"""Whose job libvirt's statistics show, and the one abort that may be sent."""

import asyncio
import threading
import time
from typing import Any

import libvirt
import pytest

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import runs as runs_module
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.progress import JobLook, is_ours, job_operation, report
from virtrpc_drivers.libvirt.proofs import Conclusion, resumed
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import AnyNotice, Call, Report
from virtrpc_drivers.values import CancelAnswer
from virtrpc_server.budgets import BESIDE

SAVE = libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE
DUMP = libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP
LIVE = libvirt.VIR_DOMAIN_JOB_UNBOUNDED
NONE = libvirt.VIR_DOMAIN_JOB_NONE
COMPLETED = libvirt.VIR_DOMAIN_JOB_COMPLETED


class Domain:
    """A domain whose job statistics a test chooses; remembers aborts. It is its own connection."""

    def __init__(self, kind: int, operation: int, elapsed_ms: int) -> None:
        self.fields = {"type": kind, "operation": operation, "time_elapsed": elapsed_ms}
        self.aborts = 0
        self.control = libvirt.VIR_DOMAIN_CONTROL_OK
        self.looks = 0

    def lookupByUUIDString(self, _uuid: str) -> "Domain":  # noqa: N802 - libvirt's name
        return self

    def controlInfo(self, _flags: int) -> list[int]:  # noqa: N802 - libvirt's name
        return [self.control, 0, 0]

    def jobStats(self, _flags: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        self.looks += 1
        return self.fields

    def abortJob(self) -> None:  # noqa: N802 - libvirt's name
        self.aborts += 1

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True


async def cancel(domain: Domain, began: float | None = 10.0, operation: ops.AnyOperation | None = None, abortable: bool = True) -> CancelAnswer:
    """Cancel a call that went out 10 s ago, seen from second 20."""
    call = Call(id="c", operation=operation or ops.ManagedSave(uuid="u"), began=0.0)
    runs = Runs(Lanes(lambda: domain), Clock(0), lambda _: None)
    runs.by_id["c"] = Run(call, abortable=abortable, began=began, now=lambda: 20.0)
    return await runs.cancel("c")


@pytest.mark.parametrize(
    ("kind", "operation", "elapsed_ms"),
    [
        pytest.param(NONE, 0, 0, id="no job"),
        pytest.param(LIVE, DUMP, 1_000, id="another's dump"),
        pytest.param(LIVE, SAVE, 15_000, id="another's save, older than our call"),
        pytest.param(COMPLETED, SAVE, 1_000, id="ours, in its last steps"),
    ],
)
async def test_another_job_is_never_aborted(kind: int, operation: int, elapsed_ms: int) -> None:
    """The abort is not sent where the domain's job is not this call; a later attempt may still find it."""
    domain = Domain(kind, operation, elapsed_ms)
    answer = await cancel(domain)
    assert (answer.sent, answer.final, domain.aborts) == (False, False, 0)
    assert answer.message


@pytest.mark.parametrize("control", [libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, libvirt.VIR_DOMAIN_CONTROL_JOB])
async def test_a_monitor_that_is_occupied_is_not_asked(control: int) -> None:
    """The look would hang for as long as the monitor does, and hold a worker of the daemon: it is not sent, and a later attempt may be."""
    domain = Domain(LIVE, SAVE, 9_000)
    domain.control = control
    answer = await cancel(domain)
    assert (answer.sent, answer.final, domain.looks) == (False, False, 0)


async def test_a_look_that_hangs_is_the_only_one_at_its_domain() -> None:
    """Whoever asks for another waits for that one, so that a wedged guest holds one worker; other domains are looked at meanwhile."""
    let_go = threading.Event()

    class Hanging(Domain):
        def jobStats(self, flags: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
            shown = super().jobStats(flags)
            assert let_go.wait(10)
            return shown

    well, wedged = Domain(LIVE, SAVE, 9_000), Hanging(LIVE, SAVE, 9_000)

    class Host(Domain):
        def lookupByUUIDString(self, uuid: str) -> Domain:  # noqa: N802 - libvirt's name
            return wedged if uuid == "w" else well

    told: list[Any] = []
    runs = Runs(Lanes(lambda: Host(LIVE, SAVE, 0)), Clock(0), told.append)
    calls = [Call(id=name, operation=ops.ManagedSave(uuid="w"), began=0.0) for name in ("one", "two")]
    for call in calls:
        following = asyncio.ensure_future(runs.follow(Run(call, abortable=True, began=10.0, now=lambda: 20.0)))
        for _ in range(10):
            await asyncio.sleep(0.01)
        following.cancel()
    assert await runs.look("v") == JobLook(LIVE, SAVE, 9.0, well.fields)
    assert (wedged.looks, told) == (1, [])
    looking = runs.look("w")
    let_go.set()
    assert await looking is not None
    assert await runs.look("w") is not None
    assert wedged.looks == 2


async def test_progress_comes_back_with_its_connection() -> None:
    """A daemon that has no connection left for the looks may have one later: the call goes on, and is followed on."""
    domain, said, opened = Domain(LIVE, SAVE, 10_000), asyncio.Queue[AnyNotice](), 0

    def open_at_the_third_time() -> Domain:
        nonlocal opened
        opened += 1
        if opened < 3:
            raise libvirt.libvirtError("too many clients")
        return domain

    runs = Runs(Lanes(open_at_the_third_time), Clock(0), said.put_nowait)
    call = Call(id="c", operation=ops.ManagedSave(uuid="u"), began=0.0)
    following = asyncio.ensure_future(runs.follow(Run(call, abortable=True, began=10.0, now=lambda: 20.0)))
    async with asyncio.timeout(30):
        report = await said.get()
    assert isinstance(report, Report)
    assert (report.abortable, opened) == (True, 3)
    following.cancel()


def test_what_may_hang_beside_the_budget_is_bounded() -> None:
    """The sum of all lanes whose calls can block a daemon's worker for good is what the server reckons with; reads do not, nor destroys."""
    lanes = Lanes(lambda: None)
    assert sum(lane.most or 0 for lane in (lanes.abort, lanes.progress, lanes.stats, lanes.probe)) == BESIDE


@pytest.mark.parametrize("over", [libvirt.VIR_DOMAIN_JOB_FAILED, libvirt.VIR_DOMAIN_JOB_CANCELLED])
async def test_an_adopted_job_that_is_about_to_be_gone_is_no_others(over: int) -> None:
    """libvirt does not say for how long a job ran that failed or was aborted: it is followed until it is gone, and then judged by what is there."""
    ago = 100.0
    looks = [(LIVE, SAVE, ago), (over, SAVE, 0.0), (NONE, 0, 0.0)]

    class Ending(Domain):
        def jobStats(self, _flags: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
            kind, operation, elapsed = looks.pop(0)
            return {"type": kind, "operation": operation, "time_elapsed": int(elapsed * 1000)}

    lanes = Lanes(lambda: Ending(NONE, 0, 0))
    run = resumed(Call(id="c", operation=ops.Save(uuid="u", path="/images/s"), began=time.time() - ago), abortable=True)
    assert await Conclusion(run, Runs(lanes, Clock(0), lambda _: None), lanes, local=True)._follow()
    assert not looks


async def test_our_job_is_aborted() -> None:
    """The same operation, begun after our call went out."""
    domain = Domain(LIVE, SAVE, 9_000)
    assert (await cancel(domain)).sent
    assert domain.aborts == 1


async def test_a_job_that_began_after_the_first_look_is_not_aborted() -> None:
    """Between the look and the abort our job can end and another's begin: the abort looks again, and a later attempt may find ours."""

    class Changing(Domain):
        def jobStats(self, _flags: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
            shown = dict(self.fields)
            self.fields["operation"] = DUMP
            return shown

    domain = Changing(LIVE, SAVE, 9_000)
    answer = await cancel(domain)
    assert (answer, domain.aborts) == (CancelAnswer(sent=False, message=runs_module.NOT_SHOWN), 0)


async def test_a_call_that_ends_before_its_abort_is_sent() -> None:
    """While the abort waits for its place the call ends: a save that somebody then begins is not aborted for it."""
    domain = Domain(LIVE, SAVE, 9_000)
    let_go = threading.Event()
    runs = Runs(Lanes(lambda: domain), Clock(0), lambda _: None)
    run = runs.by_id["c"] = Run(Call(id="c", operation=ops.ManagedSave(uuid="u"), began=0.0), abortable=True, began=10.0, now=lambda: 20.0)
    others = [asyncio.ensure_future(runs.lanes.abort.call(lambda _: let_go.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    cancelling = asyncio.ensure_future(runs.cancel("c"))
    await asyncio.sleep(0)
    others.append(asyncio.ensure_future(runs.lanes.abort.call(lambda _: let_go.wait(10))))
    while run.check is None or not run.check.done():  # noqa: ASYNC110 - a thread brings it about
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    runs.forget(run)
    let_go.set()
    answer = await cancelling
    assert (answer.sent, answer.final, domain.aborts) == (False, False, 0)
    await asyncio.gather(*others)


async def test_a_call_that_has_not_reached_libvirt_is_not_aborted() -> None:
    """Nothing is sent before the call itself is."""
    domain = Domain(LIVE, SAVE, 1_000)
    answer = await cancel(domain, began=None)
    assert (answer.sent, answer.final, domain.aborts) == (False, False, 0)


async def test_a_verb_without_abort_says_so_for_good() -> None:
    """No later attempt can succeed."""
    answer = await cancel(Domain(LIVE, SAVE, 1_000), operation=ops.Suspend(uuid="u"), abortable=False)
    assert (answer.sent, answer.final) == (False, True)


@pytest.mark.parametrize(
    ("operation", "shown_as"),
    [
        (ops.ManagedSave(uuid="u"), SAVE),
        (ops.Migrate(uuid="u", destination_uri="x"), libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT),
        (ops.CreateSnapshot(uuid="u", name="s", xml="<domainsnapshot/>"), None),
        (
            ops.CreateSnapshot(uuid="u", name="s", xml="<domainsnapshot><memory file='/m'/></domainsnapshot>"),
            libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT,
        ),
        (ops.Start(uuid="u"), None),
    ],
)
def test_what_has_statistics(operation: ops.AnyOperation, shown_as: int | None) -> None:
    """Only what libvirt keeps job statistics of is looked for in them."""
    assert job_operation(operation) == shown_as


def test_clock_slack() -> None:
    """libvirt's rounding does not make our own job look older than our call."""
    job = JobLook(kind=LIVE, operation=SAVE, elapsed=10.2, fields={})
    assert is_ours(job, SAVE, began=10.0, now=20.0)
    assert not is_ours(job, SAVE, began=11.0, now=20.0)


def test_a_job_that_began_much_later_is_not_adopted() -> None:
    """A call whose fate is unknown is not taken for what somebody else began long after it was sent."""
    job = JobLook(kind=LIVE, operation=SAVE, elapsed=5.0, fields={})
    assert is_ours(job, SAVE, began=100.0, now=125.0, within=30.0)
    assert not is_ours(job, SAVE, began=100.0, now=145.0, within=30.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"data_total": 0, "data_processed": 0, "data_remaining": 0}, (None, None, None)),
        ({"data_total": 100, "data_processed": 20, "data_remaining": 60, "memory_bps": 30}, (20, 60, 2.0)),
        ({"data_total": 100, "data_processed": 20, "data_remaining": 60, "time_remaining": 5000}, (20, 60, 5.0)),
    ],
)
def test_reports(fields: dict[str, int], expected: tuple[int | None, int | None, float | None]) -> None:
    """Bytes and seconds as libvirt counts them; nothing before it counts."""
    made = report("c", JobLook(kind=LIVE, operation=SAVE, elapsed=0.0, fields=fields), Clock(0).stamp())
    assert (made.processed_bytes, made.remaining_bytes, made.remaining_seconds) == expected


async def test_a_look_that_hangs_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a wedged guest's save is cancelled, one call hangs for it; once it returns, the next look is a new one."""
    monkeypatch.setattr(runs_module, "STUCK_SECONDS", 0.01)
    opened, looks = threading.Event(), 0

    class Wedged(Domain):
        def jobStats(self, _flags: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
            nonlocal looks
            looks += 1
            opened.wait(10)
            return self.fields

    domain = Wedged(LIVE, SAVE, 9_000)
    runs = Runs(Lanes(lambda: domain), Clock(0), lambda _: None)
    call = Call(id="c", operation=ops.ManagedSave(uuid="u"), began=0.0)
    run = runs.by_id["c"] = Run(call, abortable=True, began=10.0, now=lambda: 20.0)
    for _ in range(20):
        assert not (await runs.cancel("c")).sent
    assert (looks, domain.aborts) == (1, 0)
    opened.set()
    assert run.check is not None
    await run.check
    monkeypatch.setattr(runs_module, "STUCK_SECONDS", 10.0)
    assert (await runs.cancel("c")).sent
    assert (looks, domain.aborts) == (3, 1)
