"""Bad input gets a precise status and changes nothing; nothing internal ever reaches a client. On simulated hosts, libvirt's mock and QEMU."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from tests.e2e.bad_input import EVERY, MOCK, OFF, RUNNING, Bad
from tests.e2e.refusals import INTERNALS, METHODS, refused, shape_of
from tests.e2e.server import Channel, Server
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

M = TypeVar("M", bound=Message)
CODES = {
    **dict.fromkeys(
        ["INVALID_ARGUMENT", "XML_INVALID", "XML_TOO_LARGE", "MIGRATION_TARGET_NOT_ALLOWED", "PAGE_TOKEN_INVALID"], grpc.StatusCode.INVALID_ARGUMENT
    ),
    **dict.fromkeys(
        ["DOMAIN_NOT_FOUND", "HOST_NOT_CONFIGURED", "SNAPSHOT_NOT_FOUND", "DEVICE_NOT_FOUND", "JOB_NOT_FOUND"], grpc.StatusCode.NOT_FOUND
    ),
    **dict.fromkeys(["HOST_UNREACHABLE", "AMBIGUOUS_NAME", "WRONG_STATE", "UNSUPPORTED_BY_HYPERVISOR"], grpc.StatusCode.FAILED_PRECONDITION),
}
SECRETS = ("secret-word", "root:x:0:0")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two simulated hosts whose domains have the same names, libvirt's mock, and a host that was never reached."""
    never = "qemu+tcp://127.0.0.1:1/system"
    with Server({"sim": "sim:///", "twin": "sim://twin/?seed=7", "mock": "test:///default", "never": never}, path_roots=["/srv/allowed"]) as server:
        server.wait_live("sim", "twin", "mock")
        yield server
        # Whatever was sent, none of it was a surprise.
        assert "Traceback" not in server.log


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[Channel]:
    """A bare channel to it."""
    async with server.channel() as channel:
        yield channel


@pytest.mark.parametrize("bad", EVERY, ids=lambda bad: f"{bad.rpc}: {bad.name}")
async def test_refused_before_a_job_is_made(channel: Channel, bad: Bad) -> None:
    """Each is refused with its own code, reason, words and metadata; no job was made and no domain differs from before."""
    before = await shape_of(channel)
    error = await refused(channel, bad.rpc, bad.request)
    assert (error.code, error.reason) == (CODES[bad.reason], bad.reason), error
    assert not error.accepted
    assert all(word in error.message for word in bad.words), error
    assert error.metadata.items() >= bad.pairs.items()
    error.assert_clean(*SECRETS)
    assert await shape_of(channel) == before


async def test_a_page_token_from_elsewhere(channel: Channel) -> None:
    """A token of another list, of another filter, changed by one character, or made up is PAGE_TOKEN_INVALID; the real one goes on."""
    first = await channel.query.ListDomains(q.ListDomainsRequest(page_size=1))
    token = first.next_page_token
    assert (await channel.query.ListDomains(q.ListDomainsRequest(page_size=1, page_token=token))).domains[0].name != first.domains[0].name
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for rpc, request in (
        ("ListJobs", j.ListJobsRequest(page_token=token)),
        ("ListDomainStats", q.ListDomainStatsRequest(page_token=token)),
        ("ListHosts", q.ListHostsRequest(page_token=token)),
        ("ListSnapshots", s.ListSnapshotsRequest(domain=MOCK, page_token=token)),
        ("ListDomains", q.ListDomainsRequest(page_token=token, filter=t.DomainFilter(hosts=["sim"]))),
        *(("ListDomains", q.ListDomainsRequest(page_token=wrong)) for wrong in (changed, "made up", "%", "é", "A" * 100_000)),
    ):
        error = await refused(channel, rpc, request)
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"), (rpc, error)
        error.assert_clean()


async def test_a_resume_token_from_elsewhere(channel: Channel) -> None:
    """A watch refuses a token that is not of its kind, its filter, or any at all; one of an earlier life of the server would be a reset."""
    stream = channel.query.WatchDomains(q.WatchDomainsRequest())
    token = (await anext(aiter(stream))).resume_token
    stream.cancel()
    for rpc, request in (
        ("WatchJobs", j.WatchJobsRequest(resume_token=token)),
        ("WatchDomains", q.WatchDomainsRequest(resume_token=token, filter=t.DomainFilter(hosts=["sim"]))),
        ("WatchDomains", q.WatchDomainsRequest(resume_token="made up")),
    ):
        error = await refused(channel, rpc, request)
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID"), (rpc, error)
        error.assert_clean()


@pytest.mark.parametrize("rpc", METHODS)
async def test_bytes_that_are_no_message(channel: Channel, rpc: str) -> None:
    """Garbage and a cut message are INVALID_ARGUMENT at every RPC, without a word of the parser's."""
    before = await shape_of(channel)
    for garbage in (b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"garbage\x00\xff"):
        error = await refused(channel, rpc, garbage)
        assert error.code == grpc.StatusCode.INVALID_ARGUMENT, (garbage, error)
        error.assert_clean("DecodeError", "utf-8", "Error parsing")
    assert await shape_of(channel) == before


