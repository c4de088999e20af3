"""A flood of events: nothing is lost in the end, queries answer meanwhile, and the server does not grow by it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.behaviour import MIB
from tests.e2e.server import QemuHost, eventually
from tests.faults.test_under_our_feet import mirror
from virtrpc import AsyncClient
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

EVENTS = 10_000
GUESTS = 4
ASK_SECONDS = 0.05
GROWTH_BYTES = 16 * MIB
"""What ten thousand events may leave behind in either process: measured were 3 MiB."""


def resident_bytes(pid: int) -> int:
    """How much memory a process has."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


async def test_ten_thousand(client: AsyncClient, host: QemuHost) -> None:
    """Guests are suspended and resumed as fast as libvirt goes, while every domain is asked for again and again, and watched."""
    with ExitStack() as stack:
        guests = [stack.enter_context(host.guest(ready=False)) for _ in range(GUESTS)]
        async with mirror(client) as watched:
            pids = host.server.pid, host.server.driver_pid(host.name)
            before = [resident_bytes(pid) for pid in pids]
            uuids = [guest.uuid for guest in guests]
            words = [sys.executable, "-m", "tests.faults.flood", host.daemon.uri, str(EVENTS), *uuids]
            flood = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2])
            said = asyncio.create_task(flood.communicate())
            answers = 0
            while not (await asyncio.wait({said}, timeout=ASK_SECONDS))[0]:
                assert {domain.uuid for domain in await client.list_domains().all()} >= set(uuids)
                answers += 1
            assert flood.returncode == 0
            assert int((await said)[0]) >= EVENTS
            assert answers > 1
            guests[0].domain.suspend()

            async def present() -> bool:
                states = [(await client.get_domain(uuid)).state for uuid in uuids]
                fresh = [(await client.get_domain(uuid)).state_observation.freshness for uuid in uuids]
                seen = [watched.domains[host.name, uuid].state for uuid in uuids]
                wanted = [t.DOMAIN_STATE_PAUSED, *[t.DOMAIN_STATE_RUNNING] * (GUESTS - 1)]
                return states == seen == wanted and fresh == [t.FRESHNESS_LIVE] * GUESTS

            await eventually(present, f"the present to be told, see {host.server.log_file}")
            growth = [resident_bytes(pid) - held for pid, held in zip(pids, before, strict=True)]
            assert max(growth) < GROWTH_BYTES
            assert [host.server.pid, host.server.driver_pid(host.name)] == list(pids)
