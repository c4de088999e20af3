"""The Prometheus endpoint: GET /metrics over plain HTTP, on the event loop, in pieces.

On the loop, since what it reads lives there and is gone through in steps of a millisecond. A thread with Prometheus' own library takes 14 µs
for a value, which for ten thousand guests is seven seconds of the interpreter's lock; this takes one.
"""

from __future__ import annotations

import asyncio
import logging

from virtrpc_server.settings.addresses import split_address
from virtrpc_server.telemetry.collecting import Collector
from virtrpc_server.telemetry.points import Metric, head, text
from virtrpc_server.unix_socket import ListenError

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_CONNECTIONS = 16
"""Beyond these nobody is answered: Prometheus needs one."""
MAX_REQUEST = 16 << 10
REQUEST_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""How long one may take to ask, and to read the answer."""
PAGE = b'<!doctype html><title>virtrpcd</title><a href="/metrics">Metrics</a>\n'


class Endpoint:
    """Listens from `start` to `stop`."""

    def __init__(self, listen: str, collector: Collector) -> None:
        self._listen = listen
        self._collector = collector
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.address = ""
        """Where it listens, as HOST:PORT."""

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        host, port = split_address(self._listen)
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_REQUEST)
        except OSError as error:
            raise ListenError(f"cannot serve metrics on {self._listen}: {error.strerror or error}") from error
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"{self._listen.rpartition(':')[0]}:{port}"

    async def stop(self) -> None:
        """End at once, whoever reads."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answer(request.split(b"\r\n", 1)[0].split(), writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a reader of metrics was not answered: %s", type(error).__name__)
        except Exception:
            log.exception("a fault of this server in telling its metrics")
        finally:
            # Not close(): it would wait for who does not read.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _answer(self, line: list[bytes], writer: asyncio.StreamWriter) -> None:
        match line:
            case [b"GET" | b"HEAD" as method, path, _]:
                pass
            case [_, _, _]:
                return await _write(writer, "405 Method Not Allowed", b"only GET\n")
            case _:
                return await _write(writer, "400 Bad Request", b"this is not HTTP\n")
        route = path.partition(b"?")[0]
        if route == b"/":
            return await _write(writer, "200 OK", PAGE, "text/html; charset=utf-8", body=method == b"GET")
        if route != b"/metrics":
            return await _write(writer, "404 Not Found", b"there is /metrics\n")
        writer.write(_header("200 OK", CONTENT_TYPE, "Transfer-Encoding: chunked"))
        if method == b"GET":
            last: Metric | None = None
            async for family in self._collector.families():
                start = head(family.metric) if family.metric is not last else ""
                last = family.metric
                piece = (start + text(family)).encode()
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        await _sent(writer)
        return None


def _header(status: str, content_type: str, more: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}\r\nConnection: close\r\n\r\n".encode()


async def _write(writer: asyncio.StreamWriter, status: str, text: bytes, content_type: str = "text/plain", *, body: bool = True) -> None:
    writer.write(_header(status, content_type, f"Content-Length: {len(text)}") + (text if body else b""))
    await _sent(writer)


async def _sent(writer: asyncio.StreamWriter) -> None:
    """Wait until the last byte is on its way."""
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()
