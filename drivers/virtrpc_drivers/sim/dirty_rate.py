"""How fast a simulated guest changes its memory: as fast as a migration finds it to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.values import DirtyRate

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor

RATE = 8 << 20
"""Bytes a second."""


async def start(hypervisor: SimHypervisor, job: JobHandle, operation: ops.StartDirtyRateCalculation) -> None:
    """Begin to measure. Raises OPERATION_FAILED while that goes on."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    if dirty_rate(hypervisor, operation.uuid).measuring:
        raise sdk_error(Reason.FAILED, "unable to execute QEMU command 'calc-dirty-rate': the dirty rate is already being measured.")
    domain.measured = (hypervisor.now(), operation.seconds)


def dirty_rate(hypervisor: SimHypervisor, uuid: str) -> DirtyRate:
    """What was measured. Raises WRONG_STATE."""
    measured = active(hypervisor, uuid).measured
    if measured is None:
        return DirtyRate()
    began, seconds = measured
    measuring = hypervisor.now() < began + seconds
    return DirtyRate(measuring=measuring, seconds=seconds, bytes_per_second=None if measuring else RATE)
