"""gRPC-Web as a browser speaks it: messages in frames in the body of a plain HTTP/1.1 call, the status in a last frame."""

from __future__ import annotations

import base64
import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from typing import BinaryIO, TypeVar
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

    kind = "application/grpc-web+proto"

    def __init__(self, address: str, path: str, request: Message, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=GUARD)
        sent = {"content-type": self.kind, "accept": self.kind, "x-grpc-web": "1", **{name.replace("_", "-"): text for name, text in headers.items()}}
        self._connection.request("POST", path, self._body(_frame(request.SerializeToString())), sent)
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}

    def messages(self, kind: type[M]) -> Iterator[M]:
        """The answers as they come; raises WebError at the end where the status is not OK."""
        with closing(self._connection), closing(self._response):
            yield from self._frames(kind)

    def _frames(self, kind: type[M]) -> Iterator[M]:
        trailers, answer = self.headers, self._answer()
        while head := answer.read(5):
            body = answer.read(int.from_bytes(head[1:]))
            if not head[0] & TRAILERS:
                yield kind.FromString(body)
                continue
            trailers = dict(line.split(":", 1) for line in body.decode().splitlines() if line)
        code = int(trailers["grpc-status"])
        if code:
            raise WebError(code, unquote(trailers.get("grpc-message", "")), trailers)

    def _body(self, frame: bytes) -> bytes:
        return frame

    def _answer(self) -> BinaryIO:
        return self._response


class TextCall(WebCall):
    """The same as text, for what cannot send or read bytes: each piece of the answer is base64 of its own. It is read whole."""

    kind = "application/grpc-web-text+proto"

    def _body(self, frame: bytes) -> bytes:
        return base64.b64encode(frame)

    def _answer(self) -> BinaryIO:
        return BytesIO(b"".join(map(base64.b64decode, re.findall(rb"[^=]+=*", self._response.read()))))


def _frame(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4) + data
