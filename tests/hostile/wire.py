"""HTTP/2 by hand: frames that no library would send, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.beds.certificates import Pair

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW = 4
CANCEL = struct.pack(">I", 8)
GET_HOSTS = "/virtrpc.v1.QueryService/ListHosts"


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _number(value: int) -> bytes:
    if value < 127:
        return bytes([value])
    value -= 127
    rest = b""
    while value >= 128:
        rest += bytes([value % 128 + 128])
        value //= 128
    return b"\x7f" + rest + bytes([value])


def header(name: str, value: str) -> bytes:
    """A header as HPACK writes what it does not index."""
    return b"\0" + _number(len(name)) + name.encode() + _number(len(value)) + value.encode()


def headers(path: str = GET_HOSTS, **more: str) -> bytes:
    """The headers of a gRPC call."""
    usual = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers", "content-type": "application/grpc"}
    return b"".join(header(name.replace("_", "-"), value) for name, value in {**usual, **more}.items())


def message(body: bytes, *, compressed: bool = False) -> bytes:
    """A message as it stands in DATA."""
    return struct.pack(">BI", compressed, len(body)) + body


def call(stream: int, path: str = GET_HOSTS, body: bytes = b"") -> bytes:
    """A whole unary call."""
    return frame(HEADERS, END_HEADERS, stream, headers(path)) + frame(DATA, END_STREAM, stream, message(body))


def bomb(size: int) -> bytes:
    """What gzip makes of so many zeros: a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def client_context(authority: Path, pair: Pair | None) -> ssl.SSLContext:
    """TLS as a gRPC client speaks it, with a certificate or without."""
    made = ssl.create_default_context(cafile=str(authority))
    if pair is not None:
        made.load_cert_chain(pair.certificate, pair.key)
    made.set_alpn_protocols(["h2"])
    return made


@dataclass
class Connection:
    """A connection that says what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, address: str, *, preface: bool = True, tls: ssl.SSLContext | None = None) -> Self:
        """Connect to host:port or unix:path, with TLS or in the clear; with the preface and empty settings unless that is not wanted."""
        if address.startswith("unix:"):
            made = cls(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        else:
            host, _, port = address.rpartition(":")
            made = cls(*await asyncio.open_connection(host, int(port), ssl=tls, server_hostname="localhost" if tls else None))
        if preface:
            await made.send(PREFACE + frame(SETTINGS, 0, 0))
        return made

    async def greet(self) -> None:
        """Take note of the server's settings: from then on its own limits hold, and not those of HTTP/2."""
        async for kind, flags, _, _ in self.frames():
            if kind == SETTINGS and not flags & ACK:
                break
        await self.send(frame(SETTINGS, ACK, 0))

    async def send(self, data: bytes) -> bool:
        """Write; False where the server has closed the connection."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (ConnectionError, ssl.SSLError):
            return False
        return not self.reader.at_eof()

    async def frames(self) -> AsyncIterator[tuple[int, int, int, bytes]]:
        """What the server says: kind, flags, stream and body of each frame, until it closes the connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                head = await self.reader.readexactly(9)
                size = int.from_bytes(head[:3], "big")
                yield head[3], head[4], int.from_bytes(head[5:], "big"), await self.reader.readexactly(size)

    async def answered(self) -> bool:
        """Whether any stream hears anything before the server closes the connection."""
        async with asyncio.timeout(60.0):
            async for kind, _, stream, _ in self.frames():
                if stream and kind == HEADERS:
                    return True
        return False

    async def upload(self, stream: int, data: bytes) -> list[tuple[int, bytes]]:
        """Send DATA as fast as the server's windows allow, and end the stream; the kinds and bodies of the frames that answer it."""
        window = {0: 65_535, stream: 65_535}
        answer: list[tuple[int, bytes]] = []
        sent, ended = 0, False
        frames = self.frames()
        while True:
            while sent < len(data) and (room := min(*window.values(), 16_384)) > 0:
                piece = data[sent : sent + room]
                if not await self.send(frame(DATA, 0, stream, piece)):
                    return answer
                sent += len(piece)
                window = {key: value - len(piece) for key, value in window.items()}
            if sent == len(data) and not ended:
                ended = True
                await self.send(frame(DATA, END_STREAM, stream))
            try:
                kind, flags, number, body = await anext(frames)
            except StopAsyncIteration:
                return answer
            if kind == WINDOW_UPDATE and number in window:
                window[number] += int.from_bytes(body, "big")
            elif number == stream:
                answer.append((kind, body))
                if flags & END_STREAM or kind == RST_STREAM:
                    return answer
            elif kind == SETTINGS and not flags & ACK:
                for at in range(0, len(body), 6):
                    if int.from_bytes(body[at : at + 2], "big") == INITIAL_WINDOW:
                        window[stream] += int.from_bytes(body[at + 2 : at + 6], "big") - 65_535
                await self.send(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                await self.send(frame(PING, ACK, 0, body))

    async def closed(self, seconds: float = 60.0) -> bytes:
        """Read until the server closes the connection; what it said."""
        said = b""
        async with asyncio.timeout(seconds):
            try:
                while piece := await self.reader.read(1 << 16):
                    said += piece
            except (ConnectionError, ssl.SSLError):
                pass
        return said

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()
