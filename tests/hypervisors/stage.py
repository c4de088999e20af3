"""What a case of the matrix stands on: a client of a server with one hypervisor, and a domain that is brought to the state a case needs."""

from __future__ import annotations

import asyncio
import itertools
import uuid as uuids
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.server import eventually
from tests.hypervisors.kind import Kind
from virtrpc import AgentUnresponsive, AsyncClient, NotFound, VirtrpcError
from virtrpc.jobs import AsyncJobHandle
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

T = TypeVar("T")
_numbers = itertools.count(1)
LONG = t.JobOptions(wait_timeout=Duration(seconds=60), run_timeout=Duration(seconds=120))


@dataclass
class Guest:
    """The domain that the cases of one hypervisor share."""

    name: str
    uuid: str
    boots: int = 0
    """How often it has booted, or was asked to, since it was started."""


@dataclass
class Column:
    """A hypervisor that was started, and what its cases share."""

    kind: Kind
    guest: Guest | None = None
    table: dict[str, q.VerbSupport] = field(default_factory=dict)


@dataclass
class Stage:
    """One case's view of a column."""

    column: Column
    client: AsyncClient
    host: str
    peer: str | None = None

    @property
    def kind(self) -> Kind:
        """The hypervisor."""
        return self.column.kind

    @property
    def guest(self) -> Guest:
        """The shared domain."""
        assert self.column.guest is not None
        return self.column.guest

    @property
    def ref(self) -> str:
        """The shared domain, as requests name it."""
        return f"{self.host}/{self.guest.uuid}"

    @property
    def name(self) -> str:
        """The shared domain's name."""
        return self.guest.name

    def has(self, rpc: str) -> bool:
        """Whether the hypervisor has an RPC, by its bare name; RPCs without a row are had by all."""
        row = self.column.table.get(rpc)
        return row is None or row.supported

    async def done(self, verb: Awaitable[AsyncJobHandle]) -> t.Job:
        """The job of a verb, SUCCEEDED."""
        async with asyncio.timeout(self.kind.guard_seconds):
            return await (await verb).wait()

    async def domain(self) -> t.Domain:
        """The shared domain as the server knows it."""
        return await self.client.get_domain(self.ref)

    async def state(self) -> t.DomainState.ValueType:
        """Its state."""
        return (await self.domain()).state

    def new(self) -> tuple[str, str, str]:
        """Name, uuid and XML of a domain that nobody has."""
        name, uuid = self.kind.new_name(next(_numbers)), str(uuids.uuid4())
        return name, uuid, self.kind.xml(name, uuid)

    async def off(self) -> str:
        """The shared domain, off and without a saved image; how requests name it."""
        await self.there()
        if (await self.domain()).active:
            await self.done(self.client.destroy_domain(self.ref, options=LONG))
        if (await self.domain()).has_managed_save:
            await self.done(self.client.remove_managed_save(self.ref))
        return self.ref

    async def running(self) -> str:
        """The shared domain, running; how requests name it."""
        guest = await self.there()
        if not (await self.domain()).active:
            guest.boots = 1
            await self.done(self.client.start_domain(self.ref, options=LONG))
        if await self.state() == t.DOMAIN_STATE_PAUSED:
            await self.done(self.client.resume_domain(self.ref))
        await self.until(lambda domain: domain.state == t.DOMAIN_STATE_RUNNING, "it to run")
        return self.ref

    async def savable(self) -> str:
        """The shared domain, running, with a guest that is far enough to be saved; how requests name it."""
        ref = await self.running()
        await asyncio.to_thread(self.kind.started, self.guest.name)
        return ref

    async def booted(self) -> str:
        """The shared domain, running, with a guest that listens; how requests name it."""
        ref = await self.running()
        await asyncio.to_thread(self.kind.booted, self.guest.name, self.guest.boots)
        return ref

    async def with_agent(self, verb: Callable[[], Awaitable[AsyncJobHandle]]) -> None:
        """A verb of the guest's agent, done once the agent answers: it comes up some time after the guest."""

        async def answered() -> bool:
            try:
                await self.done(verb())
            except AgentUnresponsive:
                return False
            return True

        await eventually(answered, "the agent to do it")

    async def until(self, holds: Callable[[t.Domain], bool], what: str) -> None:
        """Wait until the shared domain, as the server tells it, is as wanted."""

        async def asked() -> bool:
            return holds(await self.domain())

        await eventually(asked, what)

    async def refused(self, verb: Awaitable[AsyncJobHandle], reason: str) -> None:
        """A verb that ends with this reason."""
        with pytest.raises(VirtrpcError) as caught:
            await self.done(verb)
        assert caught.value.reason == reason

    async def forget(self, *refs: str) -> None:
        """Destroy and undefine these domains, as far as they are there."""
        for ref in refs:
            for verb in (self.client.destroy_domain, self.client.undefine_domain):
                try:
                    await self.done(verb(ref))
                except VirtrpcError:
                    pass  # it was off, or is gone

    async def there(self) -> Guest:
        """The shared domain, made where there is none."""
        guest = self.column.guest
        if guest is not None:
            try:
                await self.client.get_domain(f"{self.host}/{guest.uuid}")
            except NotFound:
                guest = None
        if guest is None:
            guest = self.column.guest = await self._made()
        return guest

    async def _made(self) -> Guest:
        existing = self.kind.existing
        if existing is not None:
            found = await self.client.get_domain(f"{self.host}/{existing}")
            return Guest(found.name, found.uuid)
        name, uuid, xml = self.new()
        await self.done(self.client.define_domain(host=self.host, xml=xml))
        return Guest(name, uuid)


async def all_of(messages: AsyncIterable[T]) -> list[T]:
    """A list's messages."""
    return [message async for message in messages]


async def live(client: AsyncClient, *hosts: str) -> None:
    """Return once these hosts are LIVE."""
    for host in hosts:

        async def is_live(host: str = host) -> bool:
            return (await client.get_host(host=host)).state == t.FRESHNESS_LIVE

        await eventually(is_live, f"host {host} to be LIVE")


async def rows_of(client: AsyncClient, host: str) -> dict[str, q.VerbSupport]:
    """What a host says that it can do, by bare RPC name."""
    return {row.method.rpartition("/")[2]: row for row in (await client.get_host(host=host)).verbs}


Call = Callable[[Stage], Awaitable[Any]]
"""One use of an RPC."""
