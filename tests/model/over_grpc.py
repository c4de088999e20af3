"""The same rules through a real channel: a gRPC server on its sockets, its clients, and a loop on real time that runs fast."""

from __future__ import annotations

import asyncio
import selectors
import tempfile
import time
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from grpc import aio

from tests.model.channel import METHODS, PATHS, Reader, parsed, reason_of_details
from tests.model.channel import Channel as AnyChannel
from tests.model.machine import Machine
from tests.model.world import World
from virtrpc_server.transport import Transport

SPEED = 30
"""Seconds of the loop's time in one of real time."""
A_MOMENT = 0.3
"""Seconds of the loop's time that messages are given to pass the sockets, after each step."""


class _FastSelector(selectors.DefaultSelector):
    """Waits for a fraction of the time, and counts what was waited."""

    waited = 0.0
    """Seconds of the loop's time."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        found = super().select(timeout / SPEED if timeout is not None and timeout > 0 else timeout)
        took = (time.monotonic() - began) * SPEED
        self.waited += took if timeout is None else min(took, max(0.0, timeout))
        return found


class FastLoop(asyncio.SelectorEventLoop):
    """Real time, faster: what takes its time in a socket or a thread seems to take longer, and nothing else is different.

    Time passes while the loop waits, and no longer than it meant to: a machine that is busy with something else makes nothing late.
    """

    def __init__(self) -> None:
        self._fast = _FastSelector()
        super().__init__(self._fast)

    def time(self) -> float:
        """Seconds that the loop has waited, each a fraction of a real one."""
        return self._fast.waited


class GrpcRpc:
    """One RPC over a channel."""

    def __init__(self, call: Any, streams: bool, reader: Reader, faults: list[Exception]) -> None:
        self.reason: str | None = None
        self.metadata: dict[str, str] | None = None
        self._call, self._reader, self._faults = call, reader, faults
        self._task = asyncio.get_running_loop().create_task(self._read(streams))

    def leave(self) -> None:
        """Cancel it."""
        self._call.cancel()
        self._task.cancel()

    async def over(self) -> None:
        """Wait for its end."""
        await asyncio.wait([self._task])

    async def _read(self, streams: bool) -> None:
        try:
            if streams:
                self.metadata = {key: str(value) for key, value in await self._call.initial_metadata()}
                async for message in self._call:
                    await self._take(message)
            else:
                await self._take(await self._call)
            self.reason = "OK"
        except aio.AioRpcError as error:
            self.reason = reason_of_details(dict(error.trailing_metadata() or ()))
        except asyncio.CancelledError:
            self.reason = "GONE"

    async def _take(self, message: Any) -> None:
        try:
            await self._reader(message)
        except Exception as error:  # noqa: BLE001 # whatever it is, it is told with the others
            self._faults.append(error)


class GrpcChannel:
    """A server of this world's core on a Unix socket and on TCP, and a client of each."""

    def __init__(self, world: World, directory: Path) -> None:
        self.faults: list[Exception] = []
        self._transport = Transport(directory / "s", "127.0.0.1:0", insecure=True)
        world.core.add_to(self._transport.server)
        self._clients: dict[str, aio.Channel] = {}

    async def open(self) -> None:
        """Listen."""
        await self._transport.start()
        for address in self._transport.addresses:
            kind = "unix" if address.startswith("unix:") else "tcp"
            self._clients[kind] = aio.insecure_channel(address)

    def begin(self, method: str, request: Message, reader: Reader, who: str = "unix") -> GrpcRpc:
        """Begin an RPC."""
        client, streams = self._clients[who], METHODS[method].server_streaming
        make = client.unary_stream if streams else client.unary_unary
        stub = make(PATHS[method], type(request).SerializeToString, lambda data: parsed(method, data))
        return GrpcRpc(stub(request), streams, reader, self.faults)

    async def close(self) -> None:
        """The clients go, then the server."""
        for client in self._clients.values():
            await client.close()
        await self._transport.stop()


async def _start_poller() -> None:
    # It outlives every loop, and is no thread of the server's. gRPC starts it only where a loop runs.
    aio.init_grpc_aio()


class GrpcMachine(Machine):
    """The rules of `Machine` through a real channel. Nothing is still there, so what holds only at rest is looked at in the end alone."""

    restarts = False  # the sockets and clients are one life's

    def __init__(self) -> None:
        asyncio.run(_start_poller())
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="virtrpc")

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return FastLoop()

    async def _connect(self, world: World) -> AnyChannel:
        channel = GrpcChannel(world, Path(self._directory.name))
        await channel.open()
        return channel

    async def _come_to_rest(self) -> bool:
        await asyncio.sleep(A_MOMENT)
        return False

    def teardown(self) -> None:
        """End, and leave no socket behind."""
        try:
            super().teardown()
        finally:
            self._directory.cleanup()
