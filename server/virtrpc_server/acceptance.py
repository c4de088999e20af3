"""What all verbs share on the wire: find the domain, make an order, accept it, and stream its job to the caller."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from virtrpc.v1 import job_pb2, spec_pb2, types_pb2
from virtrpc_drivers.operations import AnyOperation, Create, Define, DefineSaveImage, Migrate, Restore, SetMetadata
from virtrpc_server import tracing, verbs
from virtrpc_server.caller import about, call, caller_name
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal
from virtrpc_server.fingerprints import fingerprint, is_sealed, sealed
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.jobs import Jobs
from virtrpc_server.listening import Listener
from virtrpc_server.lookup import Lookup
from virtrpc_server.orders.common import invalid
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.policy.labels import Labels
from virtrpc_server.policy.leave import Granted, Leave, Roots, as_it_is
from virtrpc_server.policy.using import Files
from virtrpc_server.records import DEFAULT_WAIT_LIMIT, Job, OnDisconnect, Order, Origin
from virtrpc_server.specs.site import Place, site_of_host
from virtrpc_server.verbs import ASKING, ASKING_RUN_LIMIT

JOB_ID_METADATA = "virtrpc-job-id"
MAX_REQUEST_ID = 128
LONG_REQUEST = 64 << 10
MAX_SECONDS = 10 * 365 * 86_400
ON_DISCONNECT = {
    types_pb2.ON_DISCONNECT_DETACH: OnDisconnect.DETACH,
    types_pb2.ON_DISCONNECT_CANCEL: OnDisconnect.CANCEL,
}
LABELLING = frozenset(kind.__name__ for kind in (SetMetadata, Define, Create, Restore))
"""Verbs that may give a domain other labels."""
Context = aio.ServicerContext[Any, types_pb2.JobUpdate]


class VerbRequest(Protocol):
    """The request of a verb, whatever it is sent to."""

    @property
    def options(self) -> types_pb2.JobOptions:
        """How it is to be run."""

    def ByteSize(self) -> int:  # noqa: N802 # protobuf's name
        """How long it is."""


class DomainRequest(VerbRequest, Protocol):
    """The request of a verb that is sent to a domain."""

    @property
    def domain(self) -> types_pb2.DomainRef:
        """Which one."""


class DefiningRequest(VerbRequest, Protocol):
    """The request of a verb that makes a domain out of a definition."""

    @property
    def host(self) -> str:
        """Where; empty for the only one."""

    @property
    def spec(self) -> spec_pb2.DomainSpec:
        """The definition in typed form; empty where it is given as XML."""


Updates = AsyncIterator[types_pb2.JobUpdate]
MakeOrder = Callable[[str], Awaitable[Order]]
"""Makes a request's order, given the request's fingerprint."""
R = TypeVar("R", bound=VerbRequest)
S = TypeVar("S", bound=DefiningRequest)
D = TypeVar("D", bound=DomainRequest)
T = TypeVar("T")


class Acceptance:
    """Turns requests into jobs, and jobs into streams."""

    def __init__(self, jobs: Jobs, lookup: Lookup, seen: JobSight, heartbeats: Heartbeats, roots: Roots, files: Files) -> None:
        self._jobs = jobs
        self._lookup = lookup
        self._heartbeats = heartbeats
        self._seen = seen
        self._leave = Leave(lookup, roots, files, self._coming)

    def existing(self, request: D, context: Context, make: Callable[[D, str], AnyOperation]) -> Updates:
        """Run a verb on a domain that exists."""

        async def order(digest: str) -> Order:
            entry = self._lookup.domain(request.domain)
            operation = await _made(request, lambda: make(request, entry.uuid))
            granted = await self._leave.changing(operation, entry)
            return _order(request, digest, granted, entry.host, entry.name, generation=entry.generation)

        return self._run(request, context, order)

    async def at_once(self, request: D, context: Context, make: Callable[[D, str], AnyOperation]) -> Updates:
        """The same for a verb that brings nothing along and waits for nothing before it is a job: neither for a driver nor for a thread."""
        silence = self._heartbeats.silence(request.options, "options.heartbeat")
        digest = fingerprint(request)
        listener = await self._again(request, digest)
        with self._noted(listener or self._jobs.accept(self._order_at_once(request, digest, make))) as job:
            async with aclosing(self._updates(job, context, silence)) as updates:
                async for update in updates:
                    yield update

    def _order_at_once(self, request: D, digest: str, make: Callable[[D, str], AnyOperation]) -> Order:
        entry = self._lookup.domain(request.domain)
        granted = as_it_is(make(request, entry.uuid), entry)
        return _order(request, digest, granted, entry.host, entry.name, generation=entry.generation)

    def changing(self, request: D, context: Context, make: Callable[[D, Entry], AnyOperation]) -> Updates:
        """The same for a verb whose order depends on what the domain has."""

        async def order(digest: str) -> Order:
            entry = self._lookup.domain(request.domain)
            operation = await _made(request, lambda: make(request, entry))
            granted = await self._leave.changing(operation, entry)
            return _order(request, digest, granted, entry.host, entry.name, generation=entry.generation)

        return self._run(request, context, order)

    def making(self, request: R, context: Context, host: str, make: Callable[[R], Define | Create | Restore | DefineSaveImage]) -> Updates:
        """Run a verb that makes a domain or replaces its definition, or works on what a file holds of one."""

        async def order(digest: str) -> Order:
            at = self._lookup.host(host).name
            operation = await _made(request, lambda: make(request))
            granted = await self._leave.making(operation, at, operation.name)
            return _order(request, digest, granted, at, operation.name)

        return self._run(request, context, order)

    def defining(self, request: S, context: Context, make: Callable[[S, Place], Define | Create]) -> Updates:
        """The same for a verb whose order depends on where the domain is to be, and on whether it is there already."""
        return self._run(request, context, lambda digest: self._defined(request, digest, make))

    async def _defined(self, request: S, digest: str, make: Callable[[S, Place], Define | Create]) -> Order:
        where = self._lookup.host(request.host)
        # Looked up here: `make` may run in a thread, and the cache belongs to the loop.
        there = self._lookup.existing(where.name, request.spec.uuid, request.spec.name)
        self._leave.replacing(there, request.spec.name)
        at = Place(site_of_host(where.info), there)
        operation = await _made(request, lambda: make(request, at))
        granted = await self._leave.making(operation, where.name, operation.name)
        return _order(request, digest, granted, where.name, operation.name)

    def migrating(self, request: D, context: Context, make: Callable[[D, Entry], tuple[Migrate, str]]) -> Updates:
        """Run a migration: `make` gives the operation, and the destination where it is one of our hosts."""

        async def order(digest: str) -> Order:
            entry = self._lookup.domain(request.domain)
            operation, to = make(request, entry)
            granted = await self._leave.moving(operation, entry, to)
            return _order(request, digest, granted, entry.host, entry.name, generation=entry.generation, destination_host=to)

        return self._run(request, context, order)

    async def watching(self, request: job_pb2.WatchJobRequest) -> Updates:
        """Follow a job to its end."""
        silence = self._heartbeats.silence(request)
        self._seen.known(request.job_id)
        async for job in self._jobs.watch(request.job_id, silence):
            self._seen.check_seen(job)
            yield self._update(job)

    async def _run(self, request: VerbRequest, context: Context, make: MakeOrder) -> Updates:
        silence = self._heartbeats.silence(request.options, "options.heartbeat")
        with await self._accepted(request, make) as listener:
            async with aclosing(self._updates(listener, context, silence)) as updates:
                async for update in updates:
                    yield update

    async def _updates(self, listener: Listener, context: Context, silence: float) -> AsyncGenerator[types_pb2.JobUpdate, None]:
        job = await self._stored(listener)
        tracing.note({"virtrpc.job.id": job.id})
        # From here on nothing ends in trailers only: a proxy would take that for "never began" and run the verb again.
        await context.send_initial_metadata(((JOB_ID_METADATA, job.id),))
        async for job in listener.updates(silence):  # the last one decides how the RPC ends
            yield self._update(job)
        problem = self._seen.told(job).problem
        if problem is not None:
            raise Refusal(problem)

    def _coming(self, host: str, uuid: str) -> Iterable[Labels]:
        jobs = (self._jobs.get(job_id) for job_id in self._jobs.feed.filed([uuid]))
        return [job.labels for job in jobs if job is not None and not job.finished and job.host == host and job.verb in LABELLING]

    async def _stored(self, listener: Listener) -> Job:
        try:
            return await listener.stored()
        except Refusal:
            call.get().accepted = False
            raise

    async def _accepted(self, request: VerbRequest, make: MakeOrder) -> Listener:
        digest = fingerprint(request)
        listener = await self._again(request, digest)
        return self._noted(listener or self._jobs.accept(await _kept(await make(digest), request.options)))

    async def _again(self, request: VerbRequest, digest: str) -> Listener | None:
        """The job of an earlier call with this request_id, if there was one."""
        options = request.options
        call.get().request_id = options.request_id[:MAX_REQUEST_ID]
        # Asked before the domain is looked up: the first call's job may have removed, moved or renamed it.
        begun = self._jobs.begun(caller_name(), options.request_id)
        same = await _sealed(digest, options) if begun is not None and is_sealed(begun.fingerprint) else digest
        listener = self._jobs.attach(caller_name(), options.request_id, same, _on_disconnect(options))
        if listener is not None:
            self._check_again(listener)
        return listener

    @staticmethod
    def _noted(listener: Listener) -> Listener:
        call.get().accepted, call.get().job_id = True, listener.job.id
        return listener

    def _check_again(self, listener: Listener) -> None:
        with contextlib.ExitStack() as leaving:
            leaving.push(listener)
            self._seen.check_again(listener.job)
            leaving.pop_all()

    def _update(self, job: Job) -> types_pb2.JobUpdate:
        return self._seen.bytes(job).update  # type: ignore[return-value]  # the transport takes bytes for a message that is serialised already


async def _made(request: VerbRequest, make: Callable[[], T]) -> T:
    # Parsing a long definition would stop the loop, and every query with it.
    return await asyncio.to_thread(make) if request.ByteSize() > LONG_REQUEST else make()


async def _kept(order: Order, options: types_pb2.JobOptions) -> Order:
    """The order with its fingerprint as the journal may hold it. Without a request_id nobody asks for it."""
    if not verbs.carries_secret(order.operation):
        return order
    return dataclasses.replace(order, fingerprint=await _sealed(order.fingerprint, options) if options.request_id else "")


async def _sealed(digest: str, options: types_pb2.JobOptions) -> str:
    return await asyncio.to_thread(sealed, digest, caller_name(), options.request_id)


def _order(
    request: VerbRequest,
    digest: str,
    granted: Granted,
    host: str,
    name: str,
    *,
    generation: int | None = None,
    destination_host: str = "",
) -> Order:
    options, operation = request.options, granted.operation
    about(host, operation.uuid, name)
    return Order(
        host=host,
        operation=operation,
        name=name,
        generation=generation,
        destination_host=destination_host,
        labels=granted.labels,
        owner=caller_name(),
        origin=_origin(),
        request_id=_request_id(options),
        on_disconnect=_on_disconnect(options),
        wait_limit=_wait_limit(options),
        run_limit=_run_limit(options, operation.verb),
        fingerprint=digest,
    )


def _origin() -> Origin:
    this = call.get()
    return Origin(this.rpc, this.caller.way, this.caller.many_names, this.peer, this.reason)


def _request_id(options: types_pb2.JobOptions) -> str:
    if len(options.request_id) > MAX_REQUEST_ID:
        raise invalid("options.request_id", f"has more than {MAX_REQUEST_ID} characters")
    return options.request_id


def _on_disconnect(options: types_pb2.JobOptions) -> OnDisconnect:
    return ON_DISCONNECT.get(options.on_disconnect, OnDisconnect.WITHDRAW)


def _wait_limit(options: types_pb2.JobOptions) -> float:
    if not options.HasField("wait_timeout"):
        return DEFAULT_WAIT_LIMIT
    seconds = _seconds(options.wait_timeout)
    if seconds < 0:
        raise invalid("options.wait_timeout", "must not be negative")
    return seconds


def _run_limit(options: types_pb2.JobOptions, verb: str) -> float | None:
    if not options.HasField("run_timeout"):
        return ASKING_RUN_LIMIT if verb in ASKING else None
    seconds = _seconds(options.run_timeout)
    if seconds <= 0:
        raise invalid("options.run_timeout", "must be above zero")
    return seconds


def _seconds(duration: Duration) -> float:
    return min(duration.seconds + duration.nanos / 1e9, MAX_SECONDS)
