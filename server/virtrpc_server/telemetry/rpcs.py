"""Counts the RPCs, under the names of OpenTelemetry's conventions."""

from __future__ import annotations

from time import perf_counter

from virtrpc_server.caller import Call
from virtrpc_server.guard import status_name
from virtrpc_server.records import Problem
from virtrpc_server.telemetry.recorded import Recorded


class RpcDurations:
    """An observer of every RPC."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def over(self, call: Call, problem: Problem | None) -> None:
        """See Observer.over."""
        self._recorded.rpc(f"{call.service}/{call.rpc}", status_name(problem), perf_counter() - call.began)
