"""kill -9 with real QEMU: the job is followed or concluded, told once, and never wrongly called a success.

Server and driver process take turns, so that a driver process is not started with the longer pauses that one gets which dies again and again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.beds.processes import kill
from tests.restart.bed import seed
from tests.restart.qemu_bed import FIRST, Bed
from tests.restart.qemu_round import MOMENTS, Moment, Round
from tests.restart.qemu_work import WORKS

pytestmark = [pytest.mark.restart, pytest.mark.hypervisor]

SEED = seed()
WHO = ("server", "driver")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=lambda number: f"{MOMENTS[number].name.lower()}_{number}")
@pytest.mark.parametrize("name", WORKS)
async def test_kill(qemu_bed: Bed, name: str, number: int, who: str) -> None:
    """The job of an operation that is under way, or about to begin or to end, ends as it should, and its domain is free for the next."""
    print(f"VIRTRPC_RESTART_SEED={SEED}")
    chance = random.Random(f"{SEED} {who} {name} {number}")
    ways = [way for way in WORKS[name] if way.abortable or MOMENTS[number] not in (Moment.CANCELLED, Moment.CANCELLING)]
    work = ways[number % len(ways)](qemu_bed)
    await Round(qemu_bed, work, who, MOMENTS[number], killer(qemu_bed, who, chance), chance).play()


def test_nothing_is_forgotten(qemu_bed: Bed) -> None:
    """After all these kills each job is there once, in the state in which its end was told."""
    with qemu_bed.server.blocking() as client:
        listed = [(job.job_id, job.state) for job in client.list_jobs() if job.job_id in qemu_bed.ended]
    assert sorted(listed) == sorted(qemu_bed.ended.items())


def killer(bed: Bed, who: str, chance: random.Random) -> Callable[[], None]:
    """What kills it, and starts it again where nobody else does."""
    if who == "driver":
        pid = bed.server.driver_pid(FIRST)
        return lambda: kill(pid)

    def crash() -> None:
        bed.server.kill()
        bed.server.check_journal()
        time.sleep(chance.uniform(0, 0.5))  # what is under way may end meanwhile, or not
        bed.server.start()

    return crash
