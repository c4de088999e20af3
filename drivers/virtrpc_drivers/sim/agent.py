"""The verbs that a guest's agent carries out, and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.values import GuestFilesystem, GuestInfo, GuestInterface, Outcome, Stamp

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def _answering(hypervisor: SimHypervisor, job: JobHandle, uuid: str) -> SimDomain:
    """The domain, whose agent answers. Raises AGENT_UNRESPONSIVE, WRONG_STATE."""
    domain = active(hypervisor, uuid)
    await job.strike(1)
    if not domain.agent or domain.stopped is not None:
        await job.spend(hypervisor.options.agent_seconds)
        raise sdk_error(Reason.AGENT_UNRESPONSIVE, "Guest agent is not responding: QEMU guest agent is not connected")
    return active(hypervisor, uuid)


async def set_user_password(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetUserPassword) -> None:
    """Have the guest's agent set a password."""
    (await _answering(hypervisor, job, operation.uuid)).passwords[operation.user] = operation.password


async def freeze(hypervisor: SimHypervisor, job: JobHandle, operation: ops.FreezeFilesystems) -> Outcome:
    """Freeze the guest's one file system. Raises OPERATION_FAILED where it is frozen."""
    domain = await _answering(hypervisor, job, operation.uuid)
    if domain.frozen:
        raise sdk_error(Reason.FAILED, "unable to execute QEMU agent command 'guest-fsfreeze-freeze': filesystem is already frozen")
    domain.frozen = True
    return Outcome(count=1)


async def thaw(hypervisor: SimHypervisor, job: JobHandle, operation: ops.ThawFilesystems) -> Outcome:
    """Thaw what is frozen."""
    domain = await _answering(hypervisor, job, operation.uuid)
    thawed, domain.frozen = domain.frozen, False
    return Outcome(count=int(thawed))


async def trim(hypervisor: SimHypervisor, job: JobHandle, operation: ops.TrimFilesystems) -> None:
    """Trim the guest's file system: nothing shows it."""
    await _answering(hypervisor, job, operation.uuid)


async def set_guest_time(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetGuestTime) -> None:
    """Set the guest's clock."""
    domain = await _answering(hypervisor, job, operation.uuid)
    domain.clock_offset = 0.0 if operation.synchronise else operation.seconds + operation.nanoseconds / 1e9 - hypervisor.wall()


def guest_info(hypervisor: SimHypervisor, uuid: str, stamp: Stamp) -> GuestInfo:
    """What the guest's agent tells. Raises AGENT_UNRESPONSIVE, WRONG_STATE."""
    domain = active(hypervisor, uuid)
    if not domain.agent or domain.stopped is not None:
        raise sdk_error(Reason.AGENT_UNRESPONSIVE, "Guest agent is not responding: QEMU guest agent is not connected")
    cards = domain.definition.config.interfaces
    return GuestInfo(
        stamp=stamp,
        hostname=domain.name,
        os={"id": "sim", "pretty-name": "Simulated Linux", "machine": "x86_64"},
        timezone="UTC",
        time=hypervisor.wall() + domain.clock_offset,
        filesystems=(GuestFilesystem(mountpoint="/", device="vda1", type="ext4", disks=("vda",)),),
        interfaces=tuple(GuestInterface(name=f"eth{number}", mac=card.mac) for number, card in enumerate(cards)),
    )
