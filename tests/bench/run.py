"""What queries cost while jobs run, against what they cost without: on a simulated host, from another process, open loop.

Usage: python -m tests.bench.run [--rounds N]. Prints a table and writes build/bench.json: a list of {name, value, unit, target, better}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.demo.rows import Window, row
from tests.demo.run import reading, serving
from tests.demo.stage import Stage
from virtrpc import AsyncClient
from virtrpc.v1 import types_pb2

DOMAINS = 1000
JOBS = 100
BLOCK_SECONDS = 4.0
SAVE_SECONDS = 3600
TARGET_RATIO = 1.2
NOISE_LIMIT = 1.5
URI = f"sim://bench/?domains={DOMAINS}&running={DOMAINS}&save_seconds={SAVE_SECONDS}&progress_seconds=0.1"
BUILD = Path("build")


async def measure(rounds: int) -> list[dict[str, Any]]:
    """Idle, idle again and busy in turn; the figures are medians over the rounds."""
    reads: list[dict[str, Any]] = []
    blocks: list[dict[str, Window]] = []
    with tempfile.TemporaryDirectory(prefix="virtrpc-bench-") as directory:
        here = Stage(URI, Path(directory), "guest-1")
        async with serving(here, saves=JOBS) as client, reading(here, reads):
            for _ in range(rounds):
                block = {"idle": await _block(), "idle again": await _block()}
                handles = await _begin(client)
                block["busy"] = await _block()
                blocks.append(block)
                await _end(handles)
    return _figures(reads, blocks)


async def _block() -> Window:
    began = time.monotonic()
    await asyncio.sleep(BLOCK_SECONDS)
    return began, time.monotonic()


async def _begin(client: AsyncClient) -> list[Any]:
    handles = [await client.managed_save_domain(f"guest-{number}") for number in range(2, JOBS + 2)]
    for handle in handles:
        async for job in handle:
            if job.state == types_pb2.JOB_STATE_RUNNING:
                break
    return handles


async def _end(handles: list[Any]) -> None:
    for handle in handles:
        await handle.cancel()
    for handle in handles:
        async for _ in handle:
            pass


def _figures(reads: list[dict[str, Any]], blocks: list[dict[str, Window]]) -> list[dict[str, Any]]:
    p99 = [{name: row(name, reads, [window]).p99 for name, window in block.items()} for block in blocks]
    ratio = statistics.median(each["busy"] / each["idle"] for each in p99)
    noise = statistics.median(each["idle again"] / each["idle"] for each in p99)
    return [
        {"name": f"queries p99, {JOBS} saves running / idle", "value": ratio, "unit": "ratio", "target": TARGET_RATIO, "better": "lower"},
        {"name": "noise: second idle block p99 / first", "value": noise, "unit": "ratio", "target": NOISE_LIMIT, "better": "lower"},
        *(
            {
                "name": f"queries p99, {name}",
                "value": statistics.median(each[name] for each in p99) * 1000,
                "unit": "ms",
                "target": 15.0,
                "better": "lower",
            }
            for name in ("idle", "busy")
        ),
    ]


def _median(p99: list[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in p99)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    figures = asyncio.run(measure(parser.parse_args().rounds))
    table = Table("figure", "value", "target", title=f"{DOMAINS} simulated domains")
    for figure in figures:
        table.add_row(figure["name"], f"{figure['value']:.2f} {figure['unit']}", f"at most {figure['target']:g}")
    Console().print(table)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    if figures[1]["value"] > NOISE_LIMIT:
        print("the machine was too noisy for these figures to mean anything: run it again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
