"""The least that a server of grpc.aio can do with a WatchJob stream: it sends a message that is laid out, and keeps the stream open or ends it.

Usage: python -m tests.bench.bare SOCKET. What a stream of ours costs is compared with this. Ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from tests.bench.child import obey
from tests.bench.processors import move_to
from virtrpc_server.serving import tame_collector
from virtrpc_server.transport import OPTIONS


class Bare(aio.ServerInterceptor):
    """Answers whatever is called; nothing is parsed."""

    def __init__(self) -> None:
        self._body = b""
        self._open = 0
        # A future that nothing but its waiter holds would be collected, and the stream with it.
        self._never = asyncio.Event()
        self._handler: Any = grpc.unary_stream_rpc_method_handler(self._answer)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The one handler there is."""
        return self._handler

    async def _answer(self, _request: bytes, context: aio.ServicerContext[Any, Any]) -> None:
        stays, self._open = self._open > 0, self._open - 1
        await context.write(self._body)
        if stays:
            await self._never.wait()

    async def say(self, size: int, stay_open: int) -> None:
        """How long its message is from now on, in bytes, and how many of the next streams stay open after it, as those of jobs that run do."""
        self._body, self._open = bytes(size), stay_open

    async def move_to(self, processor: int) -> None:
        """Leave the other processors to others."""
        move_to(processor)


async def main(socket: str) -> None:
    """Serve until standard input closes."""
    bare = Bare()
    server = aio.server(interceptors=[bare], options=OPTIONS)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    tame_collector()
    await obey({"say": bare.say, "move_to": bare.move_to})
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
