"""Both clients: one table of methods over the whole contract, lists in pages, and the blocking one without a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import virtrpc.silence
from tests.clients.fake import IDENTITY, MODULES, WEB, Context, Fake, accepted, in_turn, job, refuse, then
from virtrpc import AsyncClient, Client, errors
from virtrpc.methods import Methods
from virtrpc.table import Lister, Pieces, Read, Verb, Watcher
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

RUNNING, SUCCEEDED = t.JOB_STATE_RUNNING, t.JOB_STATE_SUCCEEDED

ROWS = (Read, Lister, Verb, Watcher, Pieces)


def test_the_table_has_every_rpc() -> None:
    """Each RPC of the contract has a method, of the right sort; WatchJob is `watch_job` of both clients."""
    rows = {row.rpc.name: row for row in vars(Methods).values() if isinstance(row, ROWS)}
    contract: dict[str, Any] = {
        f"{service.name}/{method.name}": method
        for module, _ in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert rows.keys() == contract.keys() - {"JobService/WatchJob"}
    for name, row in rows.items():
        assert row.rpc.answer.DESCRIPTOR is contract[name].output_type
        assert isinstance(row, (Verb, Watcher, Pieces)) == contract[name].server_streaming
        assert isinstance(row, Lister) == ("page_token" in contract[name].input_type.fields_by_name)


@pytest.mark.parametrize("row", [row for row in vars(Methods).values() if isinstance(row, ROWS)], ids=lambda row: row.name)
def test_each_row_makes_its_own_request(row: Any) -> None:
    """A row's maker gives the request that its RPC takes, with the domain first where the request names one."""
    contract = {method.name: method for module, _ in MODULES for service in module.DESCRIPTOR.services_by_name.values() for method in service.methods}
    wanted = contract[row.rpc.name.rpartition("/")[2]].input_type
    takes_domain = "domain" in wanted.fields_by_name and row.name != "get_domain_by_id"
    request = row.make(WEB) if takes_domain else row.make()
    assert request.DESCRIPTOR is wanted
    assert not takes_domain or request.domain == t.DomainRef(host="local", uuid=WEB.uuid)


def test_both_clients_have_the_same_names() -> None:
    """What one client can do, the other can."""
    assert {name for name in dir(AsyncClient) if not name.startswith("_")} == {name for name in dir(Client) if not name.startswith("_")}


@pytest.mark.parametrize("domain", ["web", "local/web", WEB, IDENTITY, t.DomainRef(name="web")])
async def test_a_domain_may_be_given_in_any_form(fake: Fake, client: AsyncClient, domain: Any) -> None:
    """Names, messages of earlier answers and references are all taken, and the answer's one message is given."""
    fake.on["GetDomain"] = lambda *_: q.GetDomainResponse(domain=WEB)
    assert await client.get_domain(domain) == WEB
    assert fake.asked("GetDomain")[0].domain.WhichOneof("ref")


async def test_lists_are_asked_for_page_by_page(fake: Fake, client: AsyncClient) -> None:
    """Iterating a list asks for the next page when it is needed, with the same filter, and knows the hosts that are not live."""
    down = t.UnreachableHost(host="b")
    pages = {"": q.ListDomainsResponse(domains=[WEB], next_page_token="2", unreachable=[down]), "2": q.ListDomainsResponse(domains=[WEB])}
    fake.on["ListDomains"] = lambda request, _: pages[request.page_token]
    listing = client.list_domains(filter=t.DomainFilter(active=True))
    entries = aiter(listing)
    assert await anext(entries) == WEB
    assert len(fake.calls) == 1
    assert list(listing.unreachable) == [down]
    assert [entry async for entry in entries] == [WEB]
    assert [request.filter.active for request in fake.asked("ListDomains")] == [True, True]


async def test_a_list_as_one_answer(fake: Fake, client: AsyncClient) -> None:
    """`merged` adds up the entries of all pages, and takes the rest from the last."""
    pages = {
        "": q.ListDomainsResponse(domains=[WEB], next_page_token="2", unreachable=[t.UnreachableHost(host="b")]),
        "2": q.ListDomainsResponse(domains=[WEB], unreachable=[t.UnreachableHost(host="c")]),
    }
    fake.on["ListDomains"] = lambda request, _: pages[request.page_token]
    whole = await client.list_domains().merged()
    assert (len(whole.domains), [host.host for host in whole.unreachable], whole.next_page_token) == (2, ["c"], "")


async def test_reads_have_a_deadline(fake: Fake, client: AsyncClient) -> None:
    """A read that is not answered in time ends with DeadlineExceeded."""

    async def never(*_: Any) -> q.GetDomainResponse:
        await asyncio.Event().wait()
        return q.GetDomainResponse()

    fake.on["GetDomain"] = never
    with pytest.raises(errors.DeadlineExceeded):
        await client.within(timeout=0.2).get_domain("web")


