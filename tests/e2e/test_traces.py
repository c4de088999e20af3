"""One trace of a whole job, as a collector gets it from a real server and its driver process: who waited, for what, and what was called."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from tests.beds.collector import Collector, Span, collector
from tests.e2e.server import Server
from virtrpc.errors import Cancelled
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAVE = "virtrpc.v1.JobService/ManagedSaveDomain"
GUARD = 60.0


@pytest.fixture(scope="module")
def kept() -> Iterator[Collector]:
    """What the server has sent."""
    with collector() as kept:
        yield kept


@pytest.fixture(scope="module")
def server(kept: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that records what its callers record, and nothing else; its log is JSON."""
    flags = ("--tracing", "otlp", "--tracing-endpoint", kept.address, "--tracing-ratio", "0", "--log-format", "json", "--log-level", "DEBUG")
    with Server({"try": "sim://try/?domains=4&running=3&save_seconds=1.5"}, *flags) as server:
        server.wait_live()
        yield server


def metadata(trace: str, flags: str = "01") -> tuple[tuple[str, str], ...]:
    """The headers of a caller with a trace."""
    return (("traceparent", f"00-{trace}-{PARENT}-{flags}"),)


def name_of(number: int) -> t.DomainRef:
    """A domain by name."""
    return t.DomainRef(name=f"guest-{number}")


def only(spans: list[Span], name: str) -> Span:
    """The only span with a name."""
    (span,) = [span for span in spans if span.name == name]
    return span


async def updates(call: Any) -> list[t.Job]:
    """A verb's job each time it was told, to its end, however that was."""
    jobs: list[t.Job] = []
    try:
        async with asyncio.timeout(GUARD):
            async for update in call:
                jobs.append(update.job)  # noqa: PERF401 # what came before an error counts
    except grpc.aio.AioRpcError:
        pass  # as the job failed
    return jobs


async def found(kept: Collector, trace: str, *names: str) -> list[Span]:
    """A trace, once it has spans with these names."""
    return await asyncio.to_thread(kept.trace, *names, of=lambda span: span.trace == trace)


async def test_one_trace_has_the_rpc_the_wait_and_each_call(server: Server, kept: Collector) -> None:
    """A managed save behind another job: RPC, job, the wait for the condition, the driver process's call and the reading after it, with their ids."""
    async with server.channel() as channel:
        first = channel.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=name_of(1)))
        await first.initial_metadata()
        second = channel.job.StartDomain(j.StartDomainRequest(domain=name_of(1)))
        await second.initial_metadata()
        jobs = await updates(channel.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=name_of(1)), metadata=metadata(CALLER)))
        await updates(second)
    assert jobs[-1].state == t.JOB_STATE_SUCCEEDED
    trace = await found(kept, CALLER, SAVE, "job ManagedSave", "sim ManagedSave", "refresh")
    rpc, job, called, refresh = (only(trace, name) for name in (SAVE, "job ManagedSave", "sim ManagedSave", "refresh"))
    waits = [span for span in trace if span.name == "wait for condition"]
    assert (rpc.parent, job.parent) == (PARENT, rpc.id)
    assert {span.parent for span in (*waits, called, refresh, only(trace, "wait for daemon_budget"))} == {job.id}
    assert max(span.end - span.begin for span in waits) > 100_000_000
    ids = {"virtrpc.job.id": jobs[-1].job_id, "virtrpc.host": "try", "virtrpc.domain.uuid": jobs[-1].domain.uuid}
    for span in (rpc, job, called):
        assert ids.items() <= span.attributes.items(), span
    assert rpc.attributes["virtrpc.domain.name"] == job.attributes["virtrpc.domain.name"] == "guest-1"
    assert (rpc.attributes["rpc.system.name"], rpc.attributes["rpc.method"], rpc.attributes["rpc.response.status_code"]) == ("grpc", SAVE, "OK")
    assert rpc.attributes["server.address"] == str(server.socket)
    assert job.attributes["virtrpc.job.state"] == "succeeded"
    assert all(not span.failed for span in trace)
    assert {resource["service.name"] for resource in kept.resources} == {"virtrpcd"}


