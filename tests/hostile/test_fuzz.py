"""Whatever bytes any RPC is sent, on simulated hosts and on libvirt's own test driver: no fault of the server's, and it lives.

VIRTRPC_FUZZ_EXAMPLES says how many batches are sent (`make fuzz`: many), each of up to 40 requests at once; what failed is made smaller and shown.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.e2e.refusals import METHODS, start
from tests.e2e.server import Channel, Server
from tests.hostile.messages import request
from virtrpc.errors import from_status
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

EXAMPLES = int(os.environ.get("VIRTRPC_FUZZ_EXAMPLES", "8"))
SECONDS = 0.3
"""How long a stream is read: a watch has no end."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two hosts; file paths are allowed where there is nothing. No job runs for long."""
    with Server({"sim": "sim:///?domains=4&running=2", "mock": "test:///default"}, path_roots=["/srv/allowed"], drain_timeout=0) as server:
        server.wait_live()
        yield server


async def answer(channel: Channel, rpc: str, raw: bytes) -> str:
    """What is wrong with how an RPC was answered; empty where nothing is."""
    call: Any = start(channel, rpc, raw)
    try:
        async with asyncio.timeout(SECONDS):
            if METHODS[rpc].server_streaming:
                async for update in call:
                    problem = fault_of(update)
                    if problem:
                        return f"{rpc}: {problem}"
            else:
                await call
    except TimeoutError:
        call.cancel()
    except grpc.aio.AioRpcError as error:
        known = from_status(error.code(), error.details() or "", error.trailing_metadata())
        if known.code is grpc.StatusCode.INTERNAL or (known.code is grpc.StatusCode.UNKNOWN and not known.reason):
            return f"{rpc}: {known.code.name} {known.reason}: {known.message}"
    return ""


def fault_of(update: bytes) -> str:
    """The fault of this server's that a job has ended with."""
    try:
        job = t.JobUpdate.FromString(update).job
    except Exception:  # noqa: BLE001 # of another stream than a verb's
        return ""
    return f"job {job.error.message}" if job.error.reason == "INTERNAL" else ""


@settings(
    max_examples=EXAMPLES,
    derandomize="VIRTRPC_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(requests=st.lists(request(), min_size=20, max_size=40))
def test_any_request(server: Server, requests: list[tuple[str, bytes]]) -> None:
    """Nothing is INTERNAL or UNKNOWN without a reason, no job ends by a fault of the server's, none is logged, and queries go on."""

    async def send() -> list[str]:
        async with server.channel() as channel:
            found = await asyncio.gather(*(answer(channel, rpc, raw) for rpc, raw in requests))
            assert (await channel.query.ListHosts(q.ListHostsRequest(), timeout=30)).hosts
            return [problem for problem in found if problem]

    assert asyncio.run(send()) == []
    assert "Traceback" not in server.log
    assert "error_id" not in server.log
