"""Processes that go on by single steps (ptrace(2)): they come no further than they should, however busy the machine is."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SYSCALL = 16, 17, 24
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def step_until(pid: int, done: Callable[[], bool]) -> None:
    """Let a stopped process go on, from one system call to the next, until a condition holds; then it is stopped again (SIGSTOP)."""
    _trace(PTRACE_ATTACH, pid)
    os.waitpid(pid, 0)
    while not done():
        _trace(PTRACE_SYSCALL, pid)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSTOPPED(status), f"process {pid} has ended: {status}"
    os.kill(pid, signal.SIGSTOP)
    _trace(PTRACE_DETACH, pid)


def _trace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace of process {pid}: {os.strerror(ctypes.get_errno())}")
