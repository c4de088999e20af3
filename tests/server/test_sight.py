"""What a caller may not see it learns of by no RPC: each of the contract's, aimed at hidden domains, at none and at its own, with others' words."""

from __future__ import annotations

import asyncio
import re
import uuid as uuids
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import duration_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import StatusCode, aio
from grpc_status import rpc_status

from tests.server.aimed import FORMS, Aim, Form, request
from tests.server.policed import Bed, bed, labelled, ref
from tests.server.world import until
from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_server.contract import METHODS
from virtrpc_server.guard import REASON_METADATA
from virtrpc_server.policy.labels import LABELS_URI
from virtrpc_server.verbs import Kind

OWNER, REQUEST_ID, REASON, PATH = "canary-owner", "canary-request", "canary-reason", "/images/saved"
RULES = f"""
@id("owners") permit(principal == Caller::"{OWNER}", action, resource);
@id("b") permit(principal == Caller::"b", action, resource) unless {{ resource is Domain && resource.hasTag("hidden") }};
"""
SIM = (
    "sim://{}/?domains={}&running={}&seed={}&start_seconds=0.01&save_seconds=0.01&restore_seconds=0.01&snapshot_seconds=0.01&revert_seconds=0.01"
    "&migrate_seconds=0.01&block_seconds=0.01&shutdown_seconds=0.01&detach_seconds=0.01&agent_seconds=0.01&progress_seconds=0.01"
)
XML = (
    "<domain type='sim'><name>{}</name><uuid>{}</uuid><title>canary-title</title>"
    "<metadata>{}<c:x xmlns:c='urn:canary:1'>canary-metadata</c:x></metadata>"
    "<memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/canary-disk'/><target dev='vda' bus='virtio'/></disk>"
    "</devices></domain>"
)
LABELS = labelled(hidden="canary-label").replace("<labels>", f'<labels xmlns="{LABELS_URI}">')
MAKING = {"DefineDomain", "CreateDomain", "RestoreDomain", "DefineSaveImage", "GetSaveImage"}
"""What is not aimed at a domain, but would take its name, its uuid or its file: they are taken, and no more is told."""
ENDLESS = {"WatchDomains", "WatchJobs"}


@dataclass(frozen=True)
class Answer:
    """All that came back."""

    code: StatusCode
    reason: str
    raw: bytes

    def without(self, words: dict[bytes, bytes]) -> bytes:
        """All of it, with other words for these."""
        raw = self.raw
        for old, new in words.items():
            raw = raw.replace(old, new)
        return raw


