"""The record of one job: what must be stored is stored before it is told, and nobody is told anything twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from virtrpc_server.errors import Refusal
from virtrpc_server.records import Job, operation_kept
from virtrpc_server.store import Store

log = logging.getLogger(__name__)

STORE_RETRY_SECONDS = 1.0
LIVES_APART = 1 << 32
"""How far a job's revisions in one life of the server are from those in the next: the last ones told were not stored, and must not come again."""


class Telling:
    """A job, the newest form of it that the store has, and the newest that was published.

    A decision must be stored before it is told. Progress and places in a queue need not be: they go out with the next publishing.
    """

    def __init__(self, job: Job, store: Store, publish: Callable[[Job], None], clock: Callable[[], float]) -> None:
        self.job = job
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the store has taken the job for the first time; raises what the store raised."""
        self._store, self._publish, self._clock = store, publish, clock
        self._writing = asyncio.Lock()
        self._jotting = False
        self._written: Job | None = None
        self._must_store = job.revision
        self.told: Job | None = None
        """The newest form that was published."""

    @classmethod
    def again(cls, job: Job, store: Store, publish: Callable[[Job], None], clock: Callable[[], float]) -> Telling:
        """The record of a job that an earlier life of the server has stored; it is told at once as it was stored; `tell` stores that it goes on.

        The revision is above all that were told, for not all of those were stored. A life that begins before this one has stored it tells the same.
        """
        if not job.finished:
            job = replace(job, revision=job.revision + LIVES_APART)
        record = cls(job, store, publish, clock)
        record.stored.set_result(None)
        record._written = job
        record.publish()
        if not job.finished:
            record._written = None
        return record

    def change(self, **changes: Any) -> None:  # the fields of Job
        """The next revision."""
        if self.job.finished:
            raise RuntimeError(f"job {self.job.id} has already ended")
        self.job = replace(self.job, revision=self.job.revision + 1, updated=self._clock(), **changes)

    def decide(self, **changes: Any) -> None:  # the fields of Job
        """A change that must be stored before it is told."""
        self.change(**changes)
        self._must_store = self.job.revision

    async def decided(self, **changes: Any) -> None:  # the fields of Job
        """Decide, store and tell."""
        self.decide(**changes)
        await self.tell()

    async def begin(self) -> bool:
        """Store the job for the first time and tell it. False where the store refuses it: then there is no job."""
        job = self.job
        try:
            await self._store.add(job)
        except Exception as error:  # noqa: BLE001 # whatever a store raises goes to the callers
            self.stored.set_exception(error)
            self.stored.exception()
            return False
        except BaseException:
            self.stored.cancel()
            raise
        self._written = job
        self.stored.set_result(None)
        self.publish()
        return True

    async def tell(self) -> None:
        """Store what was decided, then tell it. Nothing of a job that the store refused."""
        if not self.stored.done():
            await asyncio.wait([self.stored])
        if not self.stored.cancelled() and self.stored.exception() is None:
            await self.write()
            self.publish()

    async def write(self) -> None:
        """Return once all that was decided is stored; a store that fails is tried again: rather late than wrong."""
        async with self._writing:
            while not self._all_stored():
                job = self.job
                try:
                    await self._store.put(job)
                except Refusal as refusal:
                    log.info("job %s cannot be stored; trying again: %s", self.job.id, refusal)
                    await asyncio.sleep(STORE_RETRY_SECONDS)
                except Exception:
                    log.exception("job %s cannot be stored; trying again", self.job.id)
                    await asyncio.sleep(STORE_RETRY_SECONDS)
                else:
                    self._written = job

    async def jot(self) -> None:
        """Store the present form for nobody who waits: a new sample, or a phase that a later life is to know; a crash may cost it."""
        if self._jotting:
            return
        self._jotting = True
        async with self._writing:
            self._jotting = False
            job = self.job
            if job is self._written:
                return
            try:
                await self._store.put(job)
            except Exception as error:  # noqa: BLE001 # whatever a store raises: what must be stored is tried again by those who wait for it
                log.info("the progress of job %s is not stored: %s", job.id, error)
            else:
                self._written = job

    async def laid_to_rest(self) -> None:
        """Store that the call of a job which is over is over too."""
        self.job = replace(self.job, haunts=False, operation=operation_kept(self.job.operation))
        self._written = None
        await self.write()

    def publish(self) -> None:
        """Tell the newest form of which all is stored that must be."""
        job = self.job if self._all_stored() else self._written
        if job is not None and (self.told is None or job.revision > self.told.revision):
            self.told = job
            self._publish(job)

    def _all_stored(self) -> bool:
        return self._written is not None and self._written.revision >= self._must_store
