"""A driver that answers what a test lays out, when the test lets it; and short forms of the values it answers with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from virtrpc_drivers import support
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import Migrate, Scope
from virtrpc_drivers.protocol import Call, Change, Deliver, DomainChanged, HostDown, HostUp
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.values import (
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    DomainConfig,
    DomainReading,
    DomainState,
    FoundFile,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostInfo,
    HostStats,
    Listed,
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
    State,
    StatsReading,
    Steering,
)

WALL = 1_700_000_000.0


def stamp(moment: float, process: int = 0) -> Stamp:
    """A call that began `moment` seconds into the test."""
    return Stamp(process, moment, WALL + moment)


def uuid(number: int) -> str:
    """The UUID of domain NUMBER."""
    return f"00000000-0000-4000-8000-{number:012x}"


def reading(number: int, moment: float, name: str = "", **fields: Any) -> DomainReading:
    """Both groups of domain NUMBER, running unless `state` says otherwise; other fields go where they belong."""
    state: State = fields.pop("state", State.RUNNING)
    active = state not in (State.SHUTOFF, State.CRASHED)
    config = {key: fields.pop(key) for key in list(fields) if key not in DomainState.__struct_fields__}
    return DomainReading(
        uuid=uuid(number),
        name=name or f"guest-{number}",
        stamp=stamp(moment),
        state=DomainState(state=state, active=active, id=number if active else None, **fields),
        config=DomainConfig(**{"xml": f"<domain n='{number}'/>", **config}),
    )


def only(whole: DomainReading, group: Group) -> DomainReading:
    """One group of a reading."""
    kept = {"state": whole.state} if group is Group.STATE else {"config": whole.config}
    return DomainReading(uuid=whole.uuid, name=whole.name, stamp=whole.stamp, **kept)


def listing(moment: float, numbers: Iterable[int], names: dict[int, str] | None = None) -> Listing:
    """All domains of a host."""
    rows = tuple(Listed(uuid=uuid(number), name=(names or {}).get(number, f"guest-{number}")) for number in numbers)
    return Listing(stamp=stamp(moment), domains=rows)


class FakeDriver:
    """Holds `domains`, by number; `gate` is awaited by each read, before it looks."""

    def __init__(self, *readings: DomainReading) -> None:
        self.domains = {whole.uuid: whole for whole in readings}
        self.stats: dict[str, StatsReading] = {}
        self.reads: list[tuple[Group, tuple[str, ...]]] = []
        self.gate: Callable[[Group, Sequence[str]], Awaitable[None]] | None = None
        self.deliver: Deliver = lambda _notice: None

    def _now(self) -> Stamp:
        return stamp(asyncio.get_running_loop().time())

    async def start(self, deliver: Deliver) -> None:
        """Connected at once."""
        self.deliver = deliver
        self.up()

    def up(self, **info: Any) -> None:
        """Say that the host is connected."""
        self.deliver(HostUp(info=HostInfo(**{"uri": "fake:///", "hypervisor": "fake", "verbs": support.table("fake"), **info})))

    def down(self, message: str = "connection refused") -> None:
        """Say that the connection is lost."""
        self.deliver(HostDown(fault=failure(Reason.HOST_UNREACHABLE, message).fault))

    def changed(self, number: int, came_in: float | None = None) -> None:
        """Say that something about a domain changed; the event came in at this moment, or nobody knows when."""
        self.deliver(DomainChanged(uuid=uuid(number), change=Change.LIFECYCLE, stamp=None if came_in is None else stamp(came_in)))

    async def list(self) -> Listing:
        """What is there now."""
        return Listing(stamp=self._now(), domains=tuple(Listed(uuid=whole.uuid, name=whole.name) for whole in self.domains.values()))

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """Stamped when it is asked, read when the gate opens."""
        began = self._now()
        self.reads.append((group, tuple(uuids)))
        if self.gate is not None:
            await self.gate(group, uuids)
        found = [self.domains[which] for which in uuids if which in self.domains]
        return Readings(
            found=tuple(
                DomainReading(uuid=whole.uuid, name=whole.name, stamp=began, **{group.value: getattr(whole, group.value)}) for whole in found
            ),
            missing=tuple(Missing(uuid=which, stamp=began) for which in uuids if which not in self.domains),
        )

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """The statistics that were laid out."""
        return Samples(stats=tuple(self.stats[which] for which in uuids if which in self.stats))

    async def save_image(self, path: str) -> SaveImage:
        """It has none."""
        raise failure(Reason.UNSUPPORTED, path)

    async def follow(self, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """They lie where they are said to."""
        return tuple(FoundFile(path=file.path, inside=True, named=file.path) for file in files)

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """Its guests have no agents."""
        raise failure(Reason.AGENT_UNRESPONSIVE, uuid)

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """It has none."""
        raise failure(Reason.WRONG_STATE, uuid)

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """Its guests have no agents."""
        raise failure(Reason.AGENT_UNRESPONSIVE, uuid)

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """Its guests have no agents."""
        raise failure(Reason.AGENT_UNRESPONSIVE, uuid)

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """It counts nothing."""
        return ResourceParameters()

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """It measures nothing."""
        return DirtyRate()

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """It has no screens."""
        raise failure(Reason.UNSUPPORTED, uuid)

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """It has none to tell."""
        return "<domainCapabilities/>"

    async def host_stats(self) -> HostStats:
        """It is idle."""
        return HostStats(stamp=self._now(), user_ns=0, memory_bytes=1 << 30)

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """It cannot tell."""
        return Pulses()

    async def run(self, call: Call) -> Outcome:
        """It can do nothing."""
        raise failure(Reason.UNSUPPORTED, call.operation.verb)

    async def resume(self, call: Call) -> Outcome:
        """It can do nothing."""
        raise failure(Reason.UNSUPPORTED, call.operation.verb)

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """See Driver.checkpoints."""
        return Checkpoints()

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """See Driver.checkpoint_xml."""
        raise failure(Reason.CHECKPOINT_NOT_FOUND, name)

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """See Driver.steer."""
        return CancelAnswer(sent=False)

    async def cancel(self, call_id: str) -> CancelAnswer:
        """It can do nothing."""
        return CancelAnswer(sent=False)

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """It can do nothing."""
        return TuneAnswer(sent=False)

    async def departure(self, operation: Migrate) -> Departure:
        """Nothing is known."""
        return Departure()

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """Nothing is known."""
        return Arrival()

    async def probe(self, uuid: str) -> None:
        """Nothing is ever stuck."""

    async def snapshots(self, uuid: str) -> Snapshots:
        """None."""
        return Snapshots()

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """None."""
        raise failure(Reason.SNAPSHOT_NOT_FOUND, name)

    async def current_snapshot(self, uuid: str) -> str | None:
        """None."""
        return None

    async def close(self) -> None:
        """Nothing to close."""
