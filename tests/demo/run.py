"""The main job, shown: a guest is saved under a stream of progress while every query answers at once.

Ends with 0 unless a step failed; python -m tests.demo.run --help lists what can be chosen.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from tests.demo.rows import Window, observations, row, table
from tests.demo.stage import Stage, stage
from tests.demo.tour import tour
from virtrpc import AsyncClient
from virtrpc.errors import VirtrpcError
from virtrpc.jobs import AsyncJobHandle
from virtrpc.v1 import types_pb2

RATE = 200.0
READS = 2000
"""Reads in each row."""
ROW_SECONDS = READS / RATE * 1.03
"""A little more than the reads need: a window seldom begins with one."""
IDLE_SECONDS = 3.0
SAMPLE_SECONDS = 0.25
"""Saves into memory last a second or two: sampled once a second, hardly one would show that statistics go on."""
MAX_ROUNDS = 24
HALF_WAY = 30.0
"""Per cent at which the cancel is sent: reports come four times a second, and a save into the page cache does a quarter between two."""
CANCEL_ATTEMPTS = 3
START_SECONDS = 60.0
SETTLE_SECONDS = 1.0
"""After a restore: the guest wakes, catches up on its clock and goes back to sleep, and the kernel frees the image."""

console = Console(highlight=False, soft_wrap=True)


class StepFailed(Exception):  # noqa: N818  # says what happened; not an error of the program
    """A step of the demo did not come out as it should."""


def say(text: str) -> None:
    """One line about what happens now."""
    console.print(f"[bold]•[/bold] {text}")


@asynccontextmanager
async def serving(here: Stage, **settings: float) -> AsyncIterator[AsyncClient]:
    """The server on the stage's host with these settings, and a client of it."""
    socket = here.directory / "virtrpc.sock"
    config = here.directory / "virtrpcd.toml"
    host = {"name": "demo", "uri": here.uri, **settings}
    words = [
        f"state_dir = {json.dumps(str(here.directory / 'state'))}",
        f"path_roots = [{json.dumps(str(here.directory))}]",
        "[[hosts]]",
        *(f"{key} = {json.dumps(value)}" for key, value in host.items()),
    ]
    config.write_text("\n".join(words) + "\n")
    with (here.directory / "virtrpcd.log").open("w") as log:
        command = [sys.executable, "-m", "virtrpc.daemon", "serve", "--socket", str(socket), "--config", str(config)]
        server = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, start_new_session=True)
        try:
            async with AsyncClient(f"unix:{socket}") as client:
                await _until_live(client, server)
                yield client
        except BaseException:
            console.print((here.directory / "virtrpcd.log").read_text()[-4000:], markup=False, style="dim")
            raise
        finally:
            if server.returncode is None:
                server.send_signal(signal.SIGTERM)
            code = await server.wait()
    if code != 0:
        raise StepFailed(f"the server ended with {code}")


async def _until_live(client: AsyncClient, server: Process) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.returncode is not None:
            raise StepFailed(f"the server ended with {server.returncode}")
        try:
            host = await client.get_host(host="demo")
        except VirtrpcError:
            await asyncio.sleep(0.05)
            continue
        if host.state == types_pb2.FRESHNESS_LIVE:
            return
        await asyncio.sleep(0.05)
    raise StepFailed(f"the host was not reached within {START_SECONDS:g} s")


@asynccontextmanager
async def reading(here: Stage, reads: list[dict[str, Any]]) -> AsyncIterator[None]:
    """Reads go on in another process; what they measured is in `reads` afterwards."""
    socket = str(here.directory / "virtrpc.sock")
    command = [sys.executable, "-m", "tests.demo.reads", socket, here.domain, str(RATE)]
    # A session of its own: where the kernel shares out processors by session, drawing the progress bar takes nothing from the reads.
    reader = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 26, start_new_session=True)
    assert reader.stdout is not None
    assert reader.stdin is not None
    try:
        if await reader.stdout.readline() != b"reading\n":
            raise StepFailed("the reading process did not begin")
        yield
    finally:
        reader.stdin.close()
        output = await reader.stdout.read()
        await reader.wait()
        reads += [json.loads(line) for line in output.splitlines()]
    if reader.returncode != 0:
        raise StepFailed("a read failed: not every query answered")


