"""A driver that is somewhere else: each method of the `Driver` protocol is a request that is sent there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from virtrpc_drivers import wire
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import Migrate, Scope
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.values import (
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    FoundFile,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostStats,
    Listing,
    NamedFile,
    Outcome,
    Pulses,
    Readings,
    Samples,
    SaveImage,
    Screenshot,
    Snapshots,
    Steering,
)


class Forwarding(ABC):
    """All of `Driver` but its start and its end. `_ask` sends a request and awaits its answer; it raises DriverError."""

    @abstractmethod
    async def _ask(self, kind: type[wire.Request], **fields: Any) -> Any:
        """Send a request of this kind; its answer."""

    async def list(self) -> Listing:
        """See Driver.list."""
        answer: Listing = await self._ask(wire.ListDomains)
        return answer

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """See Driver.read."""
        answer: Readings = await self._ask(wire.ReadDomains, uuids=tuple(uuids), group=group)
        return answer

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """See Driver.sample."""
        answer: Samples = await self._ask(wire.SampleDomains, uuids=tuple(uuids))
        return answer

    async def host_stats(self) -> HostStats:
        """See Driver.host_stats."""
        answer: HostStats = await self._ask(wire.ReadHostStats)
        return answer

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """See Driver.pulses."""
        answer: Pulses = await self._ask(wire.ReadPulses, uuids=tuple(uuids))
        return answer

    async def run(self, call: Call) -> Outcome:
        """See Driver.run."""
        answer: Outcome = await self._ask(wire.RunCall, call=call)
        return answer

    async def resume(self, call: Call) -> Outcome:
        """See Driver.resume."""
        answer: Outcome = await self._ask(wire.ResumeCall, call=call)
        return answer

    async def cancel(self, call_id: str) -> CancelAnswer:
        """See Driver.cancel."""
        answer: CancelAnswer = await self._ask(wire.CancelCall, call_id=call_id)
        return answer

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """See Driver.tune."""
        answer: TuneAnswer = await self._ask(wire.TuneCall, call_id=call_id, tuning=tuning)
        return answer

    async def departure(self, operation: Migrate) -> Departure:
        """See Driver.departure."""
        answer: Departure = await self._ask(wire.AskDeparture, operation=operation)
        return answer

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """See Driver.arrival."""
        answer: Arrival = await self._ask(wire.AskArrival, operation=operation, facts=facts, uri=uri)
        return answer

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """See Driver.steer."""
        answer: CancelAnswer = await self._ask(wire.SteerCall, call_id=call_id, steering=steering)
        return answer

    async def probe(self, uuid: str) -> None:
        """See Driver.probe."""
        await self._ask(wire.Probe, uuid=uuid)

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """See Driver.checkpoints."""
        answer: Checkpoints = await self._ask(wire.ListCheckpoints, uuid=uuid)
        return answer

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """See Driver.checkpoint_xml."""
        answer: str = await self._ask(wire.ReadCheckpointXml, uuid=uuid, name=name, size=size)
        return answer

    async def snapshots(self, uuid: str) -> Snapshots:
        """See Driver.snapshots."""
        answer: Snapshots = await self._ask(wire.ListSnapshots, uuid=uuid)
        return answer

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """See Driver.snapshot_xml."""
        answer: str = await self._ask(wire.ReadSnapshotXml, uuid=uuid, name=name)
        return answer

    async def current_snapshot(self, uuid: str) -> str | None:
        """See Driver.current_snapshot."""
        answer: str | None = await self._ask(wire.ReadCurrentSnapshot, uuid=uuid)
        return answer

    async def simulate(self, command: msgspec.Struct) -> Any:
        """Send a command of virtrpc_drivers.sim.control to a simulated hypervisor; UNSUPPORTED on any other."""
        return await self._ask(wire.Simulate, command=msgspec.Raw(msgspec.msgpack.encode(command)))

    async def save_image(self, path: str) -> SaveImage:
        """See Driver.save_image."""
        answer: SaveImage = await self._ask(wire.ReadSaveImage, path=path)
        return answer

    async def follow(self, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """See Driver.follow."""
        answer: tuple[FoundFile, ...] = await self._ask(wire.FollowFiles, files=tuple(files))
        return answer

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """See Driver.guest_info."""
        answer: GuestInfo = await self._ask(wire.ReadGuestInfo, uuid=uuid, parts=tuple(parts))
        return answer

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """See Driver.managed_save_image."""
        answer: SaveImage = await self._ask(wire.ReadManagedSaveImage, uuid=uuid)
        return answer

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """See Driver.guest_vcpus."""
        answer: tuple[GuestVcpu, ...] = await self._ask(wire.ReadGuestVcpus, uuid=uuid)
        return answer

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """See Driver.authorized_ssh_keys."""
        answer: tuple[str, ...] = await self._ask(wire.ReadAuthorizedSshKeys, uuid=uuid, user=user)
        return answer

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """See Driver.resource_parameters."""
        answer: ResourceParameters = await self._ask(wire.ReadResourceParameters, uuid=uuid, scope=scope)
        return answer

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """See Driver.dirty_rate."""
        answer: DirtyRate = await self._ask(wire.ReadDirtyRate, uuid=uuid)
        return answer

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """See Driver.screenshot."""
        answer: Screenshot = await self._ask(wire.TakeScreenshot, uuid=uuid, screen=screen)
        return answer

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """See Driver.domain_capabilities."""
        answer: str = await self._ask(wire.ReadDomainCapabilities, emulator=emulator, arch=arch, machine=machine, virt_type=virt_type)
        return answer
