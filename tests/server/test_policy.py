"""Rules as callers meet them: by role, by domain, by label, in lists and watches. The real server on a real channel, with simulated hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from tests.server.policed import ROLES, Bed, Denied, Someone, bed, labelled, ref
from tests.server.world import until
from virtrpc.v1 import job_pb2, query_pb2, snapshot_pb2, types_pb2
from virtrpc_server.policy.labels import LABELS_URI

XML = "<domain type='sim'><name>{}</name><uuid>{}</uuid><memory>1024</memory>{}</domain>"
UUID = "5d3f0f0e-0000-4000-8000-000000000001"
BY_NAME = (
    ROLES
    + """
@id("web-only") permit(principal == Caller::"web", action in Action::"admin", resource) when { resource is Domain && resource.name like "guest-1*" };
"""
)
BY_LABEL = (
    ROLES
    + """
@id("reds") permit(principal == Caller::"red", action in Action::"operator", resource)
when { resource is Domain && resource.hasTag("team") && resource.getTag("team") == "red" };
@id("no-prod") forbid(principal, action in [Action::"SaveDomain", Action::"ManagedSaveDomain"], resource)
when { resource is Domain && resource.hasTag("stage") && resource.getTag("stage") == "prod" };
"""
)


async def refused(someone: Someone, rpc: str, request: Any, reason: str = "PERMISSION_DENIED") -> Denied:
    """The error of a call that must end with one."""
    with pytest.raises(Denied) as denied:
        await someone.ask(rpc, request)
    assert denied.value.reason == reason
    return denied.value


GetDomain, ListDomains = query_pb2.GetDomainRequest, query_pb2.ListDomainsRequest


@pytest.mark.parametrize(
    ("who", "may"),
    [
        ("viewer", {"GetDomain"}),
        ("operator", {"GetDomain", "SuspendDomain"}),
        ("admin", {"GetDomain", "SuspendDomain", "UndefineDomain"}),
        ("x", set()),
    ],
)
async def test_each_role_gets_as_far_as_its_rpcs(tmp_path: Path, who: str, may: set[str]) -> None:
    """What is beyond its role ends PERMISSION_DENIED before anything happens, naming the RPC, and nothing else does."""
    asked: dict[str, Any] = {
        "GetDomain": GetDomain(domain=ref("guest-1")),
        "SuspendDomain": job_pb2.SuspendDomainRequest(domain=ref("guest-1")),
        "UndefineDomain": job_pb2.UndefineDomainRequest(domain=ref("guest-4")),
    }
    async with bed(tmp_path) as server:
        for rpc, request in asked.items():
            if rpc in may:
                await server.who(who).ask(rpc, request)
                continue
            with pytest.raises(Denied) as denied:
                await server.who(who).ask(rpc, request)
            assert (denied.value.code, denied.value.reason, denied.value.info.metadata["action"]) == (
                StatusCode.PERMISSION_DENIED,
                "PERMISSION_DENIED",
                rpc,
            )
            assert "no rule permits it" in denied.value.message
        assert len(server.core.jobs.ids()) == len(may - {"GetDomain"})


async def test_every_name_of_a_caller_counts(tmp_path: Path) -> None:
    """`in` matches whichever name it has; `==` its first alone."""
    rules = ROLES.replace('principal == Caller::"viewer"', 'principal in Caller::"dns:x.lab"')
    async with bed(tmp_path, rules) as server:
        assert await server.who("spiffe://lab/x,dns:x.lab").names() == ["guest-1", "guest-2", "guest-3", "guest-4"]
        assert len(await server.who("operator,other").names()) == 4
        with pytest.raises(Denied):
            await server.who("other,operator").names()


async def test_what_a_caller_may_not_see_is_not_there(tmp_path: Path) -> None:
    """It is NOT_FOUND in the very words of what does not exist, and no list has it."""
    async with bed(tmp_path, BY_NAME) as server:
        web = server.who("web")
        assert await web.names() == ["guest-1"]
        told = []
        for name in ("guest-2", "guest-9"):
            with pytest.raises(Denied) as denied:
                await web.ask("SuspendDomain", job_pb2.SuspendDomainRequest(domain=ref(name)))
            told.append((denied.value.code, denied.value.message.replace(name, ""), {**denied.value.info.metadata, "domain": ""}))
        assert told[0] == told[1]
        assert told[0][0] is StatusCode.NOT_FOUND
        assert not (await web.ask("ListHosts", query_pb2.ListHostsRequest())).hosts


async def test_an_ambiguous_name_tells_of_what_is_seen_alone(tmp_path: Path) -> None:
    """Who sees one of two domains of a name means that one."""
    rules = ROLES + '@id("at-a") permit(principal == Caller::"at-a", action in Action::"viewer", resource in Host::"a");'
    async with bed(tmp_path, rules, "sim://a/?domains=1&running=1", "sim://b/?domains=1&running=1&seed=2") as server:
        found = await server.who("at-a").ask("GetDomain", GetDomain(domain=ref("guest-1")))
        assert found.domain.host == "a"
        await refused(server.who("at-a"), "GetDomain", GetDomain(domain=ref("guest-1", "b")), "DOMAIN_NOT_FOUND")


async def test_a_denial_names_its_rule(tmp_path: Path) -> None:
    """Of what it sees and may not do a caller is told which rule forbids it, in the message and in the metadata; nothing has begun."""
    async with bed(tmp_path, BY_LABEL) as server:
        await server.label("guest-1", team="red", stage="prod")
        begun = len(server.core.jobs.ids())
        with pytest.raises(Denied) as denied:
            await server.who("red").ask("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-1")))
        assert (denied.value.reason, denied.value.rule) == ("PERMISSION_DENIED", "no-prod")
        assert "rule 'no-prod' forbids it" in denied.value.message
        assert len(server.core.jobs.ids()) == begun


class Watching:
    """A stream of domains, as a client keeps it."""

    def __init__(self, server: Bed, who: str, token: str = "") -> None:
        self.stream = server.who(who).call("WatchDomains", query_pb2.WatchDomainsRequest(resume_token=token))
        self.held: dict[str, str] = {}
        self.removed: list[str] = []
        self.resets = 0
        self.token = ""

    async def until(self, *names: str) -> None:
        """Read until just these are held."""
        while sorted(self.held.values()) != sorted(names) or not self.token:
            batch = await self.stream.read()
            self.token = batch.resume_token
            if batch.reset:
                self.resets += 1
                self.held.clear()
            for change in batch.changes:
                if change.WhichOneof("change") == "removed":
                    self.removed.append(change.removed.domain.name)
                    self.held.pop(change.removed.domain.uuid, None)
                else:
                    self.held[change.current.uuid] = change.current.name


async def test_a_watch_follows_the_rules(tmp_path: Path) -> None:
    """A right that is lost is a removal, one that is gained an addition; of nothing else is anything told."""
    async with bed(tmp_path, BY_NAME) as server:
        watch = Watching(server, "web")
        await watch.until("guest-1")
        server.rules(BY_NAME.replace("guest-1*", "guest-2*"))
        await watch.until("guest-2")
        server.rules(BY_NAME.replace("guest-1*", "guest-*"))
        await watch.until("guest-1", "guest-2", "guest-3", "guest-4")
        assert (watch.removed, watch.resets) == (["guest-1"], 1)


async def test_a_watch_follows_labels(tmp_path: Path) -> None:
    """A domain that is labelled otherwise goes, and comes; that others are, is not told."""
    async with bed(tmp_path, BY_LABEL) as server:
        watch = Watching(server, "red")
        await watch.until()
        await server.label("guest-1", team="red")
        await watch.until("guest-1")
        await server.label("guest-2", team="blue")
        await server.label("guest-3", team="red")
        await watch.until("guest-1", "guest-3")
        await server.label("guest-1", team="blue")
        await watch.until("guest-3")
        assert watch.removed == ["guest-1"]


async def test_who_sees_in_part_begins_anew_where_it_resumes(tmp_path: Path) -> None:
    """What was removed meanwhile may never have been shown to it; who sees all goes on from where it was, also after the rules have changed."""
    async with bed(tmp_path, BY_NAME) as server:
        some, all_ = Watching(server, "web"), Watching(server, "viewer")
        await some.until("guest-1")
        await all_.until("guest-1", "guest-2", "guest-3", "guest-4")
        await server.who("admin").ask("UndefineDomain", job_pb2.UndefineDomainRequest(domain=ref("guest-4")))
        server.rules(BY_NAME + 'forbid(principal == Caller::"nobody", action, resource);')
        again = Watching(server, "web", some.token)
        await again.until("guest-1")
        assert (again.resets, again.removed) == (1, [])
        goes_on = Watching(server, "viewer", all_.token)
        await until(lambda: not server.core.domains.by_name("guest-4"))
        batch = await goes_on.stream.read()
        assert not batch.reset
        borrowed = Watching(server, "web", all_.token)
        await borrowed.until("guest-1")
        assert borrowed.removed == []


async def test_jobs_are_seen_by_who_sees_their_domain_and_by_whose_they_are(tmp_path: Path) -> None:
    """To others a job does not exist; its request_id is its owner's and the admins' alone."""
    async with bed(tmp_path, BY_NAME) as server:
        options = types_pb2.JobOptions(request_id="secret-word")
        for name in ("guest-1", "guest-2"):
            await server.who("operator").ask("SuspendDomain", job_pb2.SuspendDomainRequest(domain=ref(name), options=options) if name == "guest-1"
                                             else job_pb2.SuspendDomainRequest(domain=ref(name)))  # fmt: skip
        first, second = server.core.jobs.ids()

        async def seen(who: str) -> list[tuple[str, str]]:
            answer = await server.who(who).ask("ListJobs", job_pb2.ListJobsRequest())
            return sorted((job.job_id, job.request_id) for job in answer.jobs)

        assert await seen("operator") == [(first, "secret-word"), (second, "")]
        assert await seen("admin") == [(first, "secret-word"), (second, "")]
        assert await seen("viewer") == [(first, ""), (second, "")]
        assert await seen("web") == [(first, "secret-word")]
        for rpc in ("GetJob", "CancelJob", "WatchJob"):
            with pytest.raises(Denied) as denied:
                await server.who("web").ask(rpc, getattr(job_pb2, f"{rpc}Request")(job_id=second))
            assert denied.value.reason == "JOB_NOT_FOUND"
            assert denied.value.message == f"there is no job {second!r}, or it was forgotten"


async def test_somebody_elses_job_is_cancelled_by_admins_alone(tmp_path: Path) -> None:
    """An operator is told that it is not its own; the owner and an admin may."""
    async with bed(tmp_path, ROLES.replace('== Caller::"operator"', 'in Caller::"operator"')) as server:
        await server.who("one,operator").ask("SuspendDomain", job_pb2.SuspendDomainRequest(domain=ref("guest-1")))
        (job_id,) = server.core.jobs.ids()
        request = job_pb2.CancelJobRequest(job_id=job_id)
        with pytest.raises(Denied) as denied:
            await server.who("two,operator").ask("CancelJob", request)
        assert (denied.value.reason, denied.value.info.metadata["action"]) == ("PERMISSION_DENIED", "ControlOthersJobs")
        for who in ("one,operator", "admin"):
            assert (await server.who(who).ask("CancelJob", request)).outcome == job_pb2.CANCEL_OUTCOME_ALREADY_FINISHED


async def test_a_watch_of_jobs_follows_labels(tmp_path: Path) -> None:
    """Jobs go with the label of their domain, although nothing of the job has changed."""
    async with bed(tmp_path, BY_LABEL) as server:
        await server.label("guest-1", team="red")
        ids = set(server.core.jobs.ids())
        stream = server.who("red").call("WatchJobs", job_pb2.WatchJobsRequest())
        held: set[str] = set()

        async def until_held(wanted: set[str]) -> None:
            while held != wanted:
                for change in (await stream.read()).changes:
                    held.discard(change.removed.job_id)
                    if change.HasField("current"):
                        held.add(change.current.job_id)

        await until_held(ids)
        await server.label("guest-1", team="blue")
        await until_held(set())
        await server.label("guest-1", team="red")
        await until_held(set(server.core.jobs.ids()))


async def test_asking_again_with_a_request_id_needs_the_right_anew(tmp_path: Path) -> None:
    """A caller that has lost it is not told of the job that it began."""
    async with bed(tmp_path, BY_NAME) as server:
        request = job_pb2.SuspendDomainRequest(domain=ref("guest-1"), options=types_pb2.JobOptions(request_id="once"))
        await server.who("web").ask("SuspendDomain", request)
        await server.who("web").ask("SuspendDomain", request)
        assert len(server.core.jobs.ids()) == 1
        server.rules(
            BY_NAME
            + '@id("frozen") forbid(principal == Caller::"web", action == Action::"SuspendDomain", resource) when { resource.name like "guest*" };'
        )
        with pytest.raises(Denied) as denied:
            await server.who("web").ask("SuspendDomain", request)
        assert denied.value.rule == "frozen"


async def test_a_definition_is_checked_by_its_old_and_its_new_identity(tmp_path: Path) -> None:
    """A name that is not one's own is not taken, nor is a domain taken over that has such a name; nor by renaming."""
    async with bed(tmp_path, BY_NAME) as server:
        web, other = server.who("web"), server.core.domains.by_name("guest-2")[0]
        await web.ask("DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("guest-1b", UUID, "")))
        for request in (
            job_pb2.DefineDomainRequest(xml=XML.format("mine", UUID, "")),
            job_pb2.DefineDomainRequest(xml=XML.format("guest-1b", other.uuid, "")),
        ):
            with pytest.raises(Denied) as denied:
                await web.ask("DefineDomain", request)
            assert denied.value.reason == "PERMISSION_DENIED"
            assert "guest-2" not in denied.value.message
        await refused(web, "RenameDomain", job_pb2.RenameDomainRequest(domain=ref("guest-1b"), name="guest-3"))
        await web.ask("RenameDomain", job_pb2.RenameDomainRequest(domain=ref("guest-1b"), name="guest-1c"))


async def test_a_name_that_an_unseen_domain_has_is_refused_without_telling_whose_it_is(tmp_path: Path) -> None:
    """The hypervisor's own words would tell its uuid."""
    rules = BY_NAME + 'forbid(principal == Caller::"web", action, resource) when { resource is Domain && resource.hasTag("hidden") };'
    async with bed(tmp_path, rules) as server:
        await server.label("guest-1", hidden="yes")
        with pytest.raises(Denied) as denied:
            await server.who("web").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("guest-1", UUID, "")))
        assert (denied.value.reason, dict(denied.value.info.metadata)) == ("ALREADY_EXISTS", {"host": "a"})


