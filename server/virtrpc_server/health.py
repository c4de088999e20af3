"""grpc.health.v1: the services speak for this server, each host has a name of its own.

grpcio-health-checking's own servicer holds a lock while it writes to a watcher, so that one slow watcher would hold up every
later change of that name; here a change is a plain assignment and a watcher reads what is true when it gets to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The health of each name; "" is the server's own."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()

    def set(self, name: str, *, serving: bool) -> None:
        """Say whether a name serves."""
        self._statuses[name] = Status.SERVING if serving else Status.NOT_SERVING
        self._tell()

    def all_down(self) -> None:
        """No name serves any more."""
        self._statuses = dict.fromkeys(self._statuses, Status.NOT_SERVING)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext[Any, Any]) -> Status:  # noqa: N802 # grpc.health.v1
        """One name's status; NOT_FOUND for a name that is not known."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such name")
        return Status(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Status]:  # noqa: N802 # grpc.health.v1
        """One name's status now and after each change; SERVICE_UNKNOWN for a name that is not known yet."""
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, Status.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield Status(status=status)
            else:
                await changed.wait()
