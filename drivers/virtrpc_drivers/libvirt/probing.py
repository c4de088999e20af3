"""Finding out that whatever was stuck on a domain is over, at the price of no stuck call of our own."""

from __future__ import annotations

import asyncio
from typing import Any

import libvirt

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.progress import look

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 4.0


class Probes:
    """One probe a domain, shared by all who ask. One that hangs is not repeated beside itself: it answers once the domain is free."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._running: dict[str, asyncio.Task[None]] = {}

    async def probe(self, uuid: str) -> None:
        """Returns once libvirt's job on this domain could be taken, at once where it is off or gone."""
        task = self._running.get(uuid)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._until_free(uuid))
            self._running[uuid] = task
            task.add_done_callback(lambda _: self._running.pop(uuid, None))
        await asyncio.shield(task)

    async def _until_free(self, uuid: str) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if await self._lanes.probe.call(lambda connection: is_free(connection, uuid)):
                    return
            except DriverError as error:
                # Error 68: somebody still holds it. Everything else is raised.
                if error.reason is not Reason.FOREIGN_JOB:
                    raise
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)


def is_free(connection: Any, uuid: str) -> bool:
    """Whether no job runs on this domain. Hangs where the monitor does, but is not even sent while that is known to be occupied."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        if not domain.isActive():
            return True
        job = look(connection, uuid)
        return job is not None and not job.present
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT):
            return True
        raise