BEFORE = "<domainsnapshot><name>before</name></domainsnapshot>"
LABELLER = (
    BY_LABEL
    + """
@id("defines") permit(principal == Caller::"red", action == Action::"DefineDomain", resource);
"""
)


async def test_labels_are_set_by_who_may_set_labels(tmp_path: Path) -> None:
    """Neither as metadata, under whatever namespace they are said to be, nor in a definition, nor by leaving them out of one."""
    async with bed(tmp_path, LABELLER) as server:
        await server.label("guest-1", team="red")
        entry = server.core.domains.by_name("guest-1")[0]
        own = f'<v:labels xmlns:v="{LABELS_URI}"><v:label name="team" value="blue"/></v:labels>'
        with_labels = XML.format("guest-1", entry.uuid, f"<metadata>{own}</metadata>")
        keeping = with_labels.replace("blue", "red")
        attempts: list[tuple[str, Any]] = [
            (
                "SetMetadata",
                job_pb2.SetMetadataRequest(
                    domain=ref("guest-1"), element=types_pb2.MetadataElement(uri=LABELS_URI, key="v", xml=labelled(team="blue"))
                ),
            ),
            ("SetMetadata", job_pb2.SetMetadataRequest(domain=ref("guest-1"), element=types_pb2.MetadataElement(uri=LABELS_URI))),
            ("SetMetadata", job_pb2.SetMetadataRequest(domain=ref("guest-1"), element=types_pb2.MetadataElement(uri="urn:mine", key="v", xml=own))),
            ("DefineDomain", job_pb2.DefineDomainRequest(xml=with_labels)),
            ("DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("guest-1", entry.uuid, ""))),
            (
                "DefineDomain",
                job_pb2.DefineDomainRequest(xml=keeping.replace("</metadata>", own + "</metadata>")),
            ),
        ]
        for rpc, request in attempts:
            with pytest.raises(Denied) as denied:
                await server.who("red").ask(rpc, request)
            assert (denied.value.reason, denied.value.info.metadata["action"]) == ("PERMISSION_DENIED", "SetLabels"), rpc
        await server.who("red").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=keeping))
        await server.who("red").ask("SetMetadata", job_pb2.SetMetadataRequest(domain=ref("guest-1"), title="mine"))
        await server.who("admin").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=with_labels))


