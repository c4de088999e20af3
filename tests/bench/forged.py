"""A journal as an earlier life of a server might have left it: written through the journal's own file, without living that life."""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from virtrpc_drivers import support
from virtrpc_drivers.operations import AnyOperation, ManagedSave, Suspend
from virtrpc_drivers.values import DomainConfig, DomainState, Stamp, State
from virtrpc_server.domains import Entry, Observed
from virtrpc_server.jobs import first_id
from virtrpc_server.journal_file import JournalFile
from virtrpc_server.progress import Progress
from virtrpc_server.records import Job, JobState, OnDisconnect, Problem, domain_kept

GIB = 1 << 30
BATCH = 1000
SPACING = 5.0
"""Seconds between two jobs that were accepted."""


def uuids(host: str, count: int) -> list[str]:
    """Those of a simulated host's domains, which it makes out of its name."""
    return [f"{zlib.crc32(host.encode()):08x}-0000-4000-8000-{number:012x}" for number in range(1, count + 1)]


def finished(count: int, host: str, uuids: list[str]) -> Iterator[Job]:
    """Jobs of these domains in turn, over, oldest first; one of twenty has failed."""
    table = {row.verb: row for row in support.table("qemu")}
    first = time.time() - 60.0 - count * SPACING
    for number in range(count):
        uuid, began = uuids[number % len(uuids)], first + number * SPACING
        operation: AnyOperation = ManagedSave(uuid=uuid) if number % 2 else Suspend(uuid=uuid)
        failed = number % 20 == 0
        yield Job(
            **_common(operation, host, uuid, f"guest-{number % len(uuids) + 1}", began),
            support=table[operation.verb],
            revision=7,
            state=JobState.FAILED if failed else JobState.SUCCEEDED,
            attempts=1,
            called=began,
            started=began,
            ended=began + 3.3,
            updated=began + 3.3,
            abortable=False,
            progress=Progress(GIB, GIB, 0, GIB // 4, 0.0, 100.0, began + 3.2, 3.2) if number % 2 else None,
            problem=Problem("FAILED", "internal error: unable to execute QEMU command 'stop'", {"host": host, "domain": uuid}) if failed else None,
            domain=None if failed else domain_kept(_entry(host, uuid, began)),
        )


def write(directory: Path, jobs: Iterable[Job]) -> None:
    """The journal of a server that has not been started yet has these jobs."""
    file, rest = JournalFile(directory, sync=False), iter(jobs)
    file.open()
    while batch := {job.id: job for job in islice(rest, BATCH)}:
        file.write(batch, frozenset(batch), ())
    file.close()


def _common(operation: AnyOperation, host: str, uuid: str, name: str, began: float) -> dict[str, Any]:
    return {
        "id": f"{first_id(int(began * 1e6))}-{secrets.token_hex(6)}",
        "host": host,
        "uuid": uuid,
        "name": name,
        "generation": 1,
        "operation": operation,
        "owner": "unix",
        "request_id": secrets.token_hex(16),
        "fingerprint": secrets.token_hex(32),
        "on_disconnect": OnDisconnect.WITHDRAW,
        "wait_limit": 30.0,
        "run_limit": None,
        "created": began,
    }


def _entry(host: str, uuid: str, began: float) -> Entry:
    stamp = Stamp(0, began, began)
    state = DomainState(state=State.RUNNING, reason="booted", id=7, active=True, memory_bytes=GIB, max_memory_bytes=GIB, cpu_time_ns=10**10, vcpus=2)
    config = DomainConfig(xml="", os_type="hvm", persistent=True, autostart=False, memory_bytes=GIB, max_memory_bytes=GIB, vcpus_maximum=2)
    return Entry(host, uuid, "guest", 1, stamp, Observed(state, stamp), Observed(config, stamp))