async def saved(client: AsyncClient, here: Stage) -> Window:
    """A managed save under its progress bar; from RUNNING to the terminal update."""
    handle = await client.managed_save_domain(here.domain)
    began = time.monotonic()
    ended = began
    with bar() as progress:
        task = progress.add_task("managed save", total=None)
        running = False
        async for job in handle:
            ended = time.monotonic()
            if job.state == types_pb2.JOB_STATE_RUNNING and not running:
                running, began = True, ended
            show(progress, task, job)
    await handle.wait()
    return began, ended


async def cancelled_half_way(client: AsyncClient, here: Stage) -> types_pb2.Job:
    """A managed save that is cancelled while it is being written; its last state."""
    handle: AsyncJobHandle = await client.managed_save_domain(here.domain)
    asked, last = False, None
    with bar() as progress:
        task = progress.add_task("managed save", total=None)
        async for job in handle:
            show(progress, task, job)
            last = job
            if job.progress.percent >= HALF_WAY and not asked:
                asked = True
                answer = await handle.cancel()
                progress.console.print(f"  cancelled at {job.progress.percent:.0f} %, answered: {answer.message}")
    if last is None:
        raise StepFailed("the save told nothing")
    return last


async def cancelled(client: AsyncClient, here: Stage) -> None:
    """A save that is cancelled before it is over; one that was quicker than the cancel is restored and tried again."""
    last = types_pb2.Job()
    for _ in range(CANCEL_ATTEMPTS):
        last = await cancelled_half_way(client, here)
        if last.state == types_pb2.JOB_STATE_CANCELLED:
            return
        if last.state != types_pb2.JOB_STATE_SUCCEEDED:
            break
        say("the save was over before the abort reached it: restored, and once more")
        await (await client.start_domain(here.domain)).wait()
    raise StepFailed(f"the cancelled save ended {types_pb2.JobState.Name(last.state)}: {last.error.message}")


def bar() -> Progress:
    """A progress bar in bytes."""
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, refresh_per_second=4)


def show(progress: Progress, task: Any, job: types_pb2.Job) -> None:
    """Move the bar to where the job is."""
    if job.progress.total_bytes:
        progress.update(task, total=job.progress.total_bytes, completed=job.progress.processed_bytes)


async def prepared(client: AsyncClient, here: Stage) -> None:
    """Define and start the guest, and wait until it sleeps on its filled memory."""
    if here.xml is None:
        return
    say(f"everything is written to {here.directory}: {'memory, not a disk' if here.in_memory else 'the figures hold the disk as well'}")
    here.keep_apart((await client.get_host(host="demo")).driver_process.pid)
    shared = "all of them, like the server" if here.cpus >= os.sched_getaffinity(0) else "the rest is for the server and its callers"
    say(f"the hypervisor keeps to processor {', '.join(map(str, sorted(here.cpus)))}: {shared}")
    say("defining and starting a Linux guest of 2 GiB, which fills its memory and then sleeps")
    await (await client.define_domain(host="demo", xml=here.xml)).wait()
    await (await client.start_domain(here.domain)).wait()
    await asyncio.to_thread(here.wait_until_asleep)


async def described(client: AsyncClient, here: Stage) -> types_pb2.Domain:
    """Show the guest as GetDomain has it."""
    domain = await client.get_domain(here.domain)
    state = types_pb2.DomainState.Name(domain.state).removeprefix("DOMAIN_STATE_").lower()
    freshness = types_pb2.Freshness.Name(domain.state_observation.freshness).removeprefix("FRESHNESS_")
    console.print(f"  {domain.name}  {domain.uuid}  {state} ({domain.state_reason})  {domain.memory_bytes >> 20} MiB  {freshness}")
    return domain


