"""One server with QEMU, containers, VMware and a simulation at once: each answers, and none is in another's way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.server import Server, ended, eventually
from tests.hypervisors.client_library import Esx
from tests.hypervisors.containers import Lxc
from tests.hypervisors.emulated import Qemu
from tests.hypervisors.kind import Kind
from tests.hypervisors.kinds import TestDriver
from virtrpc import AsyncClient
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(180)]

KINDS: tuple[type[Kind], ...] = (Qemu, Lxc, Esx, TestDriver)
UUID = "11111111-2222-4333-8444-55555555555{}"


@pytest.fixture(scope="module")
def beds() -> Iterator[dict[str, Kind]]:
    """The hypervisors, started, by name."""
    for kind in KINDS:
        if (reason := kind.missing()) is not None:
            pytest.skip(f"{kind.title}: {reason}")
    with ExitStack() as stack:
        yield {kind.name: stack.enter_context(kind()) for kind in KINDS}


@pytest.fixture(scope="module")
def server(beds: dict[str, Kind]) -> Iterator[Server]:
    """One server with all of them, and a simulated host."""
    hosts = {name: next(iter(bed.hosts.values())) for name, bed in beds.items()}
    with Server({**hosts, "sim": "sim:///?domains=5&running=2"}) as server:
        server.wait_live()
        yield server
        server.assert_no_fault_of_its_own()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    """Its client."""
    async with server.client() as client:
        yield client


async def test_each_host_is_what_it_is(client: AsyncClient, beds: dict[str, Kind]) -> None:
    """All are LIVE, each under its own hypervisor's name, with a driver process of its own; VMware is polled, the others push."""
    hosts = {host.name: host async for host in client.list_hosts()}
    assert {name: host.hypervisor for name, host in hosts.items()} == {"qemu": "QEMU", "lxc": "LXC", "esx": "ESX", "test": "TEST", "sim": "SIM"}
    assert all(host.state == t.FRESHNESS_LIVE for host in hosts.values())
    assert len({host.driver_process.pid for host in hosts.values()}) == len(hosts)
    assert [name for name, host in hosts.items() if host.state_updates == q.STATE_UPDATES_POLLED] == ["esx"]


async def test_a_life_on_each_at_once(client: AsyncClient, beds: dict[str, Kind]) -> None:
    """The same verbs, sent to all at once, do the same everywhere; one listing has them all."""

    async def life(number: int, name: str) -> None:
        uuid = UUID.format(number)
        await ended(client.define_domain(host=name, xml=beds[name].xml(f"many-{number}", uuid)))
        ref = f"{name}/{uuid}"
        for verb, state in (
            (client.start_domain, t.DOMAIN_STATE_RUNNING),
            (client.suspend_domain, t.DOMAIN_STATE_PAUSED),
            (client.resume_domain, t.DOMAIN_STATE_RUNNING),
        ):
            assert (await ended(verb(ref))).domain_result.domain.state == state

    await asyncio.gather(*(life(number, name) for number, name in enumerate(beds)))
    found = {(domain.host, domain.name) async for domain in client.list_domains(filter=t.DomainFilter(name_glob="many-*"))}
    assert found == {(name, f"many-{number}") for number, name in enumerate(beds)}
    for number, name in enumerate(beds):
        await ended(client.destroy_domain(f"{name}/{UUID.format(number)}"))
        await ended(client.undefine_domain(f"{name}/{UUID.format(number)}"))


async def test_one_dead_driver_is_no_other_host_s_business(client: AsyncClient, server: Server) -> None:
    """A driver process that is killed comes back with its host LIVE; the others have neither restarted nor been STALE."""
    before = {host.name: host.driver_process async for host in client.list_hosts()}
    pid = before["lxc"].pid
    os.kill(pid, signal.SIGKILL)

    async def another() -> bool:
        assert [host.name async for host in client.list_hosts() if host.state != t.FRESHNESS_LIVE and host.name != "lxc"] == []
        return (await client.get_host(host="lxc")).driver_process.pid not in (0, pid)

    await eventually(another, "the driver process to be another")
    server.wait_live("lxc")
    after = {host.name: host.driver_process async for host in client.list_hosts()}
    assert {name for name in after if after[name].pid != before[name].pid} == {"lxc"}