async def answer(server: Bed, rpc: str, asked: Message) -> Answer:
    """What B is answered: every message, header and trailer."""
    call, told = server.who("b").call(rpc, asked), []
    code, reason = StatusCode.OK, ""
    try:
        if isinstance(call, aio.UnaryUnaryCall):
            told.append(_plain(await call))
        else:
            async for message in call:
                told.append(_plain(message))
                if rpc in ENDLESS:
                    call.cancel()
                    break
    except aio.AioRpcError as error:
        code, info = error.code(), error_details_pb2.ErrorInfo()
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # it has what a call has
        if status is not None and status.details and status.details[0].Unpack(info):
            reason = info.reason
        told.append(f"{error.code()} {error.details()} {info.reason} {sorted(info.metadata.items())}".encode())
        told += [each.SerializeToString() for each in (status.details[1:] if status is not None else ())]
    if rpc not in ENDLESS:
        for pairs in (await call.initial_metadata(), await call.trailing_metadata()):
            told += sorted(b"%s=%s" % (key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in pairs or ())
    return Answer(code, reason, b"\n".join(told))


def _plain(message: Any) -> bytes:
    for token in ("resume_token", "next_page_token"):
        if token in message.DESCRIPTOR.fields_by_name:
            message.ClearField(token)
    raw: bytes = message.SerializeToString(deterministic=True)
    return raw


def _uuid(name: str) -> str:
    return str(uuids.uuid5(uuids.NAMESPACE_OID, name))


class Hidden:
    """What B must never hear of: a caller's domains, with all that they have, and its jobs on them, which wait for one another."""

    def __init__(self, server: Bed) -> None:
        self.server = server
        self.owner = server.who(OWNER)
        self.owner._who = (*self.owner._who, (REASON_METADATA, REASON))  # type: ignore[assignment] # a pair more
        self.streams: list[Any] = []
        self.said = b""
        """What B itself has said in requests that became jobs."""
        self.one = Aim("canary-one", _uuid("one"), owner=OWNER, request_id=REQUEST_ID, part="canary-part", path=PATH)
        self.two = replace(self.one, name="canary-two", uuid=_uuid("two"), host="b")

    @property
    def aims(self) -> tuple[Aim, Aim]:
        """Both."""
        return (self.one, self.two)

    def sim(self, host: str) -> SimHypervisor:
        """A host's hypervisor."""
        driver = self.server.core.hosts[host].driver
        assert isinstance(driver, SimDriver)
        assert driver._hypervisor is not None
        return driver._hypervisor

    async def make(self) -> None:
        """Domains, their parts, an image of one in a file, jobs that run and wait, and tokens of lists and watches."""
        for aim in self.aims:
            await self._domain(aim)
        request = job_pb2.SaveDomainRequest(domain=ref(self.one.name), path=PATH)
        await self.owner.ask("SaveDomain", request)
        await self.owner.ask("StartDomain", job_pb2.StartDomainRequest(domain=ref(self.one.name)))
        for host in "ab":
            sim = self.sim(host)
            sim.options = msgspec.structs.replace(sim.options, save_seconds=1e6)
            self.server.core.hosts[host].limits[Kind.SAVE].limit = 1
        for aim in self.aims:
            await self._jobs(aim)
        page = await self.owner.ask("ListDomains", query_pb2.ListDomainsRequest(page_size=1))
        watch = self.owner.call("WatchJobs", job_pb2.WatchJobsRequest())
        first = await watch.read()
        watch.cancel()
        ids = self.ids
        self.one, self.two = (
            replace(aim, number=self._number(aim), job_id=ids[aim.uuid][-1], page_token=page.next_page_token, resume_token=first.resume_token)
            for aim in self.aims
        )

    async def _domain(self, aim: Aim) -> None:
        await self.owner.ask("DefineDomain", job_pb2.DefineDomainRequest(host=aim.host, xml=XML.format(aim.name, aim.uuid, LABELS)))
        await self.owner.ask("StartDomain", job_pb2.StartDomainRequest(domain=ref(aim.name)))
        part = f"<name>{aim.part}</name><description>canary-description</description>"
        xml = f"<domainsnapshot>{part}</domainsnapshot>"
        await self.owner.ask("CreateSnapshot", job_pb2.CreateSnapshotRequest(domain=ref(aim.name), xml=xml))
        domains = self.server.core.domains
        await until(lambda: (entry := domains.get((aim.host, aim.uuid))) and entry.active and self.server.core.sight.resource(entry).labels)

    async def _jobs(self, aim: Aim) -> None:
        # Its state is compared in the end: it waits however long the machine takes for all that comes before.
        patience = duration_pb2.Duration(seconds=3600)
        options = types_pb2.JobOptions(request_id=aim.request_id, wait_timeout=patience)
        other = types_pb2.JobOptions(wait_timeout=patience)
        asked: list[tuple[str, Any]] = [
            ("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref(aim.name), options=other)),
            ("SuspendDomain", job_pb2.SuspendDomainRequest(domain=ref(aim.name), options=options if aim.host == "a" else other)),
        ]
        for rpc, verb in asked:
            self.streams.append(call := self.owner.call(rpc, verb))
            await call.read()
        await until(lambda: len(self.ids[aim.uuid]) >= 2)

    @property
    def ids(self) -> dict[str, list[str]]:
        """All jobs on these domains."""
        jobs = [self.server.core.jobs.known(job_id) for job_id in self.server.core.jobs.ids()]
        return {aim.uuid: [job.id for job in jobs if job.uuid == aim.uuid] for aim in self.aims}

    def uuid(self, name: str) -> str:
        """Of a domain of host a."""
        (entry,) = self.server.core.domains.by_name(name, "a")
        return entry.uuid

    def _number(self, aim: Aim) -> int:
        entry = self.server.core.domains.get((aim.host, aim.uuid))
        assert entry is not None
        assert entry.state is not None
        assert entry.state.value.id is not None
        return entry.state.value.id

    def mixed(self, fresh: Aim) -> list[Aim]:
        """What is new but for its name, its uuid or its file: those are hidden ones'."""
        return [replace(fresh, name=self.one.name), replace(fresh, uuid=self.one.uuid), replace(fresh, path=self.one.path)]

    @property
    def canaries(self) -> dict[bytes, bytes]:
        """What must not be told, in all forms, with the word that says it."""
        words = {
            OWNER,
            REQUEST_ID,
            REASON,
            "canary-part",
            "canary-title",
            "canary-metadata",
            "canary-label",
            "canary-description",
            "canary-disk",
        }
        words |= {aim.name for aim in self.aims} | {job_id for ids in self.ids.values() for job_id in ids}
        found = {word.encode(): word.encode() for word in words}
        for aim in self.aims:
            uuid = uuids.UUID(aim.uuid)
            forms = (aim.uuid.encode(), aim.uuid.upper().encode(), uuid.hex.encode(), uuid.bytes, uuid.bytes_le)
            found |= dict.fromkeys(forms, aim.uuid.encode())
        return found

    def told(self, raw: bytes, asked: Message) -> list[bytes]:
        """What an answer tells that its request has not said."""
        said = asked.SerializeToString() + self.said
        return [form for form, word in self.canaries.items() if form in raw and word not in said]

    @property
    def state(self) -> Any:
        """All that B must not change."""
        entries = [self.server.core.domains.get((aim.host, aim.uuid)) for aim in self.aims]
        known = [(entry.generation, entry.name, entry.config and entry.config.value) for entry in entries if entry is not None]
        sims = [self.sim(aim.host).domains[aim.uuid] for aim in self.aims]
        calls = [call.id for aim in self.aims for call in self.sim(aim.host).jobs.values() if call.operation.uuid == aim.uuid]
        jobs = {job_id: self.server.core.jobs.known(job_id).state for ids in self.ids.values() for job_id in ids}
        images = {path: holder for path, holder in self.sim("a").files.items() if path == PATH}
        return known, [(sim.name, sim.state) for sim in sims], calls, jobs, images


class Watching:
    """A stream of B's that is open all the time."""

    def __init__(self, hidden: Hidden, rpc: str, asked: Message) -> None:
        self._hidden, self._asked = hidden, asked
        self._call = hidden.server.who("b").call(rpc, asked)
        self._task = asyncio.create_task(self._read())
        self._told: list[bytes] = []

    async def _read(self) -> None:
        async for message in self._call:
            self._told.append(_plain(message))

    async def end(self) -> None:
        """It was told something, and nothing that it should not have been."""
        await until(lambda: self._told or self._task.done())
        self._call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
        assert self._hidden.told(b"".join(self._told), self._asked) == []


@asynccontextmanager
async def hiding(path: Path) -> AsyncIterator[Hidden]:
    """A server where B sees a domain for each RPC, and not those that another has."""
    count = len(METHODS)
    async with bed(path, RULES, SIM.format("a", count, count, 1), SIM.format("b", 1, 1, 2)) as server:
        hidden = Hidden(server)
        await hidden.make()
        try:
            yield hidden
        finally:
            for stream in hidden.streams:
                stream.cancel()


def absent(aim: Aim) -> Aim:
    """One that there is not, in words of the same length."""
    words = {key: re.sub("[a-z0-9]", "e", value) for key, value in vars(aim).items() if key in ("uuid", "job_id")}
    return replace(aim, name=aim.name.replace("canary", "absent"), number=int("9" * len(str(aim.number))), **words)


def words_of(one: Aim, other: Aim) -> dict[bytes, bytes]:
    """What one says, and the other in its place."""
    pairs = {f"id {one.number}": f"id {other.number}", one.name: other.name, one.uuid: other.uuid, one.job_id: other.job_id}
    return {old.encode(): new.encode() for old, new in pairs.items() if old}


async def test_what_is_hidden_is_as_what_is_not_there(tmp_path: Path) -> None:
    """Whatever RPC is aimed at it: the same code, reason, text and metadata, and nothing of it is told or changed."""
    async with hiding(tmp_path) as hidden:
        before = hidden.state
        for method in METHODS:
            for form, aim in zip(FORMS, (hidden.one, hidden.two, hidden.two, hidden.one), strict=True):
                nobody = absent(aim)
                asked, twin = (request(method.name, method.input_type, each, each, form) for each in (aim, nobody))
                got = await answer(hidden.server, method.name, asked)
                assert hidden.told(got.raw, asked) == [], (method.name, form, got)
                if method.name in MAKING or asked == twin:
                    continue
                assert (await answer(hidden.server, method.name, twin)).without(words_of(nobody, aim)) == got.raw, (method.name, form)
                assert got.code is not StatusCode.INTERNAL
        assert hidden.state == before


async def test_what_is_seen_tells_nothing_of_what_is_hidden(tmp_path: Path) -> None:
    """Every RPC, of a domain that the caller may do everything to, with its own words and with those of hidden ones, and watches that are open."""
    async with hiding(tmp_path) as hidden:
        before, codes = hidden.state, Counter[StatusCode]()
        asked_of: tuple[tuple[str, Message], ...] = (("WatchDomains", query_pb2.WatchDomainsRequest()), ("WatchJobs", job_pb2.WatchJobsRequest()))
        watches = [Watching(hidden, rpc, asked) for rpc, asked in asked_of]
        mine = [
            Aim(f"guest-{number}", hidden.uuid(f"guest-{number}"), part="mine", path=f"/images/{number}") for number in range(1, len(METHODS) + 1)
        ]
        fresh = [replace(aim, name=aim.name.replace("guest", "fresh"), uuid=_uuid(aim.name)) for aim in mine]

        async def ask(method: MethodDescriptor, aim: Aim, other: Aim, form: Form) -> None:
            asked = request(method.name, method.input_type, aim, other, form)
            got = await answer(hidden.server, method.name, asked)
            codes[got.code] += 1
            assert hidden.told(got.raw, asked) == [], (method.name, form, got)
            assert got.code is not StatusCode.INTERNAL, (method.name, form, got)
            if b"virtrpc-job-id=" in got.raw:
                hidden.said += asked.SerializeToString()

        for method, own, new in zip(METHODS, mine, fresh, strict=True):
            for other in hidden.mixed(new):
                await ask(method, own, other, FORMS[0])
            for form in FORMS:
                await ask(method, own, own, form)
        for watch in watches:
            await watch.end()
        for method, own in zip(METHODS, mine, strict=True):
            for form, other in zip(FORMS, (hidden.one, hidden.two, hidden.one, hidden.two), strict=True):
                await ask(method, own, replace(other, request_id="", part="mine"), form)
        assert codes[StatusCode.OK] > len(METHODS)
        assert hidden.state == before
