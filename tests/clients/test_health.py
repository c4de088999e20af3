"""`virtrpc health`, as a probe runs it, against the real transport: what it prints, how it ends, what it does not load."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from virtrpc.cli.start import quick_health
from virtrpc_server.transport import Transport

LOADED = "import sys\nfrom virtrpc.cli.start import main\nsys.argv[1:] = ['health']\ncode = main()\nprint(*sys.modules)\nsys.exit(code)"


@pytest.fixture
async def transport(tmp_path: Path) -> AsyncIterator[Transport]:
    """The server's outside, with a host that was not reached yet."""
    made = Transport(tmp_path / "s", hosts=["lab"])
    await made.start()
    yield made
    await made.stop()


async def run(socket: Path, *words: str, program: tuple[str, ...] = ("-m", "virtrpc.cli")) -> tuple[int | None, str, str]:
    """The exit code and what was printed, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "VIRTRPC_ADDRESS": str(socket)}
    )
    printed, complaints = await process.communicate()
    return process.returncode, printed.decode().strip(), complaints.decode().strip()


async def test_it_says_what_the_server_says(transport: Transport, tmp_path: Path) -> None:
    """0 only where that is SERVING: of the server, a service, a host; 1 for a host that is away, a name unknown, a server that drains."""
    socket = tmp_path / "s"
    assert await run(socket, "health") == (0, "SERVING", "")
    assert await run(socket, "health", "virtrpc.v1.JobService") == (0, "SERVING", "")
    assert await run(socket, "health", "virtrpc.host/lab") == (1, "NOT_SERVING", "")
    assert await run(socket, "health", "nobody") == (1, "SERVICE_UNKNOWN", "")
    transport.set_draining()
    assert await run(socket, "health") == (1, "NOT_SERVING", "")


async def test_nobody_answers(tmp_path: Path) -> None:
    """3, and a line that names the socket."""
    code, printed, complaint = await run(tmp_path / "none", "health")
    assert (code, printed) == (3, "")
    assert complaint.startswith(f"virtrpc: error: cannot reach the virtrpc server at unix://{tmp_path}/none: ")


@pytest.mark.parametrize("words", [("--json",), ("virtrpc.host/lab", "--json", "--timeout", "30")], ids=" ".join)
async def test_both_ways_are_one(transport: Transport, tmp_path: Path, words: tuple[str, ...]) -> None:
    """The quick way and the whole program, which options before the command lead to, answer the same: JSON with the name and its status."""
    quick = await run(tmp_path / "s", "health", *words)
    assert quick == await run(tmp_path / "s", "--timeout", "30", "health", *words)
    service = words[0] if words[0] != "--json" else ""
    assert json.loads(quick[1]) == {"service": service, "status": "NOT_SERVING" if service else "SERVING"}


async def test_a_probe_is_cheap(transport: Transport, tmp_path: Path) -> None:
    """It loads gRPC, and neither the stubs nor what makes the rest of the program."""
    code, printed, _ = await run(tmp_path / "s", program=("-c", LOADED))
    assert code == 0
    assert {"google.protobuf", "typer", "rich", "virtrpc.v1", "virtrpc.cli.main"} & set(printed.split()) == set()


@pytest.mark.parametrize("words", [["--help"], ["--timeout", "500ms"], ["a", "b"], ["--hlep"], ["--address", "http://a"]], ids=" ".join)
def test_other_words_are_the_programs(words: list[str]) -> None:
    """What is not plainly a probe is left to the program, which helps or says what is wrong with it."""
    assert quick_health(words) is None
