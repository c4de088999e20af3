"""What both clients are made of: the table's rows brought together with a wire."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from virtrpc.backoff import Deadline, Trials
from virtrpc.errors import VirtrpcError
from virtrpc.jobs import AsyncJobHandle, accept
from virtrpc.listing import AsyncListing, Page
from virtrpc.methods import Methods
from virtrpc.refs import Seconds, duration
from virtrpc.silence import silence_of
from virtrpc.table import Item, Lister, Pieces, Read, Verb, Watcher
from virtrpc.v1 import job_pb2 as j
from virtrpc.watch import AsyncWatch, Batch
from virtrpc.wire import OnBroken, Req, Resp, Rpc, Wire

DEFAULT_TIMEOUT = 10.0
Answer = TypeVar("Answer")


class Core(Methods):
    """A wire and its two clocks."""

    def __init__(self, wire: Wire, timeout: float | None, listen_timeout: float | None) -> None:
        self._wire = wire
        self._timeout = timeout
        self._listen_timeout = listen_timeout
        self.on_broken: OnBroken | None = None
        """Called each time something breaks and is tried again: a verb that is not accepted yet, and the handles and watches made from here on,
        which may have another one of their own."""

    def within(self, *, timeout: float | None = DEFAULT_TIMEOUT, listen_timeout: float | None = None) -> Self:
        """The same client on the same connection with other clocks, in seconds; None is without limit.

        `timeout` bounds each read. It is also how long a server that is away or draining is tried: by a verb until it is accepted, by handles and
        watches until they have heard of it once; later they try for ever. `listen_timeout` is how long job handles and watches made from here
        listen: DeadlineExceeded then ends a handle, and a watch just ends.
        """
        other = copy.copy(self)
        other._timeout, other._listen_timeout = timeout, listen_timeout
        return other

    def because(self, reason: str) -> Self:
        """The same client on the same connection, whose calls say why they are made: the server's audit log has it."""
        other = copy.copy(self)
        other._wire = self._wire.because(reason)
        return other

    def _ask(self, row: Read[..., Any], request: Message) -> Coroutine[Any, Any, Any]:
        async def answer() -> Any:
            return row.pick(await self._unary(row.rpc, request))

        return answer()

    async def _unary(self, rpc: Rpc[Req, Resp], request: Req) -> Resp:
        return await self._tried(lambda seconds: self._wire.unary(rpc, request, seconds))

    async def _tried(self, ask: Callable[[float | None], Awaitable[Answer]]) -> Answer:
        # What the channel does not repeat by itself: a server that is going down, just up, or has too much to do, says when to come again.
        deadline = Deadline(self._timeout)
        trials = Trials(deadline, deadline)
        while True:
            try:
                return await ask(deadline.left)
            except VirtrpcError as error:
                if error.retry_after is None:
                    raise
                await self._wire.sleep(trials.pause(error))

    def _pages(self, row: Lister[..., Page, Item], request: Message) -> AsyncListing[Page, Item]:
        async def fetch(token: str) -> Page:
            asked: Any = copy.deepcopy(request)
            asked.page_token = token or asked.page_token
            return await self._unary(row.rpc, asked)

        return AsyncListing(fetch, row.items)

    def _gather(self, row: Pieces[..., Any], request: Message) -> Coroutine[Any, Any, Any]:
        async def answer(seconds: float | None) -> Any:
            stream = self._wire.stream(row.rpc, request, seconds)
            pieces = []
            while (piece := await stream.read()) is not None:
                pieces.append(piece)
            return row.joined(pieces)

        return self._tried(answer)

    def _accept(self, row: Verb[...], request: Message) -> Coroutine[Any, Any, AsyncJobHandle]:
        return accept(self._wire, row.rpc, request, Deadline(self._listen_timeout), Deadline(self._timeout), self.on_broken)

    def _follow(self, row: Watcher[..., Batch], request: Any) -> AsyncWatch[Batch]:
        deadline = Deadline(self._listen_timeout)
        silence = silence_of(request)

        def open_stream(token: str, patient: bool) -> Any:
            asked = copy.deepcopy(request)
            asked.resume_token = token
            return self._wire.stream(row.rpc, asked, deadline.left, patient=patient)

        watch: AsyncWatch[Batch] = AsyncWatch(
            self._wire, open_stream, resume_token=request.resume_token, deadline=deadline, silence=silence, patience=self._timeout
        )
        watch.on_broken = self.on_broken
        return watch

    def _attach(self, job_id: str, heartbeat: Seconds | None) -> AsyncJobHandle:
        request = j.WatchJobRequest(job_id=job_id, heartbeat=None if heartbeat is None else duration(heartbeat))
        handle = AsyncJobHandle(self._wire, request, deadline=Deadline(self._listen_timeout), patience=self._timeout)
        handle.on_broken = self.on_broken
        return handle
