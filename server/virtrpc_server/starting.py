"""A call that starts a guest and takes its time. The guest is there before any event says so; who wants to end it must find it there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.values import Group
from virtrpc_server import verbs
from virtrpc_server.hosts import Host

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 8.0
"""Seconds between two looks, each pause twice the one before: most starts are over before the first."""


@contextlib.contextmanager
def read_meanwhile(host: Host, operation: AnyOperation) -> Iterator[None]:
    """While this lasts, the domain's state is read now and then, if the operation may start a guest."""
    if operation.verb not in verbs.STARTS:
        yield
        return
    reading = asyncio.get_running_loop().create_task(_read(host, operation.uuid))
    try:
        yield
    finally:
        reading.cancel()


async def _read(host: Host, uuid: str) -> None:
    pause = FIRST_PAUSE
    while True:
        await asyncio.sleep(pause)
        # Not the configuration: it may wait for the very job that starts the guest.
        host.refresher.mark([uuid], (Group.STATE,))
        pause = min(LONGEST_PAUSE, 2 * pause)
