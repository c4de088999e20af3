"""How long a stream may be silent before its connection is taken for dead: proxies swallow HTTP/2's pings, and no end of a stream may ever come."""

from __future__ import annotations

from typing import TypeAlias

from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

HEARTBEAT_SECONDS = 15.0
"""What is asked for where the caller does not say: the server's own setting is not known here."""
MISSED = 3
"""Heartbeats in a row that did not come."""
LEAST_SECONDS = 5.0
"""A machine that is busy is no dead connection."""

Paced: TypeAlias = t.JobOptions | j.WatchJobRequest | j.WatchJobsRequest | q.WatchDomainsRequest


def silence_of(asked: Paced) -> float:
    """Seconds of silence that end a stream which asks for this. Asks for a heartbeat where it does not say."""
    if not asked.HasField("heartbeat"):
        asked.heartbeat.FromMilliseconds(int(HEARTBEAT_SECONDS * 1000))
    return max(LEAST_SECONDS, MISSED * asked.heartbeat.ToMilliseconds() / 1000)
