"""The audit log of the real server, on a simulated host."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.beds.wait import wait_until
from tests.e2e.server import GUARD, Channel, Server
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

WHY = (("virtrpc-reason", "maintenance 7"),)
SLOW = "sim://?domains=4&running=4&save_seconds=600"


class Audited:
    """A server, and its audit log."""

    def __init__(self, path: Path, *options: str, **settings: Any) -> None:
        self.log = path / "audit.log"
        self.server = Server({"sim": SLOW}, *options, audit_log=str(self.log), drain_timeout=0, **settings)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What is in it."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.is_file() else []

    def wait_for(self, **fields: Any) -> dict[str, Any]:
        """The one line with these fields, once it is there."""

        def fitting() -> list[dict[str, Any]]:
            return [line for line in self.lines if line.items() >= fields.items()]

        wait_until(fitting, f"a line with {fields}", GUARD)
        (line,) = fitting()
        return line


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    """A server whose callers may have two streams."""
    audited = Audited(tmp_path)
    with audited.server as server:
        server.wait_live()
        yield audited


def domain(number: int) -> t.DomainRef:
    """One of the host's domains."""
    return t.DomainRef(name=f"guest-{number}")


async def read(call: Any) -> t.Job:
    """A verb's last update."""
    updates = [update.job async for update in call]
    last: t.Job = updates[-1]
    return last


async def begun(channel: Channel, number: int) -> t.Job:
    """A save that runs, and that its caller has left."""
    call = channel.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=domain(number)), metadata=WHY)
    async for update in call:
        if update.job.state == t.JOB_STATE_RUNNING:
            call.cancel()
            job: t.Job = update.job
            return job
    raise AssertionError("it never ran")


async def test_each_call_has_its_line(audited: Audited) -> None:
    """Verbs when their jobs end, refused verbs and what acts at once, each once; reads none; the job tells its reason too."""
    async with audited.server.channel() as channel:
        job = await begun(channel, 1)
        assert job.reason == "maintenance 7"
        await channel.query.ListDomains(q.ListDomainsRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await read(channel.job.StartDomain(j.StartDomainRequest(domain=domain(2), options=t.JobOptions(request_id="mine"))))
        await read(channel.job.SuspendDomain(j.SuspendDomainRequest(domain=domain(2))))
        assert job.job_id not in [line.get("job_id") for line in audited.lines]
        await channel.job.CancelJob(j.CancelJobRequest(job_id=job.job_id), metadata=WHY)
        saved = await asyncio.to_thread(audited.wait_for, job_id=job.job_id, event="job")
        assert (saved["rpc"], saved["outcome"], saved["job_state"], saved["cancel_reason"]) == (
            "ManagedSaveDomain",
            "CANCELLED",
            "cancelled",
            "requested",
        )
        assert (saved["caller"], saved["way"], saved["host"], saved["domain"], saved["reason"]) == (
            "unix",
            "unix",
            "sim",
            "guest-1",
            "maintenance 7",
        )
        cancel = await asyncio.to_thread(audited.wait_for, rpc="CancelJob")
        assert (cancel["event"], cancel["outcome"], cancel["job_id"], cancel["domain"]) == ("call", "OK", job.job_id, "guest-1")
        refused = await asyncio.to_thread(audited.wait_for, rpc="StartDomain")
        assert (refused["event"], refused["outcome"], refused["request_id"], refused["domain"]) == ("call", "WRONG_STATE", "mine", "guest-2")
        await asyncio.to_thread(audited.wait_for, rpc="SuspendDomain", outcome="OK", event="job")
    assert len(audited.lines) == 4
    assert stat.S_IMODE(audited.log.stat().st_mode) == 0o600


async def test_who_began_a_job_is_known_after_a_kill(audited: Audited) -> None:
    """A job that ran when the server was killed has its line once the next one has ended it, with its caller and the reason."""
    async with audited.server.channel() as channel:
        job = await begun(channel, 1)
    audited.server.send(signal.SIGKILL)
    audited.server.wait()
    assert audited.log.read_text() == ""
    audited.server.start()
    line = await asyncio.to_thread(audited.wait_for, job_id=job.job_id)
    assert (line["event"], line["rpc"], line["caller"], line["reason"]) == ("job", "ManagedSaveDomain", "unix", "maintenance 7")
    assert line["job_state"] in ("interrupted", "outcome_unknown")


async def test_denials(tmp_path: Path) -> None:
    """A flood of reads beyond the limit is one line, and another with their number; it fills no disk."""
    audited = Audited(tmp_path, limits="calls_per_second=0.001 burst=20")
    with audited.server:
        async with audited.server.channel() as channel:
            calls = [channel.query.ListHosts(q.ListHostsRequest()) for _ in range(300)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        first = await asyncio.to_thread(audited.wait_for, rpc="ListHosts", event="denied", outcome="RATE_LIMITED")
        assert first["details"] == {"limit": "0.001"}
        audited.server.stop()
        assert sum(1 + line.get("repeats", 0) for line in audited.lines[:1]) + audited.lines[1]["repeats"] == len(refused)
        assert len(audited.lines) == 2


async def test_nothing_is_changed_without_it(tmp_path: Path) -> None:
    """With audit_required a full disk has verbs refused, and queries answered."""
    audited = Audited(tmp_path, audit_required=True)
    with audited.server as server:
        server.wait_live()
        async with server.channel() as channel:
            await read(channel.job.SuspendDomain(j.SuspendDomainRequest(domain=domain(1))))
            await asyncio.to_thread(audited.wait_for, rpc="SuspendDomain")
            audited.log.unlink()
            audited.log.mkdir()
            await read(channel.job.ResumeDomain(j.ResumeDomainRequest(domain=domain(1))))

            async def refused() -> bool:
                try:
                    await read(channel.job.SuspendDomain(j.SuspendDomainRequest(domain=domain(2))))
                except grpc.aio.AioRpcError as error:
                    return error.code() is grpc.StatusCode.FAILED_PRECONDITION and "audit log" in (error.details() or "")
                await read(channel.job.ResumeDomain(j.ResumeDomainRequest(domain=domain(2))))
                return False

            async with asyncio.timeout(GUARD):
                while not await refused():
                    pass
            assert (await channel.query.GetDomain(q.GetDomainRequest(domain=domain(2)))).domain.name == "guest-2"
            audited.log.rmdir()
            await asyncio.to_thread(audited.wait_for, rpc="ResumeDomain", domain="guest-1")
