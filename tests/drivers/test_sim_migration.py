"""Migration between simulated hosts on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.drivers.simulated import World, reason, world
from tests.virtual_time import on_virtual_time
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.sim.hypervisor import Network
from virtrpc_drivers.values import State


@asynccontextmanager
async def two_hosts(**options: Any) -> AsyncIterator[tuple[World, World]]:
    """Hosts a and b that reach each other; a has a running domain, b none."""
    network: Network = {}
    async with world(network, host="b", domains=0) as b, world(network, host="a", domains=1, migrate_seconds=10, **options) as a:
        yield a, b


def migrate(a: World, **fields: Any) -> ops.Migrate:
    """Move a's domain to b."""
    return ops.Migrate(uuid=a.uuid, destination_uri="sim://b/", **fields)


@on_virtual_time
async def test_a_guest_moves() -> None:
    """A migrated guest runs at the destination; the source keeps its definition, off."""
    async with two_hosts() as (a, b):
        uuid, operation = a.uuid, migrate(a)
        await a.run(operation)
        assert ((await b.state(uuid)).state, (await b.state(uuid)).reason) == (State.RUNNING, "migrated")
        assert ((await a.state()).state, (await a.state()).reason) == (State.SHUTOFF, "migrated")
        assert not b.hypervisor.domain(uuid).persistent


@on_virtual_time
async def test_persistence_moves_along() -> None:
    """The destination can be made persistent under a new name, and the source undefined."""
    async with two_hosts() as (a, b):
        uuid = a.uuid
        await a.run(migrate(a, persist_destination=True, undefine_source=True, new_name="moved"))
        assert a.hypervisor.domains == {}
        assert (b.hypervisor.by_name("moved").uuid, b.hypervisor.by_name("moved").persistent) == (uuid, True)


@on_virtual_time
async def test_progress_and_cancel() -> None:
    """A migration reports bytes; cancelled, the guest stays and the destination forgets it."""
    async with two_hosts() as (a, b):
        call, moving = a.begin(migrate(a))
        await a.notices.until(Report, lambda report: bool(report.processed_bytes) and report.abortable is True)
        assert (await b.state(a.uuid)).reason == "migration"
        assert (await a.driver.cancel(call.id)).sent
        assert await reason(moving) is Reason.ABORTED
        assert b.hypervisor.domains == {}
        assert (await a.state()).state is State.RUNNING


@on_virtual_time
async def test_bandwidth_decides_how_long_it_takes() -> None:
    """A guest of 1 GiB at 8 MiB a second takes 128 s."""
    async with two_hosts(memory_mib=1024) as (a, _):
        began = asyncio.get_running_loop().time()
        await a.run(migrate(a, bandwidth_bytes_per_second=8 << 20))
        assert round(asyncio.get_running_loop().time() - began) == 128


@on_virtual_time
async def test_a_destination_that_is_not_there() -> None:
    """A host of another process is UNSUPPORTED; the source itself INVALID_ARGUMENT; nothing changes."""
    async with two_hosts() as (a, _):
        assert await a.refused(ops.Migrate(uuid=a.uuid, destination_uri="sim://c/")) is Reason.UNSUPPORTED
        assert await a.refused(ops.Migrate(uuid=a.uuid, destination_uri="sim://a/")) is Reason.INVALID_ARGUMENT
        assert (await a.state()).state is State.RUNNING


@on_virtual_time
async def test_the_destination_is_held_meanwhile() -> None:
    """While a guest arrives, a change to it at the destination waits as for another's job; its destroy ends the migration."""
    async with two_hosts(lock_seconds=2) as (a, b):
        _, moving = a.begin(migrate(a))
        await asyncio.sleep(1)
        _, waiting = b.begin(ops.Suspend(uuid=a.uuid))
        await asyncio.sleep(1)
        await b.run(ops.Destroy(uuid=a.uuid))
        assert await reason(moving) is Reason.FAILED
        assert await reason(waiting) in (Reason.FAILED, Reason.DOMAIN_NOT_FOUND)
        assert (await a.state()).state is State.RUNNING


@on_virtual_time
async def test_the_guest_ends_meanwhile() -> None:
    """A guest destroyed at the source while it moves is off at both ends."""
    async with two_hosts() as (a, b):
        _, moving = a.begin(migrate(a))
        await asyncio.sleep(1)
        await a.run(ops.Destroy(uuid=a.uuid))
        assert await reason(moving) is Reason.FAILED
        assert b.hypervisor.domains == {}
        assert (await a.state()).reason == "destroyed"


@on_virtual_time
async def test_a_failure_half_way() -> None:
    """A migration that fails after its memory was sent leaves the guest where it was."""
    async with two_hosts() as (a, b):
        a.hypervisor.faults.add(Rule(verb="Migrate", step=2, reason=Reason.FAILED))
        assert await a.refused(migrate(a)) is Reason.FAILED
        assert (await a.state()).state is State.RUNNING
        assert b.hypervisor.domains == {}


@on_virtual_time
async def test_an_answer_lost_after_the_move() -> None:
    """Lost with its process after the guest has moved, a migration is proven by the guest that runs at the destination."""
    async with two_hosts(remembers=False) as (a, _):
        a.hypervisor.faults.add(Rule(verb="Migrate", step=3, dies=True))
        call, moving = a.begin(migrate(a))
        assert await reason(moving) is Reason.DRIVER_LOST
        await asyncio.sleep(1)
        assert (await a.driver.resume(call)).destination_uri == "sim://b/"
