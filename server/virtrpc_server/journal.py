"""The journal: every job in a SQLite file, so that a server which is killed at any moment leaves nothing untold that its successor needs.

The event loop gathers what is to be written, and a thread writes it, one batch after another: while one is being written the next one grows, so
that the busier the server, the larger its batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path

from virtrpc_server.errors import Refusal, refuse
from virtrpc_server.journal_file import JournalFile
from virtrpc_server.records import Job

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.003
"""How long a batch gathers while many write."""
MANY = 5
"""Jobs in a batch from which on the next one gathers."""
CLOSING_SECONDS = 10.0


@dataclass(slots=True)
class _Batch:
    """What goes to the disk in one go: the newest form of each job."""

    written: asyncio.Future[frozenset[str]]
    """Done once it is there: with the ids of new jobs for which there was no room."""
    jobs: dict[str, Job] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)


class Journal:
    """A Store in a directory, which one server at a time may have.

    What it has taken survives the end of the process at any moment; with `sync` also that of the machine, at the price of waiting for the disk
    with every batch.
    """

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        self._where = str(directory)
        self._file = JournalFile(directory, sync=sync)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._next: _Batch | None = None
        self._writing: asyncio.Task[None] | None = None
        self._in_hand = 0
        self._failing = False

    @property
    def outlives(self) -> bool:
        """It is there for the next server."""
        return True

    @property
    def unwritten(self) -> int:
        """Jobs of the batch that is being written, and of the next."""
        return self._in_hand + (len(self._next.jobs) if self._next is not None else 0)

    @property
    def failing(self) -> bool:
        """Whether the last batch could not be written."""
        return self._failing

    async def claim(self) -> None:
        """Lock the directory. One that cannot be made or opened now is told by `load`."""
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.claim)

    async def load(self) -> list[Job]:
        """Open the file, made where there is none, and read it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._file.open)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise self._unavailable("read", error) from error

    async def add(self, job: Job) -> None:
        """Write a job for the first time."""
        batch = self._gather()
        batch.new.add(job.id)
        batch.jobs[job.id] = job
        if job.id in await self._written(batch):
            raise self._unavailable("written", "there is no space left but what running jobs need")

    async def put(self, job: Job) -> None:
        """Write the newest form of a job."""
        batch = self._gather()
        batch.jobs[job.id] = job
        await self._written(batch)

    async def forget(self, job_ids: list[str]) -> None:
        """Drop jobs; those that cannot be dropped now are dropped later."""
        batch = self._gather()
        batch.forgotten.update(job_ids)
        await self._written(batch)

    async def close(self) -> None:
        """Write what is left, and give the directory back."""
        closing = asyncio.get_running_loop().create_task(self._closed())
        await asyncio.wait([closing], timeout=CLOSING_SECONDS)
        if closing.done():
            closing.result()
        else:
            log.error("the journal in %s could not be closed in %g s: the disk hangs", self._where, CLOSING_SECONDS)
            closing.cancel()
        self._thread.shutdown(wait=False)

    async def _closed(self) -> None:
        if self._writing is not None:
            await self._writing
        await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)

    def _gather(self) -> _Batch:
        if self._next is None:
            self._next = _Batch(asyncio.get_running_loop().create_future())
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), context=Context())
        return self._next

    async def _written(self, batch: _Batch) -> frozenset[str]:
        try:
            # Whoever stops waiting for it does not stop the others.
            return await asyncio.shield(batch.written)
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable("written", error) from error

    async def _write(self) -> None:
        try:
            while (batch := self._next) is not None:
                self._next, self._in_hand = None, len(batch.jobs)
                await self._commit(batch)
                self._in_hand = 0
                if len(batch.jobs) >= MANY:
                    # Most of a small batch's cost is the batch. Who writes alone, or nearly, is not kept waiting.
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            self._writing = None

    async def _commit(self, batch: _Batch) -> None:
        write, loop = self._file.write, asyncio.get_running_loop()
        try:
            refused = await loop.run_in_executor(self._thread, write, batch.jobs, frozenset(batch.new), batch.forgotten)
        except Exception as error:  # noqa: BLE001 # whatever it is goes to those who wait
            self._note(error)
            batch.written.set_exception(error)
            batch.written.exception()  # a batch that nobody waits for any more has told the log
        else:
            self._note(None)
            batch.written.set_result(refused)

    def _note(self, error: Exception | None) -> None:
        # Once for each row of failures: every job of the server tries again and again.
        if error is not None and not self._failing:
            log.error("the journal in %s cannot be written: %s; jobs are told of once it can be", self._where, error)
        elif error is None and self._failing:
            log.warning("the journal in %s can be written again", self._where)
        self._failing = error is not None

    def _unavailable(self, what: str, why: object) -> Refusal:
        return refuse("JOURNAL_UNAVAILABLE", f"the journal in {self._where} cannot be {what}: {why}; nothing was sent to a hypervisor")
