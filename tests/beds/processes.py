"""Finding and ending processes by what they are, never by a broad name."""

import os
import signal
from pathlib import Path

from tests.beds.wait import wait_until

PROC = Path("/proc")


def command_line(pid: int) -> list[str]:
    """The process's arguments, program first; empty where it has ended or is of the kernel's own."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def pids_with_argument(program: str, argument: str) -> list[int]:
    """The processes whose program's name begins with ``program`` and one of whose arguments contains ``argument``."""
    return [pid for pid in _everyone() if _matches(command_line(pid), program, argument)]


def children(pid: int) -> list[int]:
    """The process's children that have not ended."""
    return [child for child in _everyone() if _stat(child)[1:] == [str(pid)]]


def alive(pid: int) -> bool:
    """Whether the process still runs: a zombie does not."""
    return bool(_stat(pid))


def kill(pid: int, number: signal.Signals = signal.SIGKILL, guard_seconds: float = 30) -> None:
    """Send the signal and return once the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    wait_until(lambda: not alive(pid), f"process {pid} to end", guard_seconds)


def _everyone() -> list[int]:
    return sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _matches(words: list[str], program: str, argument: str) -> bool:
    return bool(words) and Path(words[0]).name.startswith(program) and any(argument in word for word in words[1:])


def _stat(pid: int) -> list[str]:
    """State letter and parent; empty once the process has ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
    return [] if fields[0] == "Z" else fields[:2]
