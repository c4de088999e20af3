"""The journal's file, as one thread sees it: its schema, its lock, and the space that is kept for jobs that have begun."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from virtrpc_server.records import Job, number_of
from virtrpc_server.store import InUse

FILE = "journal.sqlite"
RESERVE_FILE = "reserve"
RESERVE_BYTES = 8 << 20
"""Kept from the disk for the ends of jobs that have begun, should it be full: about 500 writings."""
RESERVE_RETRY_SECONDS = 1.0
MAX_FORGOTTEN = 10_000
"""Jobs to be dropped that are remembered while nothing can be written."""
LOOK_SECONDS = 1.0
"""How often the thread looks whether its file is still there."""
WAL_BYTES = 16 << 20
APPLICATION_ID = 0x76727063
"""What SQLite's header calls this application: "vrpc"."""

MIGRATIONS: tuple[str, ...] = (
    # The number is the first part of a job's id, and so the order of acceptance; the record is `records.Job` in JSON.
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY, record TEXT NOT NULL) STRICT",
)
"""Each makes the next version of the schema out of the one before. Fields that records gain need none: they have defaults."""
_WRITE = "REPLACE INTO jobs VALUES (?, ?)"
_FORGET = "DELETE FROM jobs WHERE number = ?"


class JournalFile:
    """Opened, written and closed by one thread. Every method raises sqlite3.Error and OSError."""

    def __init__(self, directory: Path, *, sync: bool) -> None:
        self.directory = directory
        self._sync = sync
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._id: tuple[int, int] = (0, 0)
        self._looked = 0.0
        self._forgotten: set[str] = set()
        self._reserved = False
        self._tried = float("-inf")

    def open(self) -> list[Job]:
        """All jobs, in order of acceptance. Raises InUse, and ValueError for records that this version cannot read."""
        self.claim()
        if self._connection is not None:
            self._connection.close()
        path = self.directory / FILE
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, check_same_thread=False)
        try:
            self._prepare(connection)
            jobs = _read(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._id = connection, _id_of(path)
        self._reserve()
        return jobs

    def write(self, jobs: Mapping[str, Job], new: Collection[str], forgotten: Collection[str]) -> frozenset[str]:
        """Write all of these jobs, or, where there is no room, those that are not new; returns the ids of those that were not written."""
        self._check_there()
        try:
            refused = self._put_all(jobs, new)
        except sqlite3.Error:
            # Nobody will be told of these, whatever became of their writing: an error may come after the disk has it.
            self._forgotten.update(list(new)[: MAX_FORGOTTEN - len(self._forgotten)])
            raise
        self._forget(forgotten)
        return refused

    def _put_all(self, jobs: Mapping[str, Job], new: Collection[str]) -> frozenset[str]:
        if not new or self._has_reserve():
            try:
                self._put(jobs.values())
                return frozenset()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._reserved:
                    raise
        begun = [job for job in jobs.values() if job.id not in new]
        if begun and self._reserved:
            self._give_reserve()
        self._put(begun)
        return frozenset(new)

    def _forget(self, job_ids: Collection[str]) -> None:
        self._forgotten.update(job_ids)
        if not self._forgotten:
            return
        try:
            with self._db as transaction:
                transaction.executemany(_FORGET, [(number_of(job_id),) for job_id in self._forgotten])
        except sqlite3.Error:
            return  # with a later batch: what was written with this one is written
        self._forgotten.clear()

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise OSError("it is not open")
        return self._connection

    def _check_there(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        if _id_of(self.directory / FILE) != self._id:
            raise OSError(f"{FILE} was removed or replaced while the server was running")
        self._looked = now

    def close(self) -> None:
        """Close the file and give the directory back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def claim(self) -> None:
        """Lock the directory, made where there is none. Raises InUse."""
        if self._lock is not None:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The directory's own: a full disk has no room for a file that is only there to be locked.
        lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise InUse(f"another server has the state directory {self.directory}; give this one a --state-dir of its own") from None
        self._lock = lock

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Exclusive before the first look: then the log's index is in memory, and there is no third file that a full disk might lack.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._sync else 'NORMAL'}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        ((version,),) = connection.execute("PRAGMA user_version")
        if version > len(MIGRATIONS):
            raise ValueError(f"its version is {version}: it was written by a newer virtrpcd, and this one reads up to {len(MIGRATIONS)}")
        for number, change in enumerate(MIGRATIONS[version:], version + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {change}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;")

    def _put(self, jobs: Collection[Job]) -> None:
        if jobs:
            with self._db as transaction:
                transaction.executemany(_WRITE, [(number_of(job.id), msgspec.json.encode(job).decode()) for job in jobs])

    def _has_reserve(self) -> bool:
        if not self._reserved and time.monotonic() - self._tried >= RESERVE_RETRY_SECONDS:
            self._reserve()
        return self._reserved

    def _reserve(self) -> None:
        self._tried = time.monotonic()
        try:
            descriptor = os.open(self.directory / RESERVE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            self._reserved = True
        except OSError:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _give_reserve(self) -> None:
        self._reserved = False
        self._tried = time.monotonic()
        (self.directory / RESERVE_FILE).unlink(missing_ok=True)


def _read(connection: sqlite3.Connection) -> list[Job]:
    decode = msgspec.json.Decoder(Job).decode
    try:
        return [decode(record) for (record,) in connection.execute("SELECT record FROM jobs ORDER BY number")]
    except msgspec.MsgspecError as error:
        raise ValueError(f"it holds a job that this virtrpcd cannot read: {error}") from error


def _id_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
