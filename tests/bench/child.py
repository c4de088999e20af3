"""Processes that do as they are told: a command is a JSON line on their standard input, its answer a JSON line on their standard output."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import traceback
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

LONGEST_LINE = 1 << 26
ENDING_SECONDS = 60.0

Command = Callable[..., Awaitable[Any]]


class ChildFailed(Exception):  # noqa: N818  # says what happened; not an error of the program
    """A process did not do what it was told."""


class Child:
    """A module as a process of its own, until the block is left; it is told by `ask`."""

    def __init__(self, module: str, *words: str) -> None:
        self._command = [sys.executable, "-m", module, *words]
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    async def ask(self, command: str, /, **arguments: Any) -> Any:
        """Have a command carried out and return its answer; several may be under way. Raises ChildFailed."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps([number, command, arguments]).encode() + b"\n")
        return await future

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self._process.kill()

    async def __aenter__(self) -> Self:
        # A session of its own: where the kernel shares out processors by session, none takes from another.
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, limit=LONGEST_LINE, start_new_session=True)
        self._reader = asyncio.create_task(self._read())
        await self.ask("ready")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), ENDING_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, answer, problem = json.loads(line)
            future = self._waiting.pop(number)
            if future.cancelled():
                continue
            if problem is None:
                future.set_result(answer)
            else:
                future.set_exception(ChildFailed(problem))
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChildFailed(f"{' '.join(self._command)} ended with {await self._process.wait()}"))


async def obey(commands: Mapping[str, Command]) -> None:
    """Carry out commands, each in a task of its own, until standard input closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    known = {"ready": _ready, **commands}
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        number, command, arguments = json.loads(line)
        task = loop.create_task(_carry_out(number, known[command], arguments))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _ready() -> None:
    """It has started."""


async def _carry_out(number: int, command: Command, arguments: dict[str, Any]) -> None:
    answer, problem = None, None
    try:
        answer = await command(**arguments)
    except Exception as error:  # noqa: BLE001  # whatever it is, the one who asked decides
        problem = "".join(traceback.format_exception(error))
    sys.stdout.write(json.dumps([number, answer, problem]) + "\n")
    sys.stdout.flush()
