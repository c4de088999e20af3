"""Files of the hosts, which their drivers look at: a directory may be far away, and the loop must not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.values import FoundFile, NamedFile, SaveImage
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.hosts import Hosts
from virtrpc_server.slow import SlowReads

T = TypeVar("T")

LOOK_SECONDS = 60.0


class HostFiles:
    """Asks the drivers what files are, before anything is done with them."""

    def __init__(self, hosts: Hosts, slow: SlowReads) -> None:
        self._hosts = hosts
        self._slow = slow

    async def follow(self, host: str, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """Where they lead. Takes no place at the daemon, which is not asked. Raises Refusal: HOST_UNREACHABLE, or what the driver says."""
        at = self._hosts[host]
        if not at.connected:
            raise refuse("HOST_UNREACHABLE", f"host {host} cannot be reached, and with it the files that this names", host=host)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await at.driver.follow(files)
        except TimeoutError:
            words = f"host {host} has not told within {LOOK_SECONDS:g} s where the files lead that this names"
            raise refuse("HOST_UNREACHABLE", words, host=host) from None
        except DriverError as error:
            raise Refusal(problem_of(error.fault, host=host)) from None

    async def image(self, host: str, path: str) -> SaveImage:
        """Whose memory a file holds. Raises as SlowReads.ask_host."""
        at = self._hosts[host]
        return await self._slow.ask_host(at, lambda: at.driver.save_image(path))

    async def managed(self, host: str, uuid: str) -> str:
        """The definition in a domain's managed-save image; empty where there is none any more. Raises as SlowReads.ask_host."""
        at = self._hosts[host]
        image = await _if_there(self._slow.ask_host(at, lambda: at.driver.managed_save_image(uuid)), "WRONG_STATE")
        return image.xml if image is not None else ""

    async def snapshot(self, host: str, uuid: str, name: str) -> str:
        """A snapshot, with the definitions of then; empty where there is none yet. Raises as SlowReads.ask_host."""
        at = self._hosts[host]
        return await _if_there(self._slow.ask_host(at, lambda: at.driver.snapshot_xml(uuid, name)), "SNAPSHOT_NOT_FOUND") or ""


async def _if_there(reading: Awaitable[T], absent: str) -> T | None:
    try:
        return await reading
    except Refusal as refusal:
        if refusal.problem.reason != absent:
            raise
        return None