async def test_a_read_is_repeated_where_the_server_is_just_away(fake: Fake, client: AsyncClient) -> None:
    """UNAVAILABLE of a read is tried again by the channel."""
    fake.on["GetDomain"] = in_turn(away, lambda *_: q.GetDomainResponse(domain=WEB))
    assert await client.get_domain("web") == WEB


def test_the_blocking_client_reads(fake_apart: Fake, blocking: Client) -> None:
    """Reads and lists of the blocking client give what the asynchronous ones give."""
    fake_apart.on["GetDomain"] = lambda *_: q.GetDomainResponse(domain=WEB)
    fake_apart.on["ListDomains"] = lambda *_: q.ListDomainsResponse(domains=[WEB])
    assert blocking.get_domain("web") == WEB
    assert list(blocking.list_domains()) == blocking.list_domains().all() == [WEB]
    assert [len(page.domains) for page in blocking.list_domains().pages()] == [1]


def test_the_blocking_client_raises_the_same_errors(fake_apart: Fake, blocking: Client) -> None:
    """Errors of the blocking client have the same classes and metadata."""
    fake_apart.on["GetDomain"] = lambda _, context: refuse(context, grpc.StatusCode.NOT_FOUND, "DOMAIN_NOT_FOUND", "no", {"domain": "web"})
    with pytest.raises(errors.NotFound) as caught:
        blocking.get_domain("web")
    assert caught.value.metadata == {"domain": "web"}


def test_the_blocking_client_follows_a_job(fake_apart: Fake, blocking: Client) -> None:
    """A blocking handle gives every state, attaches again after a broken stream, and never sends the verb twice."""

    async def broken(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context)
        yield t.JobUpdate(job=job(RUNNING, 1))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    fake_apart.on["ManagedSaveDomain"] = broken
    fake_apart.on["WatchJob"] = then(job(RUNNING, 1), job(SUCCEEDED, 2))
    handle = blocking.managed_save_domain("web")
    assert [seen.revision for seen in handle] == [1, 2]
    assert handle.done
    assert handle.wait() == handle.job
    assert len(fake_apart.asked("ManagedSaveDomain")) == 1


def test_a_blocking_wait_raises(fake_apart: Fake, blocking: Client) -> None:
    """A failed job is raised by the blocking `wait`, and by that of a stranger's handle."""
    failed = job(t.JOB_STATE_FAILED, 1, error=t.JobError(code=9, reason="OPERATION_FAILED", message="no space"))
    fake_apart.on |= {"StartDomain": then(failed), "WatchJob": then(failed)}
    with pytest.raises(errors.OperationFailed, match="no space"):
        blocking.start_domain("web").wait()
    with pytest.raises(errors.OperationFailed):
        blocking.watch_job("job-1").wait()


def test_a_blocking_handle_can_be_closed_from_another_thread(fake_apart: Fake, blocking: Client) -> None:
    """`close` ends an iteration that blocks in another thread, and `cancel` is answered meanwhile."""
    fake_apart.on["ManagedSaveDomain"] = endless_job
    fake_apart.on["CancelJob"] = lambda *_: j.CancelJobResponse(outcome=j.CANCEL_OUTCOME_ABORTING)
    handle = blocking.managed_save_domain("web")
    seen = iter(handle)
    assert next(seen).state == RUNNING
    assert handle.cancel().outcome == j.CANCEL_OUTCOME_ABORTING
    closing = threading.Thread(target=handle.close)
    closing.start()
    assert list(seen) == []
    closing.join()


def test_a_blocking_watch_resumes(fake_apart: Fake, blocking: Client) -> None:
    """A blocking watch goes on after its call has ended."""

    async def one(request: q.WatchDomainsRequest, context: Context) -> AsyncIterator[q.WatchDomainsResponse]:
        yield q.WatchDomainsResponse(resume_token=f"{request.resume_token}+")

    fake_apart.on["WatchDomains"] = one
    tokens = []
    for batch in blocking.watch_domains():
        tokens.append(batch.resume_token)
        if len(tokens) == 3:
            break
    assert tokens == ["+", "++", "+++"]


def test_a_blocking_watch_notices_silence(fake_apart: Fake, blocking: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even heartbeats come, a blocking watch is opened again with the last token."""
    monkeypatch.setattr(virtrpc.silence, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(virtrpc.silence, "LEAST_SECONDS", 0.1)

    async def silent(request: q.WatchDomainsRequest, _: Context) -> AsyncIterator[q.WatchDomainsResponse]:
        yield q.WatchDomainsResponse(resume_token=f"{request.resume_token}+")
        await asyncio.Event().wait()

    fake_apart.on["WatchDomains"] = silent
    batches = iter(blocking.watch_domains())
    assert [next(batches).resume_token for _ in range(2)] == ["+", "++"]


async def away(_: Any, context: Context) -> None:
    """A server that has just gone."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "going")


async def endless_job(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
    """A job that runs for ever."""
    await accepted(context)
    yield t.JobUpdate(job=job(RUNNING, 1))
    await asyncio.Event().wait()
