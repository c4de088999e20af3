"""What the domain shows after a job's call, and what the destroys that were sent meanwhile make of its ending."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from virtrpc_drivers.operations import AnyOperation, Migrate
from virtrpc_drivers.values import DomainReading, Outcome, Slot
from virtrpc_server import verbs
from virtrpc_server.domains import Entry
from virtrpc_server.endings import Ending, preempted, stated
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.records import Job, JobState

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs

REFRESH_SECONDS = 5.0
DESTROY_SECONDS = 20.0
"""How long a call that failed under a destroy waits for the destroy's end; a stopped QEMU takes 12 s to kill."""


class Judge:
    """Judges the ending of one job by what is read after its call."""

    def __init__(self, jobs: Jobs, host: Host, operation: AnyOperation, slot: Slot) -> None:
        self.destroys: list[str] = []
        """Those that were sent while the job was under way, but for those that left the domain running."""
        self._jobs = jobs
        self._host = host
        self._operation = operation
        self._destroys = slot is Slot.DESTROY

    def entry(self, job: Job) -> Entry | None:
        """The domain as last read. Another one that has its uuid now is none of this job's business: it counts as gone."""
        entry = self._jobs.domains.get((job.host, job.uuid))
        return entry if entry is not None and job.generation in (None, entry.generation) else None

    async def judged(self, job: Job, ending: Ending) -> Ending:
        """The ending of a call that is over, once the domain was read again; bounded, whatever the hypervisor does."""
        await self._destroys_over(ending)
        read = await self.look(job, ending.outcome)
        ending = self._in_its_light(job, ending, read=read)
        await self._look_at_destination(job, ending)
        return ending

    async def look(self, job: Job, outcome: Outcome | None = None) -> bool:
        """Read the domain, and say whether that came to be; where a destroy has left it running, nobody is its victim."""
        read = await self._host.refresher.refresh(job.uuid, REFRESH_SECONDS)
        if not read:
            self._note_unread(job, outcome)
        if self._destroys and self.runs(job):
            self._jobs.spare(job.id)
        return read

    def runs(self, job: Job) -> bool:
        """Whether the domain is known to run, or to be paused, now."""
        entry = self.entry(job)
        return entry is not None and entry.active and self._host.group_freshness(entry, verbs.STATE) is Freshness.LIVE

    def _note_unread(self, job: Job, outcome: Outcome | None) -> None:
        """The domain could not be read in time: that it is there, and by what name, its call has shown. What is not known yet is not gone."""
        name = verbs.gives_name(self._operation)
        if name is not None and outcome is not None and outcome.stamp is not None:
            self._jobs.domains.read(job.host, DomainReading(uuid=job.uuid, name=name, stamp=outcome.stamp))

    async def _destroys_over(self, ending: Ending) -> None:
        """A call that a destroy cuts off fails before libvirt says that the guest is off: only after the destroy can a reading tell why it failed."""
        if ending.state is JobState.FAILED:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DESTROY_SECONDS):
                    for destroy in list(self.destroys):
                        await self._jobs.over(destroy)

    def _in_its_light(self, job: Job, ending: Ending, *, read: bool) -> Ending:
        entry = self.entry(job)
        unsure = self._host.refresher.is_dirty(job.uuid, verbs.STATE)
        # A domain that was not read, of a host that was never listed, is unknown and not gone.
        gone = entry is None and (read or self._host.listed)
        off = gone or (entry is not None and entry.state is not None and not entry.active)
        # libvirt kills the process first and takes the job after: a destroy that failed may well have destroyed.
        if self._destroys and ending.state is JobState.FAILED and (gone or (off and not unsure)):
            return Ending(JobState.SUCCEEDED, outcome=Outcome(), evidence=ending.problem.message if ending.problem else "")
        # Of a call that was lost nobody knows whether it did its work before.
        if self.destroys and ending.problem is not None and ending.state is not JobState.INTERRUPTED and (off or unsure):
            return preempted(job, self.destroys[0])
        return ending if entry is None or entry.state is None else stated(ending, entry.state.value.state)

    async def _look_at_destination(self, job: Job, ending: Ending) -> None:
        destination = self._jobs.hosts.get(job.destination_host)
        if destination is None or ending.state is not JobState.SUCCEEDED or await destination.refresher.refresh(job.uuid, REFRESH_SECONDS):
            return
        # As `_note_unread`: that it came there was announced, in that host's own time.
        came = destination.refresher.announced(job.uuid)
        if came is not None and isinstance(self._operation, Migrate):
            name = self._operation.new_name or job.name
            self._jobs.domains.read(destination.name, DomainReading(uuid=job.uuid, name=name, stamp=came))
