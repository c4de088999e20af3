"""What a block job that is over answers to who would steer it: nothing is sent to whatever else the disk has."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.block_runs import BlockRun
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.events import Ear
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import Phase, Steering

COPY = ops.CopyBlock(uuid="u", disk="vda", xml="<disk type='file'><source file='/images/copy'/></disk>", finish="wait")
PULL = {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL, "cur": 1, "end": 2}
OURS = {"type": libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, "cur": 1, "end": 2}


class Domain:
    """A domain with this block job on its disk; remembers what it was told. It is its own connection."""

    def __init__(self, info: dict[str, int]) -> None:
        self.info = info
        self.told: list[str] = []

    def lookupByUUIDString(self, _uuid: str) -> Domain:  # noqa: N802 - libvirt's name
        return self

    def blockJobInfo(self, _disk: str, _flags: int) -> dict[str, int]:  # noqa: N802 - libvirt's name
        return self.info

    def blockJobSetSpeed(self, _disk: str, _rate: int, _flags: int) -> None:  # noqa: N802 - libvirt's name
        self.told.append("speed")

    def blockJobAbort(self, _disk: str, _flags: int) -> None:  # noqa: N802 - libvirt's name
        self.told.append("abort")

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True


def block_run(domain: Any) -> BlockRun:
    """A mirror that is ready."""
    run = Run(Call(id="c", operation=COPY, began=0.0), abortable=True, phase=Phase.READY)
    return BlockRun(run, Runs(Lanes(lambda: domain), Clock(0), lambda _: None), Ear("u"))


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
