"""gRPC-Web as a browser speaks it: messages in frames in the body of a plain HTTP/1.1 call, the status in a last frame."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from typing import TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

GUARD = 60.0
TRAILERS = 0x80
M = TypeVar("M", bound=Message)


class WebError(Exception):
    """A call ended with another status than OK."""

    def __init__(self, code: int, message: str, headers: dict[str, str]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = next(code_ for code_ in grpc.StatusCode if code_.value[0] == code)
        self.message = message
        self.headers = headers


class WebCall:
    """One call; `headers` are there once the first answer is, or the status where there is none."""

    def __init__(self, address: str, path: str, request: Message, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=GUARD)
        sent = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **{name.replace("_", "-"): text for name, text in headers.items()}}
        self._connection.request("POST", path, _frame(request.SerializeToString()), sent)
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}

    def messages(self, kind: type[M]) -> Iterator[M]:
        """The answers as they come; raises WebError at the end where the status is not OK."""
        with closing(self._connection), closing(self._response):
            yield from self._frames(kind)

    def _frames(self, kind: type[M]) -> Iterator[M]:
        trailers = self.headers
        while head := self._response.read(5):
            body = self._response.read(int.from_bytes(head[1:]))
            if not head[0] & TRAILERS:
                yield kind.FromString(body)
                continue
            trailers = dict(line.split(":", 1) for line in body.decode().splitlines() if line)
        code = int(trailers["grpc-status"])
        if code:
            raise WebError(code, unquote(trailers.get("grpc-message", "")), trailers)


def _frame(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4) + data
