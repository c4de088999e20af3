"""libvirt's client library crashes under a host's driver process: its jobs come to a definite end, and no other host notices.

An ESX host whose answers lack one element is enough: the library dereferences NULL. The simulator of tests/beds/esx.py can leave it out.
"""

from __future__ import annotations

import asyncio
import uuid as uuids
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.beds.esx import EsxHost, missing
from tests.e2e.behaviour import DETACHED, job_in, last
from tests.e2e.beside import calm_beside
from tests.e2e.server import Server, ended, eventually
from virtrpc import AsyncClient, AsyncJobHandle
from virtrpc.v1 import types_pb2 as t

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=missing() or "it can be built"),
]
POWER_ON = "PowerOnVM_Task"


@pytest.fixture(scope="module")
def esx() -> Iterator[EsxHost]:
    """An ESX host."""
    with EsxHost() as host:
        yield host


@pytest.fixture(scope="module")
def server(esx: EsxHost) -> Iterator[Server]:
    """A server with that host and a simulated one."""
    with Server({"esx": esx.uri, "calm": "sim:///?save_seconds=2"}) as started:
        started.wait_live()
        yield started


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with server.client() as client:
        yield client


@pytest.fixture
async def domain(esx: EsxHost, client: AsyncClient) -> AsyncIterator[str]:
    """A domain that is off; how requests name it."""
    uuid = str(uuids.uuid4())
    name = f"started-{uuid[:8]}"
    await ended(client.define_domain(host="esx", xml=esx.domain_xml(name, uuid)))
    yield f"esx/{uuid}"
    if (await client.get_domain(f"esx/{uuid}")).state == t.DOMAIN_STATE_PAUSED:
        await ended(client.resume_domain(f"esx/{uuid}"))  # libvirt's driver destroys what runs, and nothing else
    if (await client.get_domain(f"esx/{uuid}")).active:
        await ended(client.destroy_domain(f"esx/{uuid}"))
    await ended(client.undefine_domain(f"esx/{uuid}"))


@asynccontextmanager
async def start_that_hangs(esx: EsxHost, client: AsyncClient, domain: str, held: str) -> AsyncIterator[AsyncJobHandle]:
    """A start whose call is out, held at the ESX host."""
    with esx.held(held):
        start = await client.start_domain(domain, options=DETACHED)
        await job_in(client, start.job_id, t.JOB_STATE_RUNNING)
        await eventually(lambda: esx.holds(held) == 1, "the call to be held")
        yield start


async def crash(esx: EsxHost, client: AsyncClient) -> t.Job:
    """The driver process of the ESX host dies of a definition, and another one is LIVE: the final form of that definition's job."""
    before = (await client.get_host(host="esx")).driver_process
    with esx.without_mount_paths():
        uuid = str(uuids.uuid4())
        definition = await client.define_domain(host="esx", xml=esx.domain_xml(f"never-{uuid[:8]}", uuid), options=DETACHED)

        async def died() -> bool:
            return (await client.get_host(host="esx")).driver_process.restarts > before.restarts

        await eventually(died, "the driver process to die")

    async def back() -> bool:
        return (await client.get_host(host="esx")).state == t.FRESHNESS_LIVE

    await eventually(back, "the host to be LIVE again")
    after = (await client.get_host(host="esx")).driver_process
    assert (after.restarts, after.last_exit) == (before.restarts + 1, "was ended by SIGSEGV")
    return await last(client, definition.job_id)


async def test_a_call_that_did_not_get_through(esx: EsxHost, client: AsyncClient, domain: str) -> None:
    """A start is out when the library crashes, and never reaches the host: both jobs are INTERRUPTED, with what was seen."""
    async with calm_beside(client, "esx"), start_that_hangs(esx, client, domain, POWER_ON) as start:
        defined = await crash(esx, client)
        started = await last(client, start.job_id)
    assert [defined.state, started.state] == [t.JOB_STATE_INTERRUPTED, t.JOB_STATE_INTERRUPTED]
    assert "shutoff" in started.evidence
    # Nothing holds the domain any more.
    await ended(client.start_domain(domain))
    assert (await client.get_domain(domain)).state == t.DOMAIN_STATE_RUNNING


async def test_a_call_that_was_obeyed(esx: EsxHost, client: AsyncClient, domain: str) -> None:
    """The host has started the domain and its answer is lost with the process: the job has SUCCEEDED, which the domain proves."""
    async with calm_beside(client, "esx"), start_that_hangs(esx, client, domain, f"answer-{POWER_ON}") as start:
        await crash(esx, client)
        started = await last(client, start.job_id)
    assert started.state == t.JOB_STATE_SUCCEEDED
    assert (await client.get_domain(domain)).state == t.DOMAIN_STATE_RUNNING


async def test_what_was_queued_waits_through_it(esx: EsxHost, client: AsyncClient, domain: str) -> None:
    """A job behind the lost one runs in the new process."""
    async with start_that_hangs(esx, client, domain, f"answer-{POWER_ON}"):
        behind = await client.suspend_domain(domain, options=DETACHED)
        await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)
        await crash(esx, client)
        assert (await last(client, behind.job_id)).state == t.JOB_STATE_SUCCEEDED
    assert (await client.get_domain(domain)).state == t.DOMAIN_STATE_PAUSED


async def test_queries_go_on(esx: EsxHost, client: AsyncClient, domain: str) -> None:
    """While there is no driver process every domain is told as it was last seen, STALE, and none is told to be gone."""
    stale = asyncio.Event()

    async def ask() -> None:
        while True:
            told = await client.get_domain(domain)
            assert told.state == t.DOMAIN_STATE_SHUTOFF
            if told.state_observation.freshness == t.FRESHNESS_STALE:
                stale.set()

    asking = asyncio.create_task(ask())
    await crash(esx, client)
    assert not asking.done()
    asking.cancel()
    assert stale.is_set()
