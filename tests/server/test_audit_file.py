"""Audit lines are written whole and once, wherever the file goes meanwhile, and a disk that takes none keeps nobody waiting."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtrpc_server.audit_file as module
from tests.beds.wait import wait_until
from virtrpc_server.audit_file import AuditFile

GUARD = 60.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again soon."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lines go."""
    return tmp_path / "audit.log"


def made(path: Path | None) -> AuditFile:
    """A sink whose count of lost lines is a line with that number."""
    return AuditFile(path, lambda count: b"lost %d" % count)


@pytest.fixture
def file(path: Path) -> Iterator[AuditFile]:
    """A sink that has begun."""
    file = made(path)
    assert file.start() == b""
    yield file
    file.close()


def wait_for(path: Path, *lines: str) -> None:
    """Return once a file has just these lines."""
    wait_until(lambda: path.exists() and path.read_text().splitlines() == list(lines), f"{path} to hold {lines}", GUARD)


def test_lines_are_for_the_owner_alone(file: AuditFile, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is made with mode 0600 and has each line once, in order; what is there when it is closed is written, and nothing is said of it."""
    for number in range(1000):
        file.write(b"%d" % number)
    file.close()
    assert path.read_text().splitlines() == [str(number) for number in range(1000)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert caplog.messages == []


def test_a_first_start_makes_the_directory(tmp_path: Path) -> None:
    """A state directory that nobody has made yet is made, for the owner alone."""
    file = made(tmp_path / "state" / "audit.log")
    file.start()
    file.write(b"first")
    file.close()
    assert (tmp_path / "state" / "audit.log").read_text() == "first\n"
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("lines", [0, 1, 2000])
def test_an_end_with_nothing_lost_says_nothing(path: Path, caplog: pytest.LogCaptureFixture, lines: int) -> None:
    """What there is, is written, and nothing is called lost."""
    file = made(path)
    file.start()
    for number in range(lines):
        file.write(str(number).encode())
    file.close()
    assert len(path.read_bytes().splitlines()) == lines
    assert caplog.messages == []


def test_rotation_by_renaming(file: AuditFile, path: Path) -> None:
    """After a rename lines go to a new file; none is lost."""
    file.write(b"one")
    wait_for(path, "one")
    path.rename(path.with_name("audit.log.1"))
    file.write(b"two")
    wait_for(path, "two")
    wait_for(path.with_name("audit.log.1"), "one")


def test_rotation_while_lines_are_written(file: AuditFile, path: Path) -> None:
    """However often it is renamed in the middle: each line is there once, and whole."""
    wanted = [f"line {number} " + "x" * 200 for number in range(4_000)]
    for number, line in enumerate(wanted):
        file.write(line.encode())
        if number % 200 == 100:
            with contextlib.suppress(FileNotFoundError):  # the next one has not been made yet
                path.rename(path.with_name(f"audit.log.{number}"))
    file.close()
    assert sorted(line for each in path.parent.glob("audit.log*") for line in each.read_text().splitlines()) == sorted(wanted)


def test_rotation_by_cutting(file: AuditFile, path: Path) -> None:
    """After a copy and a cut lines begin at the file's beginning, without a hole."""
    file.write(b"one")
    wait_for(path, "one")
    os.truncate(path, 0)
    file.write(b"two")
    wait_for(path, "two")


def test_what_an_earlier_life_has_written(file: AuditFile, path: Path) -> None:
    """A start tells the end of the file, or of the one that was rotated last; a line that was torn by a crash does not tear the next."""
    file.write(b"one")
    file.close()
    path.write_bytes(path.read_bytes() + b"half a li")
    later = made(path)
    assert later.start() == b"one\nhalf a li"
    later.write(b"two")
    later.close()
    assert path.read_text().splitlines() == ["one", "half a li", "two"]
    path.rename(path.with_name("audit.log.1"))
    last = made(path)
    assert last.start().endswith(b"two\n")
    last.close()


def test_a_disk_that_is_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are kept while none can be written, and written once they can be; those beyond the bound are counted in a line of their own."""
    monkeypatch.setattr(module, "MAX_LINES", 3)
    path.symlink_to("/dev/full")
    monkeypatch.setattr(os, "O_NOFOLLOW", 0)
    file = made(path)
    file.start()
    for number in range(20):
        file.write(b"%d" % number)
    wait_until(lambda: file.failing, "the disk to be full", GUARD)
    path.unlink()
    file.write(b"last")
    wait_until(lambda: not file.failing, "the disk to have room", GUARD)
    file.close()
    lines = path.read_text().splitlines()
    kept = [int(line) for line in lines if line.isdigit()]
    assert kept == sorted(set(kept))
    assert len(kept) + sum(int(line.removeprefix("lost ")) for line in lines if line.startswith("lost ")) + lines.count("last") == 21


def test_what_does_not_fit_is_written_whole_later(file: AuditFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of which a full disk takes a part leaves no half line and no line twice."""
    real, room = os.write, [4]

    def short(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[: room.pop()] if room else data)

    monkeypatch.setattr(os, "write", short)
    file.write(b"a long line")
    wait_for(path, "a long line")


def test_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes lines never waits, however long the disk takes, and is told that it hangs."""
    monkeypatch.setattr(module, "HANGING_SECONDS", 0.05)
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.05)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = made(fifo)
    file._tail = lambda: b""  # type: ignore[method-assign] # of a file only
    file.start()
    for _ in range(module.MAX_LINES + 10):
        file.write(b"x" * 100)
    wait_until(lambda: file.failing, "the pipe to be full", GUARD)
    began = time.monotonic()
    file.write(b"x")
    file.close()
    assert time.monotonic() - began < GUARD / 2
    os.close(reader)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A file that is a link to another is refused at the start."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        made(tmp_path / "link").start()
