"""Callers that know no mercy: mixed verbs on a few domains, some queued behind others, some cancelled, some left alone; and watchers that resume."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import grpc

from tests.restart.told import Told
from virtrpc import AsyncClient, AsyncJobHandle, DomainMirror, NotFound, VirtrpcError, job_options
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

Send = Callable[[t.JobOptions], Awaitable[AsyncJobHandle]]
GUARD = 60.0
"""Seconds after which a wait is called a hang."""
ASK_AGAIN = 0.05
LEAVING: tuple[Literal["default", "detach", "cancel"], ...] = ("default", "default", "detach", "detach", "detach", "cancel")


@dataclass
class Load:
    """Callers and watchers of one server, at work between `begin` and `finish`."""

    client: AsyncClient
    told: Told
    chances: random.Random
    hosts: str
    """Their names, a letter each."""
    paths: str = "/tmp"
    """A directory among the server's path_roots."""
    callers: int = 40
    pause: float = 0.3
    """Seconds that a caller thinks, at most, before it asks for something else."""
    mirror: DomainMirror = field(default_factory=DomainMirror)
    watched: dict[str, set[str]] = field(default_factory=dict)
    """The jobs whose end each watcher was told."""
    snapshots: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _busy: dict[str, str] = field(default_factory=dict)
    """What callers wait for."""
    _past: list[tuple[str, Send, str]] = field(default_factory=list)
    """Requests that were accepted: their id, themselves, and the job."""

    async def begin(self) -> None:
        """Begin to watch and to ask."""
        start = asyncio.get_running_loop().create_task
        self._watchers = [start(self._watch_domains()), start(self._watch_jobs("steady")), start(self._watch_jobs("restless", leaves=True))]
        async with asyncio.timeout(GUARD):
            while not self.mirror.caught_up:  # noqa: ASYNC110 - what is waited for is on the other side of a stream
                await asyncio.sleep(ASK_AGAIN)
        self._tasks = [start(self._call()) for _ in range(self.callers)]

    async def finish(self) -> None:
        """Ask for nothing more, and return once every caller has heard how its last job ended."""
        self._over.set()
        try:
            async with asyncio.timeout(2 * GUARD):
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            raise TimeoutError(f"some callers are still told nothing: {self._busy}") from None

    def assert_well(self) -> None:
        """Nobody was told what must not be told, and nobody has given up."""
        self.told.assert_well()
        for task in (*self._tasks, *self._watchers):
            if task.done() and not task.cancelled():
                task.result()

    async def caught_up(self, jobs: Collection[str]) -> None:
        """Return once each watcher has heard how these jobs ended; or after a while, for the reckoning to say which it has not."""
        try:
            async with asyncio.timeout(GUARD / 4):
                while any(seen < set(jobs) for seen in self.watched.values()):  # noqa: ASYNC110 - as in `begin`
                    await asyncio.sleep(ASK_AGAIN)
        except TimeoutError:
            return

    async def stop_watching(self) -> None:
        """End the watchers; fails where one has failed."""
        for watcher in self._watchers:
            watcher.cancel()
        ended = await asyncio.gather(*self._watchers, return_exceptions=True)
        assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []

    # Callers

    async def _call(self) -> None:
        while not self._over.is_set():
            await asyncio.sleep(self.chances.uniform(0, self.pause))
            if not self.mirror.domains:
                continue  # a new server, which has not listed its hosts yet
            if self._past and self.chances.random() < 0.05:
                await self._repeat()
                continue
            request_id = f"request-{next(self._numbers)}"
            name, send = self._choose()
            how = job_options(
                on_disconnect=self.chances.choice(LEAVING), request_id=request_id, wait_timeout=self.chances.choice((None, None, 5, 60))
            )
            handle = await self._accepted(request_id, send, how)
            if handle is not None:
                self._past = [*self._past[-50:], (request_id, send, handle.job_id)]
                await self._follow(f"{name} {request_id}", handle)

    async def _accepted(self, request_id: str, send: Send, how: t.JobOptions) -> AsyncJobHandle | None:
        """Ask until the server has accepted or refused, through restarts: with the same request_id this is safe."""
        asked = [self._ask(request_id, send, how) for _ in range(2 if self.chances.random() < 0.1 else 1)]
        handles = [handle for handle in await asyncio.gather(*asked) if handle is not None]
        if handles:
            # One of two was refused for a host that was not there yet, and the other came later.
            self.told.refused.pop(request_id, None)
        for other in handles[1:]:
            other.close()
        return handles[0] if handles else None

    async def _ask(self, request_id: str, send: Send, how: t.JobOptions, *, patient: bool = False) -> AsyncJobHandle | None:
        """Until there is an answer; `patient`: also as long as the journal is still being read."""
        self._busy[request_id] = "to be accepted"
        try:
            return await self._answer(request_id, send, how, patient=patient)
        finally:
            self._busy.pop(request_id, None)

    async def _answer(self, request_id: str, send: Send, how: t.JobOptions, *, patient: bool) -> AsyncJobHandle | None:
        while True:
            try:
                handle = await send(how)
            except VirtrpcError as error:
                if not was_cut(error) and not (patient and error.reason == "JOURNAL_UNAVAILABLE"):
                    self.told.refused[request_id] = f"{error.reason}: {error}"
                    return None
                await asyncio.sleep(ASK_AGAIN)
            else:
                self.told.accepted(request_id, handle.job_id)
                return handle

    async def _follow(self, who: str, handle: AsyncJobHandle) -> None:
        """Listen to the end; some cancel on the way, some leave and come back."""
        self._busy[who] = handle.job_id
        mood = self.chances.random()
        meddling = asyncio.ensure_future(self._cancel(handle, mood)) if mood < 0.15 else None
        if 0.15 <= mood < 0.3:
            handle.close()
            await asyncio.sleep(self.chances.uniform(0, 0.5))
            handle = self.client.watch_job(handle.job_id)
        try:
            async for job in handle:
                self.told.heard(who, job)
        except NotFound:
            self.told.lost(who, handle.job_id)
        if meddling is not None:
            await meddling
        self._busy.pop(who)

    async def _cancel(self, handle: AsyncJobHandle, mood: float) -> None:
        await asyncio.sleep(2 * mood)
        try:
            await handle.cancel()
        except NotFound:
            self.told.lost("a caller that cancels", handle.job_id)
        except VirtrpcError as error:
            if not was_cut(error):  # else the server is being killed, and the job goes on
                raise

    async def _repeat(self) -> None:
        """An old request again, by another caller, attaches to its job."""
        request_id, send, job_id = self.chances.choice(self._past)
        handle = await self._ask(request_id, send, job_options(request_id=request_id), patient=True)
        if handle is not None and handle.job_id == job_id:
            await self._follow(f"again {request_id}, {next(self._numbers)}", handle)
        elif handle is None:
            self.told.wrong.append(f"[forgotten] request {request_id} was job {job_id}, and then refused: {self.told.refused.pop(request_id)}")

    # What they ask for

    def _choose(self) -> tuple[str, Send]:
        """Something that is likely to be possible, seldom anything at all; half of it on a few domains, so that they queue."""
        keys = sorted(self.mirror.domains)
        few = keys[:: max(1, len(keys) // 6)]
        key = self.chances.choice(few if self.chances.random() < 0.5 else keys)
        domain = self.mirror.domains[key]
        possible = self._possible(domain)
        anything = self.chances.random() < 0.1
        name = self.chances.choice(sorted(VERBS) if anything else possible)
        return name, VERBS[name](self, domain)

    def _possible(self, domain: t.Domain) -> list[str]:
        always = ["set_metadata", "create_snapshot", "delete_snapshot" if self.snapshots.get((domain.host, domain.uuid)) else "set_metadata"]
        match domain.state:
            case t.DOMAIN_STATE_RUNNING:
                return [*always, "suspend", "managed_save", "managed_save", "migrate", "migrate", "copy_block", "copy_block", "reset", "destroy"]
            case t.DOMAIN_STATE_PAUSED:
                return [*always, "resume", "resume", "managed_save", "destroy"]
            case _:
                return [*always, "start", "start", "start"]

    def _set_metadata(self, domain: t.Domain) -> Send:
        # A text of its own: it stands in the definition only where this very job put it there.
        text = f"text {next(self._numbers)}"
        return lambda how: self.client.set_metadata(reference(domain), description=text, scope=t.CHANGE_SCOPE_CONFIG, options=how)

    def _create_snapshot(self, domain: t.Domain) -> Send:
        name = f"snapshot-{next(self._numbers)}"
        self.snapshots.setdefault((domain.host, domain.uuid), []).append(name)
        return lambda how: self.client.create_snapshot(reference(domain), definition=j.SnapshotDefinition(name=name), options=how)

    def _delete_snapshot(self, domain: t.Domain) -> Send:
        names = self.snapshots.get((domain.host, domain.uuid))
        name = names.pop(0) if names else "none"
        return lambda how: self.client.delete_snapshot(reference(domain), name=name, options=how)

    def _migrate(self, domain: t.Domain) -> Send:
        # Both hosts call their guests alike: one that moves has a name of its own.
        there = self.chances.choice([host for host in self.hosts if host != domain.host])
        settings = t.MigrationSettings(host=there, destination_name=f"moved-{domain.uuid[-17:]}", persist_destination=True, undefine_source=True)
        return lambda how: self.client.migrate_domain(reference(domain), settings=settings, options=how)

    def _copy_block(self, domain: t.Domain) -> Send:
        file = j.BlockCopyFile(path=f"{self.paths}/copy-{next(self._numbers)}.img")
        finish = t.BLOCK_JOB_FINISH_PIVOT
        return lambda how: self.client.copy_block(reference(domain), disk="vda", file=file, finish=finish, transient_job=True, options=how)

    # Watchers

    async def _watch_domains(self) -> None:
        async for batch in self.client.watch_domains():
            self.mirror.apply(batch)

    async def _watch_jobs(self, who: str, *, leaves: bool = False) -> None:
        """From the beginning to the end of the test; one that `leaves` closes its stream now and then, and resumes by the token of its last batch."""
        seen, token = self.watched.setdefault(who, set()), ""
        while True:
            watch = self.client.watch_jobs(resume_token=token)
            async for batch in watch:
                if batch.reset:
                    seen.clear()
                for change in batch.changes:
                    self._take(who, seen, change)
                token = watch.resume_token
                if leaves and self.chances.random() < 0.1:
                    watch.close()
                    break
            await asyncio.sleep(self.chances.uniform(0, 0.2))

    def _take(self, who: str, seen: set[str], change: j.JobChange) -> None:
        job = change.current
        if change.WhichOneof("change") != "current":
            self.told.wrong.append(f"[removed] the {who} watcher was told to forget job {change.removed.job_id}")
            return
        self.told.heard(f"the {who} watcher", job)
        if job.HasField("end_time"):
            if job.job_id in seen:
                self.told.wrong.append(f"[repeated] the {who} watcher was told twice that job {job.job_id} has ended")
            seen.add(job.job_id)


def was_cut(error: VirtrpcError) -> bool:
    """It is no answer of a server: the connection broke, or nobody listens."""
    cut = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return error.code in cut and error.reason in ("", "DRAINING")


def reference(domain: t.Domain) -> str:
    """What a caller names a domain by."""
    return f"{domain.host}/{domain.uuid}"


VERBS: dict[str, Callable[[Load, t.Domain], Send]] = {
    "start": lambda load, domain: lambda how: load.client.start_domain(reference(domain), options=how),
    "suspend": lambda load, domain: lambda how: load.client.suspend_domain(reference(domain), options=how),
    "resume": lambda load, domain: lambda how: load.client.resume_domain(reference(domain), options=how),
    "managed_save": lambda load, domain: lambda how: load.client.managed_save_domain(reference(domain), options=how),
    "reset": lambda load, domain: lambda how: load.client.reset_domain(reference(domain), options=how),
    "destroy": lambda load, domain: lambda how: load.client.destroy_domain(reference(domain), options=how),
    "set_metadata": Load._set_metadata,
    "create_snapshot": Load._create_snapshot,
    "delete_snapshot": Load._delete_snapshot,
    "migrate": Load._migrate,
    "copy_block": Load._copy_block,
}
"""Each verb, with what it is asked to do to a domain: the same each time that it is sent."""
