"""Reads that ask the hypervisor: they wait for it on a place of the daemon's budget, and hold nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from opentelemetry.trace import SpanKind

from virtrpc_drivers.errors import DriverError
from virtrpc_server import tracing
from virtrpc_server.caller import caller_name
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.hosts import Host, Hosts

T = TypeVar("T")

WAIT_SECONDS = 30.0
ANSWER_SECONDS = 60.0


class SlowReads:
    """Asks the drivers on behalf of callers that are ready to wait."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._out: set[asyncio.Task[object]] = set()

    async def ask(self, entry: Entry, read: Callable[[], Awaitable[T]]) -> T:
        """The answer of a read about this domain; as `ask_host`, and MONITOR_UNRESPONSIVE after 60 s without an answer."""
        return await self._ask(self._hosts[entry.host], f"domain {entry.name}", read, domain=entry.uuid)

    async def ask_host(self, host: Host, read: Callable[[], Awaitable[T]]) -> T:
        """The answer of a read about a host, not about one domain.

        Raises Refusal: HOST_UNREACHABLE, DAEMON_BUDGET_FULL after 30 s without a place, MONITOR_UNRESPONSIVE after 60 s without
        an answer, or what the driver says. A caller that leaves frees its place only when the call has returned.
        """
        return await self._ask(host, f"host {host.name}", read)

    async def _ask(self, host: Host, about: str, read: Callable[[], Awaitable[T]], **metadata: str) -> T:
        if not host.connected:
            raise refuse("HOST_UNREACHABLE", f"host {host.name} cannot be reached", host=host.name)
        place = host.budget.take(f"a read of {about} by {caller_name()}")
        with tracing.start_span("wait for daemon_budget", {"virtrpc.host": host.name}):
            granted = await place.wait(WAIT_SECONDS, asyncio.Event())
        if not granted:
            raise refuse("DAEMON_BUDGET_FULL", f"all places for calls to host {host.name} are taken by calls that have not returned", host=host.name)
        call = asyncio.get_running_loop().create_task(_awaited(read, host.name, about))
        self._out.add(call)
        call.add_done_callback(self._out.discard)
        call.add_done_callback(lambda _done: place.release())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(call)
        except TimeoutError:
            message = f"the hypervisor has not answered for {about} within {ANSWER_SECONDS:g} s"
            raise refuse("MONITOR_UNRESPONSIVE", message, host=host.name, **metadata) from None
        except DriverError as error:
            raise Refusal(problem_of(error.fault, host=host.name, **metadata)) from None


async def _awaited(read: Callable[[], Awaitable[T]], host: str, about: str) -> T:
    with tracing.start_span("read", {"virtrpc.host": host, "virtrpc.about": about}, SpanKind.CLIENT):
        return await read()
