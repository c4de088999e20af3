"""All that a server sends by OTLP, as a collector gets it; and a collector that is not there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.beds.collector import Collector, collector
from tests.beds.wait import wait_until
from tests.e2e.server import Server, ended
from virtrpc.errors import NotFound, VirtrpcError
from virtrpc.v1 import types_pb2 as t

HOSTS = {"try": "sim://try/?domains=2&running=2&save_seconds=0.1"}
ALL = ("--tracing", "otlp", "--metrics", "otlp", "--metrics-seconds", "0.3", "--log-otlp", "--log-level", "DEBUG", "--otlp-endpoint")
SAVE = "virtrpc.v1.JobService/ManagedSaveDomain"
GUARD = 60.0


@pytest.fixture(scope="module")
def kept() -> Iterator[Collector]:
    """What the server has sent."""
    with collector() as kept:
        yield kept


@pytest.fixture(scope="module")
def server(kept: Collector) -> Iterator[Server]:
    """A server that sends all that it can."""
    with Server(HOSTS, *ALL, kept.address) as server:
        server.wait_live()
        yield server


async def test_a_managed_save_as_the_collector_sees_it(server: Server, kept: Collector) -> None:
    """The trace, the RPC and the job among the metrics, and the server's log with the trace's id."""
    async with server.client() as client:
        assert (await ended(client.managed_save_domain("guest-1"))).state == t.JOB_STATE_SUCCEEDED
        with pytest.raises(NotFound):
            await client.get_domain("nobody")
    spans = await asyncio.to_thread(kept.trace, SAVE, "job ManagedSave", "sim ManagedSave", of=lambda span: span.name == SAVE)
    assert len({span.trace for span in spans}) == 1

    def counted() -> bool:
        call = kept.value("rpc.server.call.duration", **{"rpc.method": SAVE, "rpc.response.status_code": "OK"})
        job = kept.value("virtrpc.job.duration", kind="ManagedSave", outcome="succeeded")
        return call is not None and call.count == 1 and job is not None and job.count == 1 and job.sum > 0

    def sampled() -> bool:
        cpu = kept.value("libvirt_domain_info_cpu_time_seconds_total", domain="guest-2", host="try")
        return cpu is not None and cpu.as_double > 0

    await asyncio.to_thread(wait_until, counted, "the save among the metrics", GUARD)
    await asyncio.to_thread(wait_until, sampled, "the guest's statistics among the metrics", GUARD)
    assert kept.value("virtrpc.host.connected", host="try").as_int == 1
    assert {resource["service.name"] for resource in kept.resources} == {"virtrpcd"}
    assert len({resource["service.instance.id"] for resource in kept.resources}) == 1


async def test_the_log_comes_with_its_trace(server: Server, kept: Collector) -> None:
    """An entry has its level and logger's text, and the trace of the RPC that wrote it, as the caller called it."""
    trace = "d" * 32
    async with server.channel() as channel:
        method: Any = channel.channel.unary_unary("/virtrpc.v1.QueryService/GetDomain")
        malformed = method(b"\xff", metadata=(("traceparent", f"00-{trace}-{'1' * 16}-01"),))
        assert (await malformed.code()).name == "INVALID_ARGUMENT"

    def entry() -> bool:
        return any("malformed" in entry.text and entry.trace == trace and entry.level == "INFO" for entry in list(kept.logs))

    await asyncio.to_thread(wait_until, entry, "the entry of a malformed request", GUARD)


async def test_no_secret_is_sent(server: Server, kept: Collector) -> None:
    """A guest's new password is in no span, no entry of the log and no metric, whether or not the job does well; nor is a wrong one's request."""
    secret = "correct horse battery"
    async with server.client() as client:
        await ended(client.set_user_password("guest-2", user="root", password=secret))
        with pytest.raises(VirtrpcError):
            await client.set_user_password("guest-2", user="\0", password=secret)
    await asyncio.to_thread(kept.trace, "job SetUserPassword", of=lambda span: span.name == "job SetUserPassword")
    await asyncio.to_thread(
        wait_until, lambda: kept.value("virtrpc.job.duration", kind="SetUserPassword") is not None, "the job among the metrics", GUARD
    )
    assert "horse" not in repr((kept.spans, kept.logs, kept.metrics, kept.resources))
    assert "horse" not in server.log


def test_a_collector_that_is_not_there_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where all is to be sent: jobs run, queries answer, the log says so and is not filled, and the server ends in good order."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with Server(HOSTS, *ALL, f"http://127.0.0.1:{taken.getsockname()[1]}") as server:
            server.wait_live()
            with server.blocking() as client:
                assert client.managed_save_domain("guest-1").wait().state == t.JOB_STATE_SUCCEEDED
                for _ in range(200):
                    client.get_domain("guest-2")
                wait_until(lambda: "Failed to export" in server.log, "the first complaint", GUARD)
                assert client.get_domain("guest-2").name == "guest-2"
            assert server.log.count("Failed to export") <= 3
            assert server.log.count("Transient error") <= 3
            server.assert_no_fault_of_its_own()
