"""Files of the hosts, which their drivers look at: a directory may be far away, and the loop must not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Driver
from virtrpc_drivers.values import FoundFile, NamedFile, SaveImage
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.hosts import Hosts

T = TypeVar("T")

LOOK_SECONDS = 60.0


class HostFiles:
    """Asks the drivers what files are, before anything is done with them.

    Takes no place at the daemon: a job is judged where it waits for its own, or has it. Raises Refusal: HOST_UNREACHABLE, or what the driver says.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def follow(self, host: str, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """Where they lead."""
        return await self._ask(host, lambda driver: driver.follow(files))

    async def image(self, host: str, path: str) -> SaveImage:
        """Whose memory a file holds."""
        return await self._ask(host, lambda driver: driver.save_image(path))

    async def managed(self, host: str, uuid: str) -> str:
        """The definition in a domain's managed-save image; empty where there is none any more."""
        image = await _if_there(self._ask(host, lambda driver: driver.managed_save_image(uuid)), "WRONG_STATE")
        return image.xml if image is not None else ""

    async def snapshot(self, host: str, uuid: str, name: str) -> str:
        """A snapshot, with the definitions of then; empty where there is none yet."""
        return await _if_there(self._ask(host, lambda driver: driver.snapshot_xml(uuid, name)), "SNAPSHOT_NOT_FOUND") or ""

    async def _ask(self, host: str, read: Callable[[Driver], Awaitable[T]]) -> T:
        at = self._hosts[host]
        if not at.connected:
            raise refuse("HOST_UNREACHABLE", f"host {host} cannot be reached, and with it the files that this names", host=host)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await read(at.driver)
        except TimeoutError:
            words = f"host {host} has not told within {LOOK_SECONDS:g} s what the files are that this names"
            raise refuse("HOST_UNREACHABLE", words, host=host) from None
        except DriverError as error:
            raise Refusal(problem_of(error.fault, host=host)) from None


async def _if_there(reading: Awaitable[T], absent: str) -> T | None:
    try:
        return await reading
    except Refusal as refusal:
        if refusal.problem.reason != absent:
            raise
        return None
