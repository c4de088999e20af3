"""Where audit lines go: a file, or stderr, that one thread writes, so that a disk that is full or hangs keeps nobody waiting."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

log = logging.getLogger(__name__)

MAX_LINES = 10_000
"""Lines that may wait to be written: about 5 MB, and minutes of a busy server; the thread has BATCH more. What comes on top is lost, and counted."""
BATCH = 1_000
RETRY_SECONDS = 1.0
HANGING_SECONDS = 5.0
"""A line that has waited for so long means that nothing can be written now."""
CLOSING_SECONDS = 5.0
TAIL_BYTES = 1 << 20
STDERR = 2


class Sink(Protocol):
    """Who takes lines, and keeps them."""

    def start(self) -> bytes:
        """Begin; returns what an earlier life has written last. Raises OSError."""

    def close(self) -> None:
        """Write what is there, for a while at most."""

    def write(self, line: bytes) -> None:
        """Take a line without its end. Never waits and never raises."""

    @property
    def failing(self) -> bool:
        """Whether lines cannot be written now."""


class AuditFile:
    """Whole lines, each appended in one go, to a file of mode 0600, or to stderr where there is no path.

    A file that was renamed or removed is made anew within a moment of the next line; one that was cut to nothing is appended to. So all that
    rotates logs will do. `lost` makes the line that says how many were lost.
    """

    def __init__(self, path: Path | None, lost: Callable[[int], bytes]) -> None:
        self._path, self._lost_line = path, lost
        self._file: int | None = None if path is not None else STDERR
        self._torn = False
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        """What is to be written; None ends it. Unlike a lock it keeps nobody waiting who puts something in."""
        self._lost = 0
        self._lost_told = 0
        self._error = ""
        self._writing_since: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> bytes:
        """Open it, and begin to write. Returns what an earlier life has written last. Raises OSError."""
        if self._path is not None:
            # A server's first start: it is opened before the journal makes the state directory.
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reopen()
        found = self._tail()
        self._torn = bool(found) and not found.endswith(b"\n")
        self._thread.start()
        return found

    @property
    def failing(self) -> bool:
        """Whether lines cannot be written now."""
        since = self._writing_since
        return bool(self._error) or (since is not None and time.monotonic() - since > HANGING_SECONDS)

    def write(self, line: bytes) -> None:
        """Take a line without its end. Never waits and never raises."""
        if self._lines.qsize() < MAX_LINES:
            self._lines.put(line)
        else:
            self._lost += 1

    def close(self) -> None:
        """Write what is there, for a while at most."""
        self._closing = True
        self._lines.put(None)
        if self._thread.ident is not None:
            self._thread.join(CLOSING_SECONDS)
        left = self._lines.qsize() + self._lost - self._lost_told
        if left or self._thread.is_alive():
            log.error("about %s audit lines were not written: %s", left, self._error or "the disk hangs")

    def _run(self) -> None:
        while (lines := self._taken()) is not None:
            lost = self._lost
            if lost > self._lost_told:
                lines.append(self._lost_line(lost - self._lost_told))
            self._writing_since = time.monotonic()
            while not self._put(lines):
                if self._closing:
                    return
                time.sleep(RETRY_SECONDS)
            self._writing_since, self._lost_told = None, lost

    def _taken(self) -> list[bytes] | None:
        """The next lines, once there are some; None at the end."""
        lines = [self._lines.get()]
        while len(lines) < BATCH and not self._lines.empty():
            lines.append(self._lines.get())
        if lines == [None]:
            return None
        if lines[-1] is None:
            # What was put in before it is still to be written, and it is to be found again.
            self._lines.put(None)
        return [line for line in lines if line is not None]

    def _put(self, lines: list[bytes]) -> bool:
        try:
            self._reopen()
            self._append(lines)
        except OSError as error:
            if not self._error:
                log.error("the audit log %s cannot be written: %s; lines are kept meanwhile, %s at most", self._path or "stderr", error, MAX_LINES)
            self._error = str(error)
            return False
        if self._error:
            log.warning("the audit log %s can be written again", self._path or "stderr")
        self._error = ""
        return True

    def _append(self, lines: list[bytes]) -> None:
        assert self._file is not None
        data = (b"\n" if self._torn else b"") + b"\n".join(lines) + b"\n"
        before = _size(self._file)
        written = os.write(self._file, data)
        if written == len(data):
            self._torn = False
            return
        # Take back what does not fit: it is written again, whole. What takes nothing back, such as a pipe, gets the rest.
        if before is not None:
            os.ftruncate(self._file, before)
            raise OSError(28, "no space for whole lines")
        while written < len(data):
            written += os.write(self._file, data[written:])

    def _reopen(self) -> None:
        if self._path is None:
            return
        if self._file is not None and _id_of(self._path) == _id_of(self._file):
            return
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file, self._torn = file, False

    def _tail(self) -> bytes:
        """The end of the file, or where it has just been rotated that of the one before."""
        if self._path is None:
            return b""
        for path in (self._path, self._path.with_name(f"{self._path.name}.1")):
            if path.exists() and (size := path.stat().st_size):
                with path.open("rb") as file:
                    file.seek(max(0, size - TAIL_BYTES))
                    return file.read()
        return b""


def _size(file: int) -> int | None:
    """Where it ends, of a regular file."""
    found = os.fstat(file)
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _id_of(file: Path | int) -> tuple[int, int] | None:
    try:
        found = os.fstat(file) if isinstance(file, int) else file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