async def test_a_job_whose_caller_has_left_goes_on_in_its_trace(server: Server, kept: Collector) -> None:
    """It was queued when its caller left; its call is in the caller's trace all the same, and so is its abort."""
    trace_id = "a" * 32
    async with server.client() as client, server.channel() as channel:
        held = await client.managed_save_domain("guest-2")
        started = await client.start_domain("guest-2")
        options = t.JobOptions(on_disconnect=t.ON_DISCONNECT_DETACH)
        call = channel.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=name_of(2), options=options), metadata=metadata(trace_id))
        job_id = dict(await call.initial_metadata())["virtrpc-job-id"]
        call.cancel()
        await held.wait()
        await started.wait()
        watch = client.watch_job(str(job_id))
        async for job in watch:
            if job.state == t.JOB_STATE_RUNNING and job.abortable:
                break
        await client.cancel_job(job_id=str(job_id))
        with pytest.raises(Cancelled):
            await watch.wait()
    trace = await found(kept, trace_id, SAVE, "job ManagedSave", "sim ManagedSave", "abort")
    rpc, work, called = (only(trace, name) for name in (SAVE, "job ManagedSave", "sim ManagedSave"))
    assert rpc.attributes["rpc.response.status_code"] == "CANCELLED"
    assert rpc.end < called.begin
    assert (work.attributes["virtrpc.job.state"], work.failed) == ("cancelled", "CANCELLED")
    assert only(trace, "abort").parent == work.id


async def test_a_slow_read_is_a_span(server: Server, kept: Collector) -> None:
    """ListSnapshots: what it asked of the hypervisor is below its RPC."""
    trace_id = "b" * 32
    async with server.channel() as channel:
        await channel.snapshot.ListSnapshots(s.ListSnapshotsRequest(domain=name_of(4)), metadata=metadata(trace_id))
    trace = await found(kept, trace_id, "virtrpc.v1.SnapshotService/ListSnapshots", "read")
    assert only(trace, "read").parent == only(trace, "virtrpc.v1.SnapshotService/ListSnapshots").id


async def test_who_does_not_record_is_not_recorded(server: Server, kept: Collector) -> None:
    """With flag 00, and without a header where the ratio is 0, nothing is sent; the log names the trace of who brought one."""
    trace_id = "c" * 32
    async with server.channel() as channel:
        await channel.query.GetDomain(q.GetDomainRequest(domain=name_of(4)), metadata=metadata(trace_id, "00"))
        await channel.query.GetDomain(q.GetDomainRequest(domain=name_of(4)))
        await channel.query.GetDomain(q.GetDomainRequest(domain=name_of(4)), metadata=metadata("d" * 32))
    await found(kept, "d" * 32, "virtrpc.v1.QueryService/GetDomain")
    assert {span.trace for span in kept.spans} <= {CALLER, "a" * 32, "b" * 32, "d" * 32}


async def test_the_python_clients_send_the_trace_that_they_are_in(server: Server, kept: Collector) -> None:
    """In a span of OpenTelemetry both clients' RPCs are below it; nobody has to hand anything on."""

    def blocking() -> None:
        with server.blocking() as client:
            client.get_host(host="try")

    with TracerProvider(shutdown_on_exit=False).get_tracer("caller").start_as_current_span("work") as span:
        async with server.client() as client:
            await client.get_domain("guest-4")
        await asyncio.to_thread(blocking)
    here = span.get_span_context()
    names = ("virtrpc.v1.QueryService/GetDomain", "virtrpc.v1.QueryService/GetHost")
    trace = await found(kept, format_trace_id(here.trace_id), *names)
    assert {only(trace, name).parent for name in names} == {format_span_id(here.span_id)}


async def test_the_command_line_goes_on_with_a_scripts_trace(server: Server, kept: Collector) -> None:
    """TRACEPARENT in its environment is its RPC's parent."""
    trace_id = "f" * 31 + "e"
    command = (sys.executable, "-c", "from virtrpc.cli.main import main; main()", "--address", server.address, "list")
    environment = {**os.environ, "TRACEPARENT": f"00-{trace_id}-{PARENT}-01"}
    run = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.DEVNULL)
    assert await run.wait() == 0
    trace = await found(kept, trace_id, "virtrpc.v1.QueryService/ListDomains")
    assert trace[0].parent == PARENT


async def test_the_log_is_json_and_names_trace_and_job(server: Server) -> None:
    """Each entry is an object on a line, the driver process's too; what a caller's RPC or job has written names its trace."""
    trace_id = "e" * 32
    async with server.channel() as channel:
        malformed: Any = channel.channel.unary_unary("/virtrpc.v1.QueryService/GetDomain")
        with pytest.raises(grpc.aio.AioRpcError):
            await malformed(b"\xff", metadata=metadata(trace_id, "00"))

    def entries() -> list[dict[str, str]]:
        return [json.loads(line) for line in server.log.splitlines()]

    (entry,) = [entry for entry in entries() if "malformed" in entry["message"]]
    assert (entry["trace_id"], entry["rpc"], entry["level"]) == (trace_id, "virtrpc.v1.QueryService/GetDomain", "INFO")
    assert all({"time", "level", "logger", "message"} <= entry.keys() for entry in entries())
    assert [entry for entry in entries() if entry.get("host") == "try"]