async def test_a_snapshot_brings_labels_back_for_who_may_set_labels(tmp_path: Path) -> None:
    """Where rules are about labels, the definition of then is reverted to by who may set them; where none is, by any operator."""
    revert = job_pb2.RevertToSnapshotRequest(domain=ref("guest-1"), name="before")
    async with bed(tmp_path, LABELLER) as server:
        await server.label("guest-1", team="red")
        await server.who("admin").ask("CreateSnapshot", job_pb2.CreateSnapshotRequest(domain=ref("guest-1"), xml=BEFORE))
        with pytest.raises(Denied) as denied:
            await server.who("red").ask("RevertToSnapshot", revert)
        assert (denied.value.reason, denied.value.info.metadata["action"]) == ("PERMISSION_DENIED", "SetLabels")
        await server.who("admin").ask("RevertToSnapshot", revert)
    async with bed(tmp_path / "other", ROLES) as server:
        await server.who("operator").ask("CreateSnapshot", job_pb2.CreateSnapshotRequest(domain=ref("guest-1"), xml=BEFORE))
        await server.who("operator").ask("RevertToSnapshot", revert)


async def test_what_reaches_outside_needs_a_right_of_its_own(tmp_path: Path) -> None:
    """A definition or a device that does is refused in words that say what; what an admin gave a domain may stay when others change it."""
    rules = (
        ROLES
        + """
    permit(principal == Caller::"maker", action in [Action::"viewer", Action::"DefineDomain", Action::"AttachDevice"], resource);
    """
    )
    async with bed(tmp_path, rules) as server:
        hostdev = "<devices><hostdev mode='subsystem' type='pci'/></devices>"
        disk = "<disk type='file'><source file='/etc/shadow'/><target dev='vdx'/></disk>"
        asked: list[tuple[str, Any, str]] = [
            ("DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("new", UUID, hostdev)), "no rule permits it (<hostdev>)"),
            ("AttachDevice", job_pb2.AttachDeviceRequest(domain=ref("guest-1"), xml=disk), "(file='/etc/shadow' of <source>)"),
        ]
        for rpc, request, words in asked:
            denied = await refused(server.who("maker"), rpc, request)
            assert denied.info.metadata["action"] == "ReachOutside"
            assert denied.message.endswith(words)
        await server.who("admin").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("new", UUID, hostdev)))
        await until(lambda: (found := server.core.domains.by_name("new")) and found[0].config is not None)
        kept = XML.format("new", UUID, hostdev).replace("1024", "2048")
        await server.who("maker").ask("DefineDomain", job_pb2.DefineDomainRequest(xml=kept))


