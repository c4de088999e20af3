"""How long a stream may be silent: proxies end streams that say nothing, and silence is all that shows a caller a dead connection."""

from __future__ import annotations

import itertools
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration

from virtrpc_server.errors import refuse
from virtrpc_server.following import GOLDEN, HEARTBEAT_SECONDS

SHORTEST_SECONDS = 0.1
SPREAD = 0.5
"""Streams that heard the same news at the same moment are silent for this part less than they may, or for any part of that."""


class Paced(Protocol):
    """A request, or a part of one, that says how long its stream may be silent."""

    @property
    def heartbeat(self) -> Duration:
        """The longest silence that is wanted."""

    def HasField(self, field_name: Any) -> bool:  # noqa: N802 # protobuf's name
        """Whether it says so."""


class Heartbeats:
    """Gives each stream its longest silence in seconds: the server's, or what the request asks for where that is less."""

    def __init__(self, seconds: float = HEARTBEAT_SECONDS) -> None:
        self._seconds = seconds
        self._streams = itertools.count()

    def silence(self, request: Paced, field: str = "heartbeat") -> float:
        """The next stream's. Raises Refusal (INVALID_ARGUMENT)."""
        wanted = request.heartbeat
        seconds = self._seconds
        if request.HasField("heartbeat"):
            seconds = min(seconds, wanted.seconds + wanted.nanos / 1e9)
            if seconds < min(SHORTEST_SECONDS, self._seconds):
                raise refuse("INVALID_ARGUMENT", f"{field}: must be at least {SHORTEST_SECONDS:g} s", field=field)
        # A thousand streams that are told the same would all break their silence together, and again each time after.
        return seconds * (1 - SPREAD * (next(self._streams) * GOLDEN % 1))
