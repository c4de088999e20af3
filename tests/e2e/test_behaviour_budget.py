"""More guests hang than a daemon guarantees workers: the healthy ones' jobs queue, and run once the doctor has raised the limit."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner

from tests.beds.daemon import Libvirtd
from tests.e2e.behaviour import job_in, last, let_go_on, sampled, stopped
from tests.e2e.server import qemu_host
from virtrpc.v1 import types_pb2 as t
from virtrpc_server.main import cli

pytestmark = pytest.mark.hypervisor

PATIENT = t.JobOptions(on_disconnect=t.ON_DISCONNECT_DETACH, wait_timeout=Duration(seconds=300))
WEDGED = 7
"""More than the five workers that libvirtd guarantees."""


async def test_after_doctor_fix_the_jobs_of_healthy_guests_run() -> None:
    """Changes hang in three of seven stopped guests and queue for the others; a healthy guest's job queues behind them, and runs after the fix
    with all seven calls hanging; it is still sampled then."""
    with Libvirtd("budget") as daemon, qemu_host(daemon) as host, ExitStack() as stack:
        guests = [stack.enter_context(host.guest(ready=False, memory_mib=64)) for _ in range(WEDGED + 1)]
        *wedged, well = guests
        pids = [daemon.qemu_pid(guest.name) for guest in wedged]
        async with host.server.client() as client:
            for pid in pids:
                stack.enter_context(stopped(pid))
            changes = [await client.set_memory(guest.name, memory_bytes=60 << 20, scope=t.CHANGE_SCOPE_LIVE, options=PATIENT) for guest in wedged]
            waiting = await client.suspend_domain(well.name, options=PATIENT)
            queued = await job_in(client, waiting.job_id, t.JOB_STATE_QUEUED)
            assert queued.waiting_for == t.JOB_WAITING_FOR_DAEMON_BUDGET
            assert {holder.job_id for holder in queued.holders} <= {handle.job_id for handle in changes}
            fixed = await asyncio.to_thread(CliRunner().invoke, cli, ["doctor", "--fix", "--host", f"a={daemon.uri}"])
            assert "fixed" in fixed.stdout
            assert (await last(client, waiting.job_id)).state == t.JOB_STATE_SUCCEEDED
            for handle in changes:
                await job_in(client, handle.job_id, t.JOB_STATE_RUNNING)
            budget = (await client.get_host(host=host.name)).budget
            assert (budget.used, budget.waiting) == (WEDGED, 0)
            assert budget.places > WEDGED
            await (await client.resume_domain(well.name)).wait()
            await sampled(client, well.name)

            for pid, handle in zip(pids, changes, strict=True):
                let_go_on(pid)
                assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED
