"""One driver process, from its start to its end: its socket, the requests that wait for a reply, and why it ended."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import subprocess
import sys
from typing import Any

import msgspec

from virtrpc_drivers import wire
from virtrpc_drivers.channel import Channel
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.protocol import AnyNotice, Deliver, DriverSettings

LAST_WORDS = 0.2
"""Seconds between the end of the process and the end of its socket, at most."""
ENDING = 5.0
"""Seconds after which a process that has no socket any more, and should have ended itself, is killed."""


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


class Life:
    """One driver process, from its start to its end."""

    def __init__(self, settings: DriverSettings, deliver: Deliver) -> None:
        self._settings, self._deliver = settings, deliver
        self._pending: dict[int, _Pending] = {}
        self._ids = itertools.count(1)
        self._channel = Channel(msgspec.msgpack.Decoder(wire.FromDriver), self._receive, self._closed)
        self._eof = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.refused: Fault | None = None

    async def start(self) -> None:
        """Start the process and tell it what to serve. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "virtrpc_drivers.process", str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),), start_new_session=True, stdin=subprocess.DEVNULL, stdout=2,
                )  # fmt: skip
            ours.setblocking(False)
            await self._channel.open(ours)
        except BaseException:
            ours.close()
            raise
        self._channel.send(wire.Hello(id=0, settings=self._settings))

    async def lost(self) -> str:
        """Wait until the process cannot be talked to any more; says why. What it said before is handed over first."""
        assert self.process is not None
        ends = [asyncio.ensure_future(self.process.wait()), asyncio.ensure_future(self._eof.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # One is followed by the other at once: the last words out of the socket, or the status for the message.
            await asyncio.wait(ends, timeout=LAST_WORDS)
        finally:
            for end in ends:
                end.cancel()
        self._channel.close()
        if self.refused is not None:
            return f"could not start its driver: {self.refused.message}"
        return "closed its socket" if self.process.returncode is None else _ending(self.process.returncode)

    async def reap(self) -> None:
        """Make sure that the process is gone."""
        assert self.process is not None
        try:
            # Its socket is closed, so it is ending by itself.
            await asyncio.wait_for(self.process.wait(), ENDING)
        except TimeoutError:
            self.kill(signal.SIGKILL)
            await self.process.wait()

    def kill(self, number: signal.Signals) -> None:
        """Send the process a signal, where it still runs."""
        if self.process is not None and self.process.returncode is None:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                pass  # it ended by itself just now

    def fail(self, fault: Fault) -> None:
        """End all calls that are out."""
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(DriverError(fault))
        self._pending.clear()

    async def ask(self, kind: type[wire.Request], **fields: Any) -> Any:
        """Send one request and await its answer. A caller that stops awaiting abandons the answer only."""
        request = kind(id=next(self._ids), **fields)
        body = wire.encode(request)
        pending = self._pending[request.id] = _Pending(kind)
        self._channel.put(body)
        return await pending.future

    def close_channel(self) -> None:
        """Close the socket: the process ends itself."""
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
        self._eof.set()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
