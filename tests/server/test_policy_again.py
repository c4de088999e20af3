"""What changes while a job waits: rules, labels and what else there is are judged once more before its call. Real channels, simulated hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from msgspec.structs import replace

from tests.server.policed import ROLES, Bed, Denied, bed, labelled, ref
from tests.server.test_policy import BY_LABEL, BY_NAME, UUID, XML
from tests.server.world import until
from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_server.policy.labels import LABELS_URI
from virtrpc_server.records import JobState

SLOW = "sim://a/?domains=4&running=4&save_seconds=1000"
FROZEN = '@id("frozen") forbid(principal, action == Action::"SuspendDomain", resource) when { resource is Domain && resource.name == "guest-1" };'


@asynccontextmanager
async def held(server: Bed, name: str) -> AsyncIterator[None]:
    """A domain that is being saved in the block, and is not any more behind it."""
    save = server.who("admin").call("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref(name)))
    job_id = (await save.read()).job.job_id
    await until(lambda: server.core.jobs.known(job_id).state is JobState.RUNNING)
    yield
    await server.who("admin").ask("CancelJob", job_pb2.CancelJobRequest(job_id=job_id))


class Waiting:
    """A verb that waits behind others."""

    def __init__(self, server: Bed, who: str, rpc: str, request: Any) -> None:
        self._server, self._call = server, server.who(who).call(rpc, request)
        self.id = ""

    async def queued(self) -> Waiting:
        """Wait until it does."""
        self.id = (await self._call.read()).job.job_id
        await until(lambda: self._server.core.jobs.known(self.id).waiting_for is not None)
        return self

    async def refused(self) -> Denied:
        """The error that it ends with; its call was never sent."""
        with pytest.raises(aio.AioRpcError) as error:
            await self._to_its_end()
        job = self._server.core.jobs.known(self.id)
        assert (job.state, job.attempts) == (JobState.FAILED, 0)
        return Denied(error.value)

    async def _to_its_end(self) -> None:
        while await self._call.read() is not aio.EOF:
            pass


async def waiting(server: Bed, who: str, rpc: str, request: Any) -> Waiting:
    """A verb that waits."""
    return await Waiting(server, who, rpc, request).queued()


async def test_a_right_that_is_lost_while_a_job_waits(tmp_path: Path) -> None:
    """It ends as denied, with the rule named, and its call is not sent; one whose right stays begins."""
    async with bed(tmp_path, BY_NAME, SLOW) as server:
        request = job_pb2.SuspendDomainRequest(domain=ref("guest-1"))
        async with held(server, "guest-1"):
            job = await waiting(server, "web", "SuspendDomain", request)
            server.rules(BY_NAME + FROZEN)
        denied = await job.refused()
        assert (denied.code, denied.reason, denied.rule) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "frozen")
        assert "web may not SuspendDomain domain guest-1: rule 'frozen' forbids it (judged anew before it began)" in denied.message
        server.rules(BY_NAME)
        async with held(server, "guest-1"):
            again = await waiting(server, "web", "SuspendDomain", request)
        await until(lambda: server.core.jobs.known(again.id).state is JobState.SUCCEEDED)


async def test_a_label_that_is_set_while_a_job_waits(tmp_path: Path) -> None:
    """Whose the domain is when the job would begin counts, and what it is called by then is not told."""
    async with bed(tmp_path, BY_LABEL, SLOW) as server:
        await server.label("guest-1", team="red")
        async with held(server, "guest-1"):
            element = types_pb2.MetadataElement(uri=LABELS_URI, key="v", xml=labelled(team="blue"))
            change = job_pb2.SetMetadataRequest(domain=ref("guest-1"), element=element, scope=types_pb2.CHANGE_SCOPE_BOTH)
            await waiting(server, "admin", "SetMetadata", change)
            job = await waiting(server, "red", "SuspendDomain", job_pb2.SuspendDomainRequest(domain=ref("guest-1")))
        denied = await job.refused()
        assert (denied.reason, denied.info.metadata["action"]) == ("PERMISSION_DENIED", "GetDomain")


async def test_a_destroy_waits_for_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the definition was not read yet, which a host that hangs may never tell, it is judged as its acceptance was, and sent."""
    async with bed(tmp_path, ROLES, "sim://a/?domains=1&running=1") as server:
        (entry,) = server.core.domains.by_name("guest-1")
        refresher, known = server.core.hosts["a"].refresher, server.core.domains.get
        refresh, sent = refresher.refresh, list[int]()

        async def noted(uuid: str, seconds: float) -> bool:
            sent.extend(server.core.jobs.known(job_id).attempts for job_id in server.core.jobs.ids())
            return await refresh(uuid, seconds)

        monkeypatch.setattr(refresher, "refresh", noted)
        monkeypatch.setattr(server.core.domains, "get", lambda key: replace(entry, config=None) if key == entry.key else known(key))
        await server.who("admin").ask("DestroyDomain", job_pb2.DestroyDomainRequest(domain=ref("guest-1")))
        assert set(sent) == {1}


