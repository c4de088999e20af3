"""A backup that is followed: events that are late, clocks that are set, a hypervisor that says nothing, and what proves one that nobody saw."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import libvirt
import pytest

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.libvirt import backup_runs, proofs
from virtrpc_drivers.libvirt.backup_runs import BackupRun
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.events import Ear, RawEvent
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import AnyNotice, Call, Report
from virtrpc_drivers.values import Outcome, Phase, Steering

PULL = ops.Backup(
    uuid="u", xml="<domainbackup mode='pull'><server socket='/s'/><disks><disk name='vda'><scratch file='/x'/></disk></disks></domainbackup>"
)
DONE = {libvirt.VIR_DOMAIN_JOB_OPERATION: libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP, libvirt.VIR_DOMAIN_JOB_SUCCESS: True}


class Domain:
    """A domain at a backup; it is its own connection."""

    def __init__(self) -> None:
        self.began = time.time()
        self.step = 0.0
        """Seconds by which the host's clock was set."""
        self.backup = True
        self.occupied = False
        self.completed: dict[str, Any] | None = None
        self.aborts = 0

    def lookupByUUIDString(self, _uuid: str) -> Domain:  # noqa: N802 - libvirt's name
        return self

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def controlInfo(self, _flags: int) -> list[int]:  # noqa: N802 - libvirt's name
        return [libvirt.VIR_DOMAIN_CONTROL_OCCUPIED if self.occupied else libvirt.VIR_DOMAIN_CONTROL_OK, 0, 0]

    def state(self, _flags: int = 0) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING, 1]

    def jobStats(self, flags: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        if flags & libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED:
            return self.completed or {"type": libvirt.VIR_DOMAIN_JOB_NONE}
        if not self.backup:
            return {"type": libvirt.VIR_DOMAIN_JOB_NONE}
        elapsed = int((time.time() + self.step - self.began) * 1000)
        return {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, **DONE, libvirt.VIR_DOMAIN_JOB_TIME_ELAPSED: elapsed}

    def backupGetXMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return PULL.xml

    def abortJob(self) -> None:  # noqa: N802 - libvirt's name
        self.aborts += 1


class Followed:
    """Such a backup on its way, and what was said of it."""

    def __init__(self) -> None:
        self.domain, self.ear = Domain(), Ear("u")
        self.said: list[AnyNotice] = []
        self.runs = Runs(Lanes(lambda: self.domain), Clock(0), self.said.append)
        run = Run(Call(id="c", operation=PULL, began=time.time()), abortable=True, began=time.monotonic(), phase=Phase.CALLING)
        self.runs.remember(run)
        self.backup = BackupRun(run, self.runs, self.ear, Outcome(backup=PULL.asked))
        self.task = asyncio.ensure_future(self.backup.follow())

    async def looked(self, looks: int = 2) -> None:
        """Return once it was looked at so many times more."""
        wanted = len(self.said) + looks
        async with asyncio.timeout(30):
            while len(self.said) < wanted:  # noqa: ASYNC110 - nobody announces a look
                await asyncio.sleep(0.01)

    def trouble(self) -> Fault | None:
        """What was said last to be in its way."""
        last = self.said[-1]
        assert isinstance(last, Report)
        return last.trouble

    def hears(self, name: str, **of_it: Any) -> None:
        """An event comes in."""
        self.ear.heard.put_nowait(RawEvent("u", name, Clock(0).stamp(), **of_it))


async def test_an_event_of_an_earlier_run_ends_nothing() -> None:
    """That the guest has stopped is for a look to say: here it finds the backup at work."""
    followed = Followed()
    followed.hears("LIFECYCLE", code=libvirt.VIR_DOMAIN_EVENT_STOPPED)
    await followed.looked()
    assert not followed.task.done()
    followed.task.cancel()


@pytest.mark.parametrize("step", [2.0, -40.0])
async def test_a_clock_that_is_set_ends_nothing(step: float) -> None:
    """The backup goes on and can be told to end: libvirt counts by wall time, and anew where its daemon was restarted."""
    followed = Followed()
    await followed.looked()
    followed.domain.step = step
    await followed.looked()
    assert not followed.task.done()
    assert (await followed.backup.steer(Steering(finish="stop"))).sent
    assert followed.domain.aborts == 1
    followed.hears("JOB_COMPLETED", fields={**DONE, libvirt.VIR_DOMAIN_JOB_ERRMSG: "Operation canceled"})
    assert (await followed.task).backup is not None


async def test_a_guest_that_hangs_is_told_as_such() -> None:
    """What cannot be asked cannot be told to end: that is no "over"."""
    followed = Followed()
    await followed.looked()
    followed.domain.occupied = True
    with pytest.raises(DriverError) as caught:
        await followed.backup.steer(Steering(finish="stop"))
    assert caught.value.reason is Reason.FOREIGN_JOB
    assert not (await followed.backup.cancel()).sent
    assert followed.domain.aborts == 0
    followed.task.cancel()


async def test_one_that_is_not_shown_says_why() -> None:
    """It is told what is in the way for as long as that lasts, and followed on."""
    followed = Followed()
    await followed.looked()
    held = Fault(reason=Reason.FOREIGN_JOB, message="held by virsh")
    with patch.object(followed.domain, "jobStats", Mock(side_effect=DriverError(held))):
        await followed.looked()
        assert followed.trouble() == held
    await followed.looked()
    assert (followed.trouble(), followed.task.done()) == (None, False)
    followed.task.cancel()


@pytest.mark.parametrize(
    ("completed", "reason"),
    [
        (None, Reason.INTERRUPTED),
        ({**DONE, libvirt.VIR_DOMAIN_JOB_ERRMSG: "Operation canceled"}, Reason.ABORTED),
        ({**DONE, libvirt.VIR_DOMAIN_JOB_SUCCESS: False, libvirt.VIR_DOMAIN_JOB_ERRMSG: "No space left on device"}, Reason.FAILED),
        (DONE, None),
    ],
)
async def test_one_that_is_gone_without_an_event(completed: dict[str, Any] | None, reason: Reason | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics that libvirt keeps say how it ended; where there are none, nobody knows."""
    monkeypatch.setattr(backup_runs, "QUIET_SECONDS", 0.0)
    followed = Followed()
    await followed.looked()
    followed.domain.completed, followed.domain.backup = completed, False
    if reason is None:
        assert (await followed.task).backup is not None
        return
    with pytest.raises(DriverError) as caught:
        await followed.task
    assert caught.value.reason is reason


async def test_progress_of_a_pull() -> None:
    """It is READY, and says where its data is."""
    followed = Followed()
    await followed.looked(1)
    told = followed.said[-1]
    assert isinstance(told, Report)
    assert (told.phase, told.abortable) == (Phase.READY, True)
    assert told.backup is not None
    assert told.backup.server is not None
    assert told.backup.server.socket == "/s"
    followed.task.cancel()


def test_statistics_of_an_earlier_one_prove_nothing(tmp_path: Path) -> None:
    """A backup or dump that never reached libvirt is not proven by the statistics of one before it: its file must be there, and new."""
    domain, file = Domain(), tmp_path / "full"
    domain.completed = DONE
    push = ops.Backup(uuid="u", xml=f"<domainbackup><disks><disk name='vda'><target file='{file}'/></disk></disks></domainbackup>")
    call = Call(id="c", operation=push, began=time.time())
    assert not proofs.prove(domain, call).proven
    file.touch()
    assert proofs.prove(domain, call).proven
    assert not proofs.prove(domain, call, local=False).proven
    later = Call(id="c", operation=push, began=time.time() + 60)
    assert not proofs.prove(domain, later).proven
    domain.completed = {libvirt.VIR_DOMAIN_JOB_OPERATION: libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP, "type": libvirt.VIR_DOMAIN_JOB_COMPLETED}
    dump = ops.DumpCore(uuid="u", path=str(file))
    assert proofs.prove(domain, Call(id="c", operation=dump, began=call.began)).proven
    assert not proofs.prove(domain, Call(id="c", operation=dump, began=later.began)).proven
