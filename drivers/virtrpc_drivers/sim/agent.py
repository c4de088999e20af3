"""The verbs that a guest's agent carries out, and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.values import GuestFilesystem, GuestInfo, GuestInterface, GuestVcpu, Outcome, Stamp

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def answering(hypervisor: SimHypervisor, job: JobHandle, uuid: str) -> SimDomain:
    """The domain, whose agent answers. Raises AGENT_UNRESPONSIVE, WRONG_STATE."""
    domain = active(hypervisor, uuid)
    await job.strike(1)
    if _silent(domain):
        await job.spend(hypervisor.options.agent_seconds)
        raise _unresponsive()
    return active(hypervisor, uuid)


def _silent(domain: SimDomain) -> bool:
    return not domain.agent or domain.stopped is not None


def _unresponsive() -> DriverError:
    return sdk_error(Reason.AGENT_UNRESPONSIVE, "Guest agent is not responding: QEMU guest agent is not connected")


async def set_user_password(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetUserPassword) -> None:
    """Have the guest's agent set a password."""
    (await answering(hypervisor, job, operation.uuid)).passwords[operation.user] = operation.password


async def freeze(hypervisor: SimHypervisor, job: JobHandle, operation: ops.FreezeFilesystems) -> Outcome:
    """Freeze the guest's one file system. Raises OPERATION_FAILED where it is frozen."""
    domain = await answering(hypervisor, job, operation.uuid)
    if domain.frozen:
        raise sdk_error(Reason.FAILED, "unable to execute QEMU agent command 'guest-fsfreeze-freeze': filesystem is already frozen")
    domain.frozen = True
    return Outcome(count=1)


async def thaw(hypervisor: SimHypervisor, job: JobHandle, operation: ops.ThawFilesystems) -> Outcome:
    """Thaw what is frozen."""
    domain = await answering(hypervisor, job, operation.uuid)
    thawed, domain.frozen = domain.frozen, False
    return Outcome(count=int(thawed))


async def trim(hypervisor: SimHypervisor, job: JobHandle, operation: ops.TrimFilesystems) -> None:
    """Trim the guest's file system: nothing shows it."""
    await answering(hypervisor, job, operation.uuid)


async def set_guest_time(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetGuestTime) -> None:
    """Set the guest's clock."""
    domain = await answering(hypervisor, job, operation.uuid)
    domain.clock_offset = 0.0 if operation.synchronise else operation.seconds + operation.nanoseconds / 1e9 - hypervisor.wall()


async def set_guest_vcpus(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetGuestVcpus) -> None:
    """Switch virtual CPUs inside the guest. Raises INVALID_ARGUMENT for one that there is not, and for the first, without which no guest can do."""
    domain = await answering(hypervisor, job, operation.uuid)
    if any(number >= _vcpus(domain) for number in operation.vcpus):
        raise sdk_error(Reason.INVALID_ARGUMENT, "guest is missing a vCPU that was named")
    if 0 in operation.vcpus and not operation.online:
        raise sdk_error(Reason.INVALID_ARGUMENT, "vCPU '0' is not offlinable")
    asked = frozenset(operation.vcpus)
    domain.offline_vcpus = domain.offline_vcpus - asked if operation.online else domain.offline_vcpus | asked


async def set_authorized_ssh_keys(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetAuthorizedSshKeys) -> None:
    """Change a user's keys."""
    domain = await answering(hypervisor, job, operation.uuid)
    there, asked = domain.ssh_keys.get(operation.user, ()), operation.keys
    match operation.change:
        case "add":
            domain.ssh_keys[operation.user] = there + tuple(key for key in asked if key not in there)
        case "remove":
            domain.ssh_keys[operation.user] = tuple(key for key in there if key not in asked)
        case _:
            domain.ssh_keys[operation.user] = asked


def _told(hypervisor: SimHypervisor, uuid: str) -> SimDomain:
    """The domain, whose agent answers at once. Raises AGENT_UNRESPONSIVE, WRONG_STATE."""
    domain = active(hypervisor, uuid)
    if _silent(domain):
        raise _unresponsive()
    return domain


def _vcpus(domain: SimDomain) -> int:
    return domain.definition.config.vcpus_config or 1


def guest_vcpus(hypervisor: SimHypervisor, uuid: str) -> tuple[GuestVcpu, ...]:
    """The virtual CPUs that the guest sees; it cannot do without the first."""
    domain = _told(hypervisor, uuid)
    return tuple(GuestVcpu(number=number, online=number not in domain.offline_vcpus, offlinable=number > 0) for number in range(_vcpus(domain)))


def authorized_ssh_keys(hypervisor: SimHypervisor, uuid: str, user: str) -> tuple[str, ...]:
    """A user's keys."""
    return _told(hypervisor, uuid).ssh_keys.get(user, ())


def guest_info(hypervisor: SimHypervisor, uuid: str, stamp: Stamp) -> GuestInfo:
    """What the guest's agent tells. Raises AGENT_UNRESPONSIVE, WRONG_STATE."""
    domain = _told(hypervisor, uuid)
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