async def test_text_that_is_not_utf8(channel: Channel) -> None:
    """A name that is not UTF-8 is INVALID_ARGUMENT, and is not sent back."""
    for rpc, request in (("GetJob", b"\x0a\x02\xff\xfe"), ("GetDomain", b"\x0a\x04\x1a\x02\xff\xfe"), ("SuspendDomain", b"\x0a\x04\x1a\x02\xff\xfe")):
        error = await refused(channel, rpc, request)
        assert error.code == grpc.StatusCode.INVALID_ARGUMENT, (rpc, error)
        error.assert_clean("DecodeError", "utf-8", "Error parsing")


async def test_a_host_that_cannot_be_reached_says_why(channel: Channel) -> None:
    """Lists name the host that was never reached, with a reason and libvirt's words, and nothing of our own inside."""
    (host,) = (await channel.query.ListDomains(q.ListDomainsRequest())).unreachable
    assert (host.host, host.freshness, host.reason) == ("never", t.FRESHNESS_UNKNOWN, "HOST_UNREACHABLE")
    assert "127.0.0.1" in host.message
    assert not any(text in host.message for text in INTERNALS)


async def test_unknown_methods(channel: Channel) -> None:
    """A method or a service that the server lacks is UNIMPLEMENTED."""
    for path in ("/virtrpc.v1.JobService/FlyToTheMoon", "/virtrpc.v9.JobService/StartDomain"):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await bare(channel, path)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def bare(channel: Channel, path: str) -> None:
    """Call what no stub knows."""
    call: Any = channel.channel.unary_unary(path)
    await call(b"")


async def test_a_huge_message(channel: Channel) -> None:
    """A message above the server's limit is refused by the transport, for a read and for a verb, and the same channel goes on."""
    huge = "x" * (9 << 20)
    for rpc, request in (
        ("GetDomain", q.GetDomainRequest(domain=t.DomainRef(name=huge))),
        ("DefineDomain", j.DefineDomainRequest(host="sim", xml=huge)),
    ):
        error = await refused(channel, rpc, request)
        assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        error.assert_clean()
    assert (await channel.query.GetDomain(q.GetDomainRequest(domain=RUNNING))).domain.name == "guest-1"


@pytest.mark.parametrize(
    "name", ["x" * 100_000, "new\nline", "quote'\"", "é" * 5000, "../../etc/passwd", "%s %n {0}"], ids=lambda name: ascii(name)[:20]
)
async def test_odd_names(channel: Channel, name: str) -> None:
    """Names of any length and content are looked up like others: NOT_FOUND, in a status that fits into trailers."""
    error = await refused(channel, "GetDomain", q.GetDomainRequest(domain=t.DomainRef(host="sim", name=name)))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "DOMAIN_NOT_FOUND")
    error.assert_clean()


async def test_unknown_enum_values_are_tolerated(channel: Channel) -> None:
    """A value of a newer contract counts as unspecified: filters match nothing by it, verbs run as by default, and nothing breaks."""
    listed = await channel.query.ListDomains(q.ListDomainsRequest(filter=_with(t.DomainFilter(hosts=["sim"]), "states", 99)))
    assert listed.domains == []
    stats = await channel.query.ListDomainStats(_with(q.ListDomainStatsRequest(filter=t.DomainFilter(hosts=["sim"])), "groups", 99))
    assert stats.stats[0].HasField("memory")
    request = j.SetMemoryRequest(domain=OFF, memory_bytes=1 << 29, scope=77, options=t.JobOptions(on_disconnect=88))  # type: ignore[arg-type]
    jobs = [update.job async for update in channel.job.SetMemory(request)]
    assert jobs[-1].state == t.JOB_STATE_SUCCEEDED


def _with(message: M, field: str, number: int) -> M:
    """The message with a number added to a repeated enum, which the generated types would not take."""
    tag = message.DESCRIPTOR.fields_by_name[field].number << 3
    return type(message).FromString(message.SerializeToString() + bytes([tag, number]))


async def test_a_request_id_of_another_request(channel: Channel) -> None:
    """The same request_id with another request is REQUEST_ID_REUSED, with the job that it belongs to."""
    options = t.JobOptions(request_id="once")
    (job_id,) = {update.job.job_id async for update in channel.job.SuspendDomain(j.SuspendDomainRequest(domain=RUNNING, options=options))}
    error = await refused(channel, "ResumeDomain", j.ResumeDomainRequest(domain=RUNNING, options=options))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert error.metadata["job_id"] == job_id
    async for _ in channel.job.ResumeDomain(j.ResumeDomainRequest(domain=RUNNING)):
        pass


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("RevertToSnapshot", j.RevertToSnapshotRequest(domain=MOCK, name="never-taken")),
        ("DeleteSnapshot", s.DeleteSnapshotRequest(domain=MOCK, name="never-taken")),
    ],
    ids=["revert", "delete"],
)
async def test_a_verb_on_an_unknown_snapshot(channel: Channel, rpc: str, request_: Message) -> None:
    """Only the hypervisor knows its snapshots: the job ends NOT_FOUND with the name, and changes nothing."""
    _, domains = await shape_of(channel)
    error = await refused(channel, rpc, request_)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND")
    assert "never-taken" in error.message
    error.assert_clean()
    assert (await shape_of(channel))[1] == domains


async def test_many_at_once_leave_the_server_whole(channel: Channel) -> None:
    """All bad requests at the same time are refused as they are one by one."""
    errors = await asyncio.gather(*(refused(channel, bad.rpc, bad.request) for bad in EVERY))
    assert [error.reason for error in errors] == [bad.reason for bad in EVERY]
