"""A processor of its own for the server under measurement: else it is the scheduler's luck that is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def left_to_the_server() -> Iterator[int]:
    """What this process starts keeps off one processor, as it does itself, where there are several; gives that one's number."""
    processors = os.sched_getaffinity(0)
    first = min(processors)
    os.sched_setaffinity(0, processors - {first} or processors)
    try:
        yield first
    finally:
        os.sched_setaffinity(0, processors)


def go_first() -> None:
    """This process runs as soon as it can, whatever else does, where it may say so (as root, on Linux)."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def move_to(processor: int, process: int | str = "self") -> None:
    """This process or another one, with all its threads, goes to a processor; what it has started stays where it is."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {processor})