async def rounds(client: AsyncClient, here: Stage) -> tuple[list[Window], list[Window]]:
    """Idle and saved in turn, until both rows have their reads."""
    idle: list[Window] = []
    saves: list[Window] = []
    pause = IDLE_SECONDS
    for _ in range(MAX_ROUNDS):
        idle.append(await _idle(pause))
        saves.append(await saved(client, here))
        await (await client.start_domain(here.domain)).wait()
        if _length(saves) >= ROW_SECONDS:
            break
        # Quick saves need many rounds, which then must not take long.
        pause = min(IDLE_SECONDS, max(1.0, _length(saves[-1:])))
    while _length(idle) < ROW_SECONDS:
        idle.append(await _idle(IDLE_SECONDS))
    return idle, saves


async def _idle(seconds: float) -> Window:
    await asyncio.sleep(SETTLE_SECONDS)
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return began, time.monotonic()


def _length(windows: list[Window]) -> float:
    return sum(end - start for start, end in windows)


async def demo(driver: str, parent: Path | None, cpus: frozenset[int] | None) -> float:
    """The whole demo; returns p99 during the saves over p99 while idle."""
    began = time.monotonic()
    reads: list[dict[str, Any]] = []
    with stage(driver, parent, cpus) as here:
        async with serving(here, sample_seconds=SAMPLE_SECONDS) as client:
            await prepared(client, here)
            say("the guest")
            await described(client, here)
            say(f"reading {RATE:g} times a second while it sleeps, is saved, restored, sleeps, is saved …")
            async with reading(here, reads):
                idle, saves = await rounds(client, here)
            say("one more save, cancelled half-way")
            await cancelled(client, here)
            domain = await described(client, here)
            if domain.state != types_pb2.DOMAIN_STATE_RUNNING:
                raise StepFailed("the guest does not run after the cancelled save")
            say("and what else there is")
            await tour(client, here, lambda text: console.print(f"  {text}", markup=False))
            await _cleared(client, here)
        left = here.left_behind
    if left:
        raise StepFailed(f"guests were left behind: {left}")
    rows = [row("guest idle", reads, idle), row("during a managed save", reads, saves)]
    console.print(table(rows))
    seen = max(observations(reads, window) for window in saves)
    say(f"the memory statistics were read {seen} times during one save; took {time.monotonic() - began:.0f} s, nothing is left behind")
    if seen < 3 and driver != "sim":
        raise StepFailed("the memory statistics did not move during a save")
    for each in rows:
        if len(each.seconds) < READS:
            raise StepFailed(f"only {len(each.seconds)} reads of {READS}: {each.name}")
    return rows[1].p99 / rows[0].p99


async def _cleared(client: AsyncClient, here: Stage) -> None:
    await (await client.destroy_domain(here.domain)).wait()
    if here.xml is not None:
        await (await client.undefine_domain(here.domain)).wait()


def _cpu_numbers(text: str) -> frozenset[int]:
    found = {number for part in text.split(",") for number in _range(part)}
    if not found <= os.sched_getaffinity(0):
        raise typer.BadParameter(f"this process may run on {sorted(os.sched_getaffinity(0))} only")
    return frozenset(found)


def _range(part: str) -> range:
    first, _, last = part.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise typer.BadParameter("expected numbers and ranges, such as 0,2-3") from None


def main(
    driver: Annotated[Literal["qemu", "sim"], typer.Option(help="A real guest, or a simulated hypervisor.")] = "qemu",
    directory: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Where images are written; by default memory, where it has room.")
    ] = None,
    cpus: Annotated[str, typer.Option(help="The hypervisor's processors, such as 0,2-3; by default the upper half.")] = "",
) -> None:
    """A guest is saved under a stream of progress while every query answers at once."""
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    try:
        ratio = asyncio.run(demo(driver, directory, _cpu_numbers(cpus) if cpus else None))
    except (StepFailed, VirtrpcError) as failed:
        console.print(f"[bold red]failed:[/bold red] {failed}")
        raise typer.Exit(1) from None
    print(f"p99 during the save / idle: {ratio:.2f}")


if __name__ == "__main__":
    typer.run(main)