async def test_a_definition_waits_until_it_is_known_what_it_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other job whose domain was not read yet, such as soon after a restart: it does not end because it was first."""
    rules = BY_LABEL + 'permit(principal == Caller::"definer", action in [Action::"viewer", Action::"DefineDomain"], resource);'
    async with bed(tmp_path, rules, "sim://a/?domains=1&running=0") as server:
        (entry,) = server.core.domains.by_name("guest-1")
        refresher, known, read = server.core.hosts["a"].refresher, server.core.domains.get, asyncio.Event()
        refresh, budget = refresher.refresh, server.core.hosts["a"].budget
        budget.limit = 1
        ticket = budget.take("the test")
        request = job_pb2.DefineDomainRequest(xml=XML.format("guest-1", entry.uuid, ""))
        job = await waiting(server, "definer", "DefineDomain", request)

        async def reading(uuid: str, seconds: float) -> bool:
            read.set()
            return await refresh(uuid, seconds)

        monkeypatch.setattr(refresher, "refresh", reading)
        monkeypatch.setattr(server.core.domains, "get", lambda key: known(key) if read.is_set() else replace(entry, config=None))
        ticket.release()
        await until(lambda: server.core.jobs.known(job.id).finished)
        assert server.core.jobs.known(job.id).state is JobState.SUCCEEDED


async def test_an_image_of_a_domain_that_goes_while_its_restore_waits(tmp_path: Path) -> None:
    """Its definition is gone, so that the labels of the image would count: who may not set labels does not bring it back."""
    rules = BY_LABEL + 'permit(principal == Caller::"restorer", action in [Action::"viewer", Action::"RestoreDomain", Action::"UseFile"], resource);'
    async with bed(tmp_path, rules, "sim://a/?domains=2&running=2&save_seconds=0.01") as server:
        await server.label("guest-1", team="red")
        (entry,) = server.core.domains.by_name("guest-1")
        await server.who("admin").ask("SaveDomain", job_pb2.SaveDomainRequest(domain=ref("guest-1"), path="/images/one"))
        await until(lambda: not (server.core.domains.get(entry.key) or entry).active)
        restore = job_pb2.RestoreDomainRequest(host="a", uuid=entry.uuid, name="guest-1", path="/images/one")
        budget = server.core.hosts["a"].budget
        budget.limit = 1
        ticket = budget.take("the test")
        await waiting(server, "admin", "UndefineDomain", job_pb2.UndefineDomainRequest(domain=ref("guest-1")))
        job = await waiting(server, "restorer", "RestoreDomain", restore)
        ticket.release()
        denied = await job.refused()
        assert (denied.reason, denied.info.metadata["action"]) == ("PERMISSION_DENIED", "SetLabels")


async def test_a_name_that_is_taken_while_a_definition_waits(tmp_path: Path) -> None:
    """By a domain that its caller does not see: the hypervisor's own words would tell the uuid."""
    async with bed(tmp_path, ROLES + HIDING, "sim://a/?domains=1&running=0") as server:
        budget = server.core.hosts["a"].budget
        budget.limit = 1
        ticket = budget.take("the test")
        labels = labelled(hidden="yes").replace("<labels>", f'<labels xmlns="{LABELS_URI}">')
        secret = XML.format("taken", UUID, f"<metadata>{labels}</metadata>")
        await waiting(server, "admin", "DefineDomain", job_pb2.DefineDomainRequest(xml=secret))
        mine = XML.format("taken", UUID.replace("1", "2"), "")
        job = await waiting(server, "web", "DefineDomain", job_pb2.DefineDomainRequest(xml=mine))
        ticket.release()
        denied = await job.refused()
        assert (denied.reason, UUID in denied.message) == ("ALREADY_EXISTS", False)


HIDING = """
@id("web") permit(principal == Caller::"web", action in Action::"admin", resource)
unless { resource is Domain && resource.hasTag("hidden") };
"""
