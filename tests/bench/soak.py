"""Streams that come and go, a million of them unless fewer are asked for: the server's memory must stay flat, and nothing be left of them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.bench.child import Child
from tests.bench.stage import live_uuids

HOST = "soak"
MILLION = 1_000_000
ROUNDS = 50
WARM_UP = 0.2
"""The share of the streams after which memory should have found its size."""
KILLED = 100
"""Streams of a process that is killed, once in every fifth round."""
GROWTH_BYTES = 8 << 20
"""What is no growth: the allocator's ups and downs."""
ENDING_SECONDS = 30.0
CONFIG = """
socket = "{socket}"
state_dir = "{socket}.state"
drain_timeout = 1
[[hosts]]
name = "{host}"
uri = "sim://{host}/?domains=20&running=20&save_seconds=100000&progress_seconds=0.5"
"""

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Soaked:
    """What was seen: resident bytes of the server after each round, streams a second, and what was left before and after."""

    streams: int
    memory: list[int]
    rate: float
    before: dict[str, int]
    after: dict[str, int]

    @property
    def growth(self) -> int:
        """Bytes from the end of the warm-up to the end: of the highest of the first rounds after it, to that of the last."""
        warm = int(len(self.memory) * WARM_UP)
        few = max(1, (len(self.memory) - warm) // 8)
        return max(self.memory[-few:]) - max(self.memory[warm : warm + few])


async def soak(streams: int) -> Soaked:
    """Have that many streams opened and left, in rounds."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="virtrpc-soak-"))
        config, address = Path(directory) / "virtrpcd.toml", f"unix:{directory}/s"
        config.write_text(CONFIG.format(socket=f"{directory}/s", host=HOST))
        server = await stack.enter_async_context(Child("tests.bench.server", str(config)))
        uuids = await live_uuids(address, HOST)
        callers = await stack.enter_async_context(Child("tests.bench.callers", address))
        running, finished = await callers.ask("begin", host=HOST, uuids=uuids[:2])
        await callers.ask("end", jobs=[finished])
        known = {"host": HOST, "uuid": uuids[0], "running": running, "finished": finished}
        comers = await stack.enter_async_context(Child("tests.bench.comers", address))
        await comers.ask("know", **known)
        before, memory, began = await server.ask("left"), list[int](), time.monotonic()
        for number in range(ROUNDS):
            await comers.ask("come_and_go", count=streams // ROUNDS)
            if number % 5 == 0:
                await _killed(address, known)
            memory.append(await server.ask("memory"))
            console.print(f"{time.strftime('%H:%M:%S')}  {(number + 1) * streams // ROUNDS} streams, {memory[-1] / (1 << 20):.1f} MiB")
        rate = streams / (time.monotonic() - began)
        return Soaked(streams, memory, rate, before, await _settled(server, before))


async def _killed(address: str, known: dict[str, str]) -> None:
    """A process that had streams open is gone, without a word."""
    async with Child("tests.bench.comers", address) as victim:
        await victim.ask("know", **known)
        await victim.ask("hold", streams=KILLED)
        victim.kill()


async def _settled(server: Child, before: dict[str, int]) -> dict[str, int]:
    """What is left once the last streams have ended."""
    deadline = time.monotonic() + ENDING_SECONDS
    left: dict[str, int] = await server.ask("left")
    while left != before and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        left = await server.ask("left")
    return left


def main(count: Annotated[int, typer.Argument(min=ROUNDS, help="How many streams.")] = MILLION) -> None:
    """Open and leave watch streams, and say what became of the server's memory."""
    soaked = asyncio.run(soak(count))
    left = {name: (soaked.before[name], soaked.after[name]) for name in soaked.before if soaked.before[name] != soaked.after[name]}
    console.print(
        f"{soaked.streams} streams at {soaked.rate:.0f} a second; after the warm-up memory grew by {soaked.growth / (1 << 20):.1f} MiB, "
        f"{soaked.growth / soaked.streams / (1 - WARM_UP):.0f} bytes a stream (at most {GROWTH_BYTES >> 20} MiB); left behind: {left or 'nothing'}"
    )
    raise typer.Exit(0 if soaked.growth <= GROWTH_BYTES and not left else 1)


if __name__ == "__main__":
    typer.run(main)
