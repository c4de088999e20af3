"""The socket between the server and a driver process: frames, control before bulk, what waits bounded.

A frame is four bytes of length (network order) and the body of a message of `wire.py`. Both ends are asyncio protocols: nothing
here blocks, and nothing here is a task, so that a closed channel leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from virtrpc_drivers.protocol import AnyNotice, Change, DomainChanged, EventsLost, Report, Spans
from virtrpc_drivers.wire import MAX_MESSAGE, encode

logger = logging.getLogger(__name__)

MAX_EVENTS = 16384
"""Events that may wait to be written; one more, and all of them become one EventsLost."""
MAX_SPANS = 256
"""Batches of spans that may wait to be written; later ones are dropped."""
AT_ONCE = 5
"""Messages that are handed over in one turn of the loop."""
_LENGTH = 4


class Outbox:
    """What waits to be written: control in order, then bulk in order; events coalesced while they wait."""

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self._max_events = max_events
        self._control: deque[bytes | str] = deque()
        self._bulk: deque[bytes | None] = deque()
        self._reports: dict[str, Report] = {}
        self._events: OrderedDict[tuple[str, Change], DomainChanged] = OrderedDict()
        self._spans = 0
        self._lost = False

    def put(self, body: bytes, *, bulk: bool = False) -> None:
        """Queue an encoded message."""
        (self._bulk if bulk else self._control).append(body)

    def notice(self, notice: AnyNotice) -> None:
        """Queue a notice in the way that its kind allows."""
        match notice:
            case DomainChanged():
                self._event(notice)
            case EventsLost():
                self._drop_events()
            case Report():
                self._report(notice)
            case Spans():
                self._span(notice)
            case _:
                self._control.append(encode(notice))

    def pop(self) -> bytes | None:
        """The next body to write, or None where nothing waits."""
        while self._control:
            item = self._control.popleft()
            return item if isinstance(item, bytes) else encode(self._reports.pop(item))
        while self._bulk:
            body = self._bulk.popleft()
            if body is not None:
                return body
            if (event := self._next_event()) is not None:
                return encode(event)
        if self._spans:
            self._spans = 0
        return None

    def _event(self, event: DomainChanged) -> None:
        if self._lost:
            return  # the EventsLost that waits covers this one: it is delivered after the change
        key = (event.uuid, event.change)
        if key in self._events:
            self._events[key] = event  # its place in the queue stays: whoever reads after it is delivered sees both changes
        elif len(self._events) >= self._max_events:
            self._drop_events()
        else:
            self._events[key] = event
            self._bulk.append(None)

    def _drop_events(self) -> None:
        self._events.clear()
        if not self._lost:
            self._lost = True
            self._bulk.append(None)

    def _next_event(self) -> DomainChanged | EventsLost | None:
        if self._events:
            return self._events.popitem(last=False)[1]
        if self._lost:
            self._lost = False
            return EventsLost()
        return None

    def _report(self, report: Report) -> None:
        waiting = self._reports.get(report.call_id)
        if waiting is None:
            self._control.append(report.call_id)
        elif report.abortable is None:
            report = msgspec.structs.replace(report, abortable=waiting.abortable)
        self._reports[report.call_id] = report

    def _span(self, spans: Spans) -> None:
        if self._spans < MAX_SPANS:
            self._spans += 1
            self._bulk.append(encode(spans))


Received = TypeVar("Received")


class Channel(asyncio.Protocol, Generic[Received]):
    """One end of the socket. `receive` is called with each message, `closed` once, both on the loop."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Received], receive: Callable[[Received], None], closed: Callable[[], None]) -> None:
        self._decoder, self._receive, self._closed = decoder, receive, closed
        self._outbox = Outbox()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._scheduled = False
        self._handing_over = False

    async def open(self, sock: socket.socket) -> None:
        """Take over a connected stream socket."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, message: msgspec.Struct) -> None:
        """Queue a control message. Raises DriverError where it is too large."""
        self.put(encode(message))

    def put(self, body: bytes, *, bulk: bool = False) -> None:
        """Queue a body that was encoded already."""
        self._outbox.put(body, bulk=bulk)
        self._schedule()

    def notice(self, notice: AnyNotice) -> None:
        """Queue a notice."""
        self._outbox.notice(notice)
        self._schedule()

    def finish(self) -> None:
        """Write what waits, then close."""
        self._paused = False
        self._pump(to_the_end=True)
        if self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Close at once, dropping what waits."""
        self._buffer.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport's own buffer small: what waits should wait where control can overtake it."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=64 << 10)
        self._transport = transport
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end is gone, or this one was closed."""
        # What it sent before it went still counts.
        self._take(len(self._buffer))
        self._transport = None
        self._closed()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._paused = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        """Hand over each complete message, a few in one go; an oversized or malformed one closes the channel."""
        self._buffer += data
        if not self._handing_over:
            self._hand_over_some()

    def _hand_over_some(self) -> None:
        # A hundred jobs may report at once, or ten thousand domains change: others have their turn in between, and nothing more is read
        # until all is handed over.
        self._handing_over = self._take(AT_ONCE)
        if self._transport is None:
            return
        if self._handing_over:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._hand_over_some)
        else:
            self._transport.resume_reading()

    def _take(self, count: int) -> bool:
        """Hand over at most so many messages; whether more may be there."""
        start = 0
        while self._transport is not None and len(self._buffer) - start >= _LENGTH and count > 0:
            size = int.from_bytes(self._buffer[start : start + _LENGTH])
            if size > MAX_MESSAGE:
                logger.error("a frame of %d bytes is above the limit: closing the channel", size)
                self.close()
                return False
            end = start + _LENGTH + size
            if len(self._buffer) < end:
                break
            self._hand_over(bytes(self._buffer[start + _LENGTH : end]))
            start = end
            count -= 1
        del self._buffer[:start]
        return count == 0

    def _hand_over(self, body: bytes) -> None:
        try:
            message = self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            logger.error("a malformed message: closing the channel: %s", error)
            self.close()
            return
        self._receive(message)

    def _schedule(self) -> None:
        if not self._scheduled and self._transport is not None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self, to_the_end: bool = False) -> None:
        self._scheduled = False
        while self._transport is not None and (to_the_end or not self._paused) and (body := self._outbox.pop()) is not None:
            self._transport.write(len(body).to_bytes(_LENGTH) + body)
