"""The asking end of a channel: requests that wait for their replies, and the notices that come unasked."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import Any

import msgspec

from virtrpc_drivers import wire
from virtrpc_drivers.channel import Channel
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.protocol import AnyNotice, Deliver, DriverSettings


class _Pending:
    """One request that waits for its reply."""

    def __init__(self, kind: type[wire.Request]) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._decoder = _decoders[kind]
        self._parts: list[Any] = []

    def take(self, reply: wire.Reply) -> bool:
        """Add a piece; True where it was the last."""
        if self.future.done():
            return not reply.more
        try:
            self._take(reply)
        except msgspec.MsgspecError as error:
            self.future.set_exception(failure(Reason.INTERNAL, f"the driver process gave a malformed answer: {error}"))
        return not reply.more

    def _take(self, reply: wire.Reply) -> None:
        if reply.fault is not None:
            self.future.set_exception(DriverError(reply.fault))
            return
        self._parts.append(self._decoder.decode(reply.value))
        if not reply.more:
            self.future.set_result(wire.join(self._parts))


_decoders: dict[type[wire.Request], msgspec.msgpack.Decoder[Any]] = {kind: msgspec.msgpack.Decoder(answer) for kind, answer in wire.ANSWERS.items()}


class Asking:
    """One channel to whoever serves a driver (`serving.Serving`), from its opening to its end."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._pending: dict[int, _Pending] = {}
        self._ids = itertools.count(1)
        self._channel = Channel(msgspec.msgpack.Decoder(wire.FromDriver), self._receive, self._closed)
        self.eof = asyncio.Event()
        """Set once nothing more can come."""
        self.refused: Fault | None = None
        """Why the other end could not start a driver."""

    async def open(self, sock: socket.socket, settings: DriverSettings) -> None:
        """Take over a connected stream socket, and tell its other end what to serve."""
        sock.setblocking(False)
        await self._channel.open(sock)
        self._channel.send(wire.Hello(id=0, settings=settings))

    async def ask(self, kind: type[wire.Request], **fields: Any) -> Any:
        """Send one request and await its answer. A caller that stops awaiting abandons the answer only."""
        request = kind(id=next(self._ids), **fields)
        body = wire.encode(request)
        pending = self._pending[request.id] = _Pending(kind)
        self._channel.put(body)
        return await pending.future

    def fail(self, fault: Fault) -> None:
        """End all calls that are out."""
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(DriverError(fault))
        self._pending.clear()

    def close_channel(self) -> None:
        """Close the socket: who serves the other end lets the driver go."""
        self._channel.close()

    def _receive(self, message: wire.Reply | AnyNotice) -> None:
        if not isinstance(message, wire.Reply):
            self._deliver(message)
            return
        pending = self._pending.get(message.id)
        if pending is not None:
            if pending.take(message):
                self._pending.pop(message.id, None)
        elif message.id == 0 and message.fault is not None:
            self.refused = message.fault
            self._channel.close()

    def _closed(self) -> None:
        self.eof.set()
