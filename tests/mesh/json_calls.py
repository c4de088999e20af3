"""JSON by plain HTTP, as a script with nothing but an HTTP client does it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
GUARD = 60.0


class JsonCall:
    """One call; `status` and `headers` are there at once, the answer when it is asked for."""

    def __init__(self, address: str, rpc: str, request: Json, tls: ssl.SSLContext | None = None, **headers: str) -> None:
        self._connection = (
            http.client.HTTPSConnection(address, timeout=GUARD, context=tls) if tls else http.client.HTTPConnection(address, timeout=GUARD)
        )
        sent = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        self._connection.request("POST", f"/virtrpc.v1.{rpc}", json.dumps(request), sent)
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}

    def answer(self) -> Json:
        """The whole answer."""
        try:
            answer: Json = json.loads(self._response.read())
        finally:
            self.leave()
        return answer

    def lines(self) -> Iterator[Json]:
        """The messages of a stream as they come, one a line."""
        try:
            while line := self._response.readline():
                yield json.loads(line)
        finally:
            self.leave()

    def leave(self) -> None:
        """Hang up."""
        self._response.close()
        self._connection.close()


def ask(address: str, rpc: str, **request: Any) -> Json:
    """The answer of a call that succeeds."""
    call = JsonCall(address, rpc, request)
    answer = call.answer()
    assert call.status == 200, answer
    return answer
