"""How a server refuses: any RPC called by its name on a bare channel, and everything that the refusal carried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tests.e2e.server import GUARD, Channel
from virtrpc.errors import from_status
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc_server import contract

METHODS = {method.name: method for method in contract.METHODS}
INTERNALS = (
    "Traceback",
    'File "',
    ".py",
    "virtrpc_",
    "virtrpc.v1",
    "site-packages",
    "Exception",
    "<class",
    "object at 0x",
    "self.",
    "NoneType",
    "asyncio",
)
"""What only comes out of a program's inside."""


@dataclass(frozen=True)
class Refused:
    """A refusal as it came over the wire."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str]
    accepted: bool
    """A job had been made before: initial metadata carried its id."""
    raw: str
    """All that was sent, trailers included, as text."""

    def assert_clean(self, *more: str) -> None:
        """Nothing internal, and nothing of `more`, is in any part of it."""
        for text in (*INTERNALS, *more):
            assert text not in self.raw, self


async def refused(channel: Channel, rpc: str, request: Message | bytes) -> Refused:
    """Call an RPC by its name, with a message or with any bytes; fails where it is not refused."""
    call = start(channel, rpc, request)
    try:
        await _drained(call)
    except grpc.aio.AioRpcError as error:
        known = from_status(error.code(), error.details() or "", error.trailing_metadata())
        initial = dict(await call.initial_metadata() or ())
        raw = f"{error.details()}\n{known.metadata}\n" + "\n".join(
            f"{key}: {value.decode(errors='replace') if isinstance(value, bytes) else value}" for key, value in error.trailing_metadata() or ()
        )
        return Refused(known.code, known.reason, known.message, known.metadata, "virtrpc-job-id" in initial, raw)
    pytest.fail(f"{rpc} was not refused")


def start(channel: Channel, rpc: str, request: Message | bytes) -> Any:
    """A call of an RPC by its name, without the generated stub, so that anything can be sent."""
    method = METHODS[rpc]
    path = f"/{method.containing_service.full_name}/{rpc}"
    open_call: Any = channel.channel.unary_stream if method.server_streaming else channel.channel.unary_unary
    body = request if isinstance(request, bytes) else request.SerializeToString()
    return open_call(path)(body, timeout=GUARD)


async def _drained(call: Any) -> None:
    if isinstance(call, grpc.aio.UnaryUnaryCall):
        await call
        return
    async for _ in call:
        pass


async def shape_of(channel: Channel) -> tuple[Any, ...]:
    """All that a refused request must not change: which jobs there are, and every domain with its state, definition and image."""
    jobs = [job.job_id for job in (await channel.job.ListJobs(j.ListJobsRequest(page_size=1000))).jobs]
    domains = (await channel.query.ListDomains(q.ListDomainsRequest(page_size=1000))).domains
    return jobs, [
        (domain.host, domain.uuid, domain.name, domain.generation, domain.state, domain.state_reason, domain.memory_bytes, domain.has_managed_save)
        for domain in domains
    ]
