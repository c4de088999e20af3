"""The protocol's Driver for every hypervisor that libvirt reaches: each method picks a lane and hands the blocking call over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from virtrpc_drivers import leads, paths
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.libvirt import (
    capabilities,
    checkpoints,
    guest,
    host_stats,
    planning,
    pulses,
    readings,
    resources,
    screenshot,
    snapshots,
)
from virtrpc_drivers.libvirt.calls import Started
from virtrpc_drivers.libvirt.host import NOT_YET
from virtrpc_drivers.libvirt.operations import dirty_rate, files, images
from virtrpc_drivers.libvirt.stats import Sampler
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import Migrate, Scope
from virtrpc_drivers.protocol import Call, Deliver, DriverSettings
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

T = TypeVar("T")


class LibvirtDriver:
    """One host reached through libvirt.

    `give_up` is called where only a new process can reach it again (an embedded driver whose start failed); without it the
    driver goes on trying.
    """

    def __init__(self, settings: DriverSettings, give_up: Callable[[], None] | None = None) -> None:
        self._settings = settings
        self._give_up = give_up
        self._clock = readings.Clock(settings.process)
        self._sampler = Sampler(self._clock)
        self._started: Started | None = None

    async def start(self, deliver: Deliver) -> None:
        """Begin to connect; returns at once."""
        self._started = Started(self._settings, deliver, self._clock, self._give_up)

    @property
    def _up(self) -> Started:
        if self._started is None:
            raise DriverError(NOT_YET)
        return self._started

    async def list(self) -> Listing:
        """virConnectListAllDomains."""
        return await self._read(lambda connection: readings.listing(connection, self._clock))

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """State, or configuration, of each; bounded in size and time, what was not looked at is in `rest`."""
        return await self._read(lambda connection: readings.readings(connection, uuids, group, self._clock))

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """virDomainListGetStats with NOWAIT. Hangs where a monitor does; the next call then goes over another connection."""
        return await self._up.host.lanes.stats.call(lambda connection: self._sampler.sample(connection, uuids))

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """virDomainGetInfo, GetControlInfo and GetCPUStats: none of them asks a monitor."""
        local = self._up.host_is_local
        return await self._read(lambda connection: pulses.pulses(connection, uuids, local=local))

    async def run(self, call: Call) -> Outcome:
        """One operation to its end. Abandoning it leaves it running."""
        return self._stamped(await asyncio.shield(self._up.keep(self._up.carry_out(call))))

    async def resume(self, call: Call) -> Outcome:
        """What became of a call that an earlier process, or an earlier connection, sent."""
        return self._stamped(await asyncio.shield(self._up.keep(self._up.conclude(call))))

    def _stamped(self, outcome: Outcome) -> Outcome:
        return replace(outcome, stamp=self._clock.stamp())

    async def cancel(self, call_id: str) -> CancelAnswer:
        """virDomainAbortJob, only where the domain's job is this very call."""
        return await self._up.runs.cancel(call_id)

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """virDomainMigrateSetMaxDowntime and its neighbours, only where the domain's job is this very migration."""
        return await self._up.runs.tune(call_id, tuning)

    async def departure(self, operation: Migrate) -> Departure:
        """What can be read of the source: its definition, its devices, its state."""
        return await self._look(lambda connection: planning.departure(connection, operation))

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """What can be read of the destination: names, uuids, CPU, machine types, memory."""
        return await self._look(lambda connection: planning.arrival(connection, operation, facts, uri))

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """virDomainBlockJobAbort (PIVOT) and virDomainBlockJobSetSpeed, only on the disk of this very call."""
        return await self._up.runs.steer(call_id, steering)

    async def probe(self, uuid: str) -> None:
        """Returns once libvirt's job on this domain could be taken."""
        await self._up.probes.probe(uuid)

    async def host_stats(self) -> HostStats:
        """virNodeGetCPUStats and virNodeGetMemoryStats."""
        return await self._read(lambda connection: host_stats.host_stats(connection, self._clock))

    async def snapshots(self, uuid: str) -> Snapshots:
        """virDomainListAllSnapshots."""
        return await self._look(lambda connection: snapshots.of_domain(connection, uuid))

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """virDomainSnapshotGetXMLDesc."""
        return await self._look(lambda connection: snapshots.xml(connection, uuid, name))

    async def current_snapshot(self, uuid: str) -> str | None:
        """virDomainSnapshotCurrent."""
        return await self._look(lambda connection: snapshots.current_name(connection.lookupByUUIDString(uuid)))

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """virDomainListAllCheckpoints."""
        return await self._look(lambda connection: checkpoints.of_domain(connection, uuid))

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """virDomainCheckpointGetXMLDesc."""
        return await self._look(lambda connection: checkpoints.xml(connection, uuid, name, size=size))

    async def save_image(self, path: str) -> SaveImage:
        """virDomainSaveImageGetXMLDesc."""
        paths.check((path,), self._settings.path_roots, local=self._up.host_is_local)
        return await self._look(lambda connection: files.save_image(connection, path))

    async def follow(self, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """Of the hypervisor's files, where this machine has them."""
        return await asyncio.to_thread(leads.follow, files, self._settings.path_roots, local=self._up.host_is_local)

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """virDomainGetGuestInfo, GetTime and InterfaceAddresses: through the agent."""
        return await self._look(lambda connection: guest.guest_info(connection, uuid, parts, self._clock))

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """virDomainManagedSaveGetXMLDesc."""
        return await self._look(lambda connection: images.managed_save_image(connection, uuid))

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """virDomainGetGuestVcpus: through the agent."""
        return await self._look(lambda connection: guest.guest_vcpus(connection.lookupByUUIDString(uuid)))

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """virDomainAuthorizedSSHKeysGet: through the agent."""
        return await self._look(lambda connection: guest.authorized_ssh_keys(connection.lookupByUUIDString(uuid), user))

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """virDomainGetSchedulerParametersFlags, GetMemoryParameters, GetNumaParameters, GetBlkioParameters."""
        return await self._look(lambda connection: resources.resource_parameters(connection, uuid, scope))

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """virDomainListGetStats, of the one group."""
        return await self._look(lambda connection: dirty_rate.dirty_rate(connection, uuid))

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """virDomainScreenshot."""
        return await self._look(lambda connection: screenshot.take(connection, uuid, screen))

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """virConnectGetDomainCapabilities."""
        return await self._look(lambda connection: capabilities.of_domains(connection, emulator, arch, machine, virt_type))

    async def close(self) -> None:
        """Close connections, each on a thread of its own; calls that are out are abandoned."""
        if self._started is not None:
            started, self._started = self._started, None
            await started.close()

    async def _read(self, work: Callable[[Any], T]) -> T:
        return await self._up.host.lanes.reads.call(work)

    async def _look(self, work: Callable[[Any], T]) -> T:
        return await self._up.host.lanes.work.call(work)
