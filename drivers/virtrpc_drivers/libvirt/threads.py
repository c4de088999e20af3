"""Blocking calls on daemon threads: a call that never returns must not keep the process alive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def spawn(work: Callable[[], object], name: str) -> None:
    """Run on a daemon thread of its own; nobody waits for it."""
    threading.Thread(target=work, name=name, daemon=True).start()


def in_thread(work: Callable[[], T], name: str, finished: Callable[[], None] | None = None) -> asyncio.Future[T]:
    """Run on a daemon thread of its own and hand the result to the running loop.

    `finished` is called on the loop when the call has really returned, also where nobody awaits the future any more.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(_retrieve)

    def settle(outcome: Callable[[], None]) -> None:
        if not future.done():
            outcome()
        if finished is not None:
            finished()

    def hand(outcome: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to tell

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the task that waits
            caught = error
            hand(lambda: future.set_exception(caught))
        else:
            hand(lambda: future.set_result(result))

    spawn(run, name)
    return future


def _retrieve(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()
