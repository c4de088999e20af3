"""The protocol's Driver for a simulated hypervisor, in the server's process or in a driver process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from xml.sax.saxutils import escape

import msgspec

from virtrpc_drivers import leads, paths
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import Migrate, Scope
from virtrpc_drivers.protocol import Call, attributes
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.sim import (
    agent,
    calls,
    checkpoints,
    control,
    dirty_rate,
    files,
    images,
    migration,
    proofs,
    readings,
    resources,
    snapshots,
    stats,
)
from virtrpc_drivers.sim.connection import Connection
from virtrpc_drivers.sim.faults import ANY
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.sim.tracing import Work, traced
from virtrpc_drivers.values import (
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    DomainReading,
    FoundFile,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostStats,
    Listing,
    Missing,
    NamedFile,
    Outcome,
    Pulses,
    Readings,
    Samples,
    SaveImage,
    Screenshot,
    Snapshots,
    Stamp,
    Steering,
)

T = TypeVar("T")


class SimDriver(Connection):
    """The protocol's Driver on such a connection."""

    async def list(self) -> Listing:
        """See Driver.list."""
        return await self._query("list", ANY, lambda stamp: readings.listing(self.hypervisor, stamp))

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """See Driver.read. One domain that hangs holds up the whole answer."""
        return await self._within(self._read(uuids, group))

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """See Driver.sample. A guest that was stopped while idle hangs the sweep; one whose job is held gives a partial answer."""
        return await self._within(self._sample(uuids))

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """See Driver.checkpoints."""
        return await self._query("checkpoints", uuid, lambda _: checkpoints.of_domain(self.hypervisor.domain(uuid)))

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """See Driver.checkpoint_xml."""
        return await self._query("checkpoint_xml", uuid, lambda _: checkpoints.xml(self.hypervisor.domain(uuid), name, size=size))

    async def save_image(self, path: str) -> SaveImage:
        """See Driver.save_image."""
        paths.check((path,), self._settings.path_roots, local=True)
        return await self._query("save_image", ANY, lambda _: files.read(self.hypervisor, path))

    async def follow(self, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """See Driver.follow. Those of this machine, with which the simulated ones share their names."""
        return await self._within(asyncio.to_thread(leads.follow, files, self._settings.path_roots, local=True))

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """See Driver.guest_info."""
        return await self._query("guest_info", uuid, lambda stamp: agent.guest_info(self.hypervisor, uuid, stamp))

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """See Driver.managed_save_image."""
        return await self._query("managed_save_image", uuid, lambda _: images.managed_save_image(self.hypervisor, uuid))

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """See Driver.guest_vcpus."""
        return await self._query("guest_vcpus", uuid, lambda _: agent.guest_vcpus(self.hypervisor, uuid))

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """See Driver.authorized_ssh_keys."""
        return await self._query("authorized_ssh_keys", uuid, lambda _: agent.authorized_ssh_keys(self.hypervisor, uuid, user))

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """See Driver.resource_parameters."""
        return await self._query("resource_parameters", uuid, lambda _: resources.resource_parameters(self.hypervisor, uuid, scope))

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """See Driver.dirty_rate."""
        return await self._query("dirty_rate", uuid, lambda _: dirty_rate.dirty_rate(self.hypervisor, uuid))

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """See Driver.screenshot: one black point."""
        return await self._query("screenshot", uuid, lambda _: readings.screenshot(self.hypervisor, uuid, screen))

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """See Driver.domain_capabilities. This host has no emulators."""
        if emulator:
            raise failure(Reason.INVALID_ARGUMENT, f"{emulator[:256]!r} is none of this host's emulators: its capabilities list them")
        described = f"<domainCapabilities><domain>{escape(virt_type or 'sim')}</domain><arch>{escape(arch or 'x86_64')}</arch></domainCapabilities>"
        return await self._query("domain_capabilities", ANY, lambda _: described)

    async def host_stats(self) -> HostStats:
        """See Driver.host_stats."""
        return await self._query("host_stats", ANY, lambda stamp: stats.host_reading(self.hypervisor, stamp))

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """See Driver.pulses."""
        return await self._query("pulses", ANY, lambda _: readings.pulses(self.hypervisor, uuids))

    async def run(self, call: Call) -> Outcome:
        """See Driver.run."""
        self._check_up()
        self._refuse(call)
        if call.operation.trail is not None:
            await self._within(asyncio.to_thread(leads.hold, call.operation.trail, self._settings.path_roots, local=True))
        return await self._traced("sim", call, self._follow(self.hypervisor.begin(call)))

    async def resume(self, call: Call) -> Outcome:
        """See Driver.resume. A call that is still inside is followed; one that ended is told, where the hypervisor remembers it."""
        return await self._traced("resume", call, self._resumed(call))

    async def _traced(self, what: str, call: Call, work: Coroutine[Any, Any, T]) -> T:
        span = Work(f"{what} {call.operation.verb}", call.traceparent, attributes(call, self._settings.host))
        return await (traced(self._deliver, span, work) if self._settings.tracing else work)

    async def _resumed(self, call: Call) -> Outcome:
        self._check_up()
        job = self.hypervisor.jobs.get(call.id)
        if job is not None and (not job.done or self._options.remembers) and not job.carried_away:
            if not job.done and not self._options.remembers and not job.visible and job.block is None and not job.phase.on_its_own:
                raise failure(Reason.OUTCOME_UNKNOWN, "the hypervisor does not show this call, and it may still be on its way")
            return await self._follow(job)
        return self._stamped(proofs.conclude(self.hypervisor, call))

    async def cancel(self, call_id: str) -> CancelAnswer:
        """See Driver.cancel."""
        self._check_up()
        return await self._within(calls.cancel(self.hypervisor, call_id))

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """See Driver.tune."""
        self._check_up()
        return await self._within(calls.tune(self.hypervisor, call_id, tuning))

    async def departure(self, operation: Migrate) -> Departure:
        """See Driver.departure."""
        return await self._query("departure", operation.uuid, lambda _: migration.departure(self.hypervisor, operation))

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """See Driver.arrival."""
        return await self._query("arrival", facts.uuid, lambda _: migration.arrival(self.hypervisor, facts, uri))

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """See Driver.steer."""
        self._check_up()
        return await self._within(calls.steer(self.hypervisor, call_id, steering))

    async def probe(self, uuid: str) -> None:
        """See Driver.probe; returns at once where the domain is off or gone."""
        await self._within(self._probe(uuid))

    async def snapshots(self, uuid: str) -> Snapshots:
        """See Driver.snapshots."""
        return await self._query("snapshots", uuid, lambda _: snapshots.of_domain(self.hypervisor.domain(uuid)))

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """See Driver.snapshot_xml."""
        return await self._query("snapshot_xml", uuid, lambda _: snapshots.xml(snapshots.find(self.hypervisor.domain(uuid), name)))

    async def current_snapshot(self, uuid: str) -> str | None:
        """See Driver.current_snapshot."""
        return await self._query("current_snapshot", uuid, lambda _: self.hypervisor.domain(uuid).current)

    async def simulate(self, command: msgspec.Struct | msgspec.Raw) -> Any:
        """Carry out a command of virtrpc_drivers.sim.control."""
        return control.apply(self, command)

    def _refuse(self, call: Call) -> None:
        """What is refused before the hypervisor hears of it."""
        if not row(self._options.shape, call.operation.verb).supported:
            raise failure(Reason.UNSUPPORTED, f"this hypervisor cannot do {call.operation.verb}")
        if self._settings.read_only:
            raise failure(Reason.HOST_READ_ONLY, "this host is configured read-only")
        paths.check(call.operation.files, self._settings.path_roots, local=True)

    async def _probe(self, uuid: str) -> None:
        await self.hypervisor.faults.strike("probe", uuid)
        await self.hypervisor.free(uuid)

    async def _read(self, uuids: Sequence[str], group: Group) -> Readings:
        found: list[DomainReading] = []
        missing: list[Missing] = []
        for uuid in uuids:
            item = await self._look("read", uuid, lambda stamp, uuid=uuid: readings.reading(self.hypervisor, uuid, group, stamp))  # type: ignore[misc]
            if isinstance(item, Missing):
                missing.append(item)
            else:
                found.append(item)
        return Readings(found=tuple(found), missing=tuple(missing))

    async def _sample(self, uuids: Sequence[str]) -> Samples:
        hypervisor, found = self.hypervisor, []
        await asyncio.sleep(self._options.read_latency)
        for uuid in uuids:
            stamp = self._stamp()
            await hypervisor.faults.strike("sample", uuid)
            busy = hypervisor.is_busy(uuid)
            if not busy:
                await hypervisor.monitor(uuid)
            domain = hypervisor.domains.get(uuid)
            if domain is not None and domain.active:
                found.append(stats.reading(hypervisor, domain, stamp, partial=busy))
        return Samples(stats=tuple(found))

    async def _query(self, verb: str, uuid: str, look: Callable[[Stamp], T]) -> T:
        return await self._within(self._look(verb, uuid, look))

    async def _look(self, verb: str, uuid: str, look: Callable[[Stamp], T]) -> T:
        """Look at the hypervisor, late and with whatever goes wrong; the stamp is from before all that."""
        stamp, latency = self._stamp(), self._options.read_latency
        if latency:
            await asyncio.sleep(latency / 2)
        await self.hypervisor.faults.strike(verb, uuid)
        seen = look(stamp)
        await self.hypervisor.faults.strike(verb, uuid, -1)
        if latency:
            await asyncio.sleep(latency / 2)
        return seen