async def test_a_job_in_the_way_that_is_not_seen_has_no_name(tmp_path: Path) -> None:
    """Who waits for what others hold is told that it is held, and neither by which job nor by whom."""
    async with bed(tmp_path, BY_NAME, "sim://a/?domains=4&running=4&save_seconds=1000") as server:
        server.core.hosts["a"].budget.limit = 1
        save = server.who("operator").call("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-2")))
        await save.read()
        await until(lambda: server.core.jobs.counts == (1, 0))
        other = server.core.jobs.ids()[0]
        waiting = server.who("web").call("SuspendDomain", job_pb2.SuspendDomainRequest(domain=ref("guest-1")))
        while not (job := (await waiting.read()).job).holders:
            pass
        assert other not in str(job)
        assert "operator" not in str(job)
        assert [holder.foreign_text for holder in job.holders] == ["somebody whose work you may not see"]
        save.cancel()
        waiting.cancel()


async def test_page_tokens_tell_nothing_and_are_their_callers(tmp_path: Path) -> None:
    """They name rows that were passed over, and nobody can read them; another caller's is refused."""
    async with bed(tmp_path, BY_NAME.replace("guest-1*", "guest-[13]*").replace('like "guest-[13]*"', 'like "guest-3*"')) as server:
        first = await server.who("viewer").ask("ListDomains", ListDomains(page_size=1))
        await refused(server.who("web"), "ListDomains", ListDomains(page_size=1, page_token=first.next_page_token), "PAGE_TOKEN_INVALID")


async def test_what_a_save_image_holds_is_judged_by_whose_it_is(tmp_path: Path) -> None:
    """The file is read first; who may not see that domain's image is told no more than that."""
    rules = BY_NAME + 'permit(principal == Caller::"web", action in Action::"UseFile", resource);'
    async with bed(tmp_path, rules) as server:
        await server.who("admin").ask("SaveDomain", job_pb2.SaveDomainRequest(domain=ref("guest-2"), path="/images/two"))
        request = snapshot_pb2.GetSaveImageRequest(host="a", path="/images/two")
        assert (await server.who("admin").ask("GetSaveImage", request)).domain.name == "guest-2"
        assert "guest-2" not in (await refused(server.who("web"), "GetSaveImage", request)).message
