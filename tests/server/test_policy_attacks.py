"""Ways around the rules that were found by trying: each is refused."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import duration_pb2
from msgspec.structs import replace

from tests.server.policed import ROLES, Bed, bed, labelled, policy, ref
from tests.server.test_policy import BY_LABEL, UUID, XML, refused
from tests.server.world import until
from virtrpc.v1 import job_pb2, query_pb2, snapshot_pb2, spec_pb2, types_pb2
from virtrpc_server.caller import Caller, Way
from virtrpc_server.destinations import same_daemon
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.labels import LABELS_URI
from virtrpc_server.records import JobState
from virtrpc_server.verbs import Kind

OWN = f'<v:labels xmlns:v="{LABELS_URI}"><v:label name="team" value="{{}}"/></v:labels>'
MERGE = "xmlns:m='urn:virtrpc:merge:1'"
DEFINER = BY_LABEL + 'permit(principal == Caller::"red", action == Action::"DefineDomain", resource);'


@pytest.mark.parametrize(
    "overlay",
    [
        f"<domain><metadata>{OWN.format('blue')}</metadata></domain>",
        f"<domain {MERGE}><metadata m:action='remove'/></domain>",
        f"<domain {MERGE}><metadata><v:labels xmlns:v='{LABELS_URI}' m:action='remove'/></metadata></domain>",
    ],
)
async def test_an_overlay_changes_no_labels(tmp_path: Path, overlay: str) -> None:
    """It is merged into the definition that there is, and what it makes of the labels counts."""
    async with bed(tmp_path, DEFINER) as server:
        await server.label("guest-1", team="red")
        spec = spec_pb2.DomainSpec(name="guest-1", xml_overlay=overlay)
        denied = await refused(server.who("red"), "DefineDomain", job_pb2.DefineDomainRequest(spec=spec))
        assert denied.info.metadata["action"] == "SetLabels"
        harmless = spec_pb2.DomainSpec(name="guest-1", xml_overlay="<domain><metadata><x:a xmlns:x='urn:x'/></metadata></domain>")
        await server.who("red").ask("DefineDomain", job_pb2.DefineDomainRequest(spec=harmless))


async def test_labels_that_are_about_to_be_set_are_not_undone(tmp_path: Path) -> None:
    """A definition that would wait behind the job that sets them is held against those, and not only against those that there are."""
    async with bed(tmp_path, DEFINER, "sim://a/?domains=1&running=1&save_seconds=1000") as server:
        await server.label("guest-1", team="red")
        (entry,) = server.core.domains.by_name("guest-1")
        save = server.who("admin").call("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-1")))
        await save.read()
        element = types_pb2.MetadataElement(uri=LABELS_URI, key="v", xml=labelled(team="blue"))
        coming = server.who("admin").call("SetMetadata", job_pb2.SetMetadataRequest(domain=ref("guest-1"), element=element))
        await coming.read()
        xml = XML.format("guest-1", entry.uuid, f"<metadata>{OWN.format('red')}</metadata>")
        denied = await refused(server.who("red"), "DefineDomain", job_pb2.DefineDomainRequest(xml=xml))
        assert denied.info.metadata["action"] == "SetLabels"
        coming.cancel()
        save.cancel()


async def test_labels_in_a_second_metadata_are_none(tmp_path: Path) -> None:
    """libvirt keeps the first <metadata> alone."""
    async with bed(tmp_path, DEFINER) as server:
        await server.label("guest-1", team="red")
        (entry,) = server.core.domains.by_name("guest-1")
        xml = XML.format("guest-1", entry.uuid, f"<metadata/><metadata>{OWN.format('red')}</metadata>")
        denied = await refused(server.who("red"), "DefineDomain", job_pb2.DefineDomainRequest(xml=xml))
        assert denied.info.metadata["action"] == "SetLabels"


async def test_a_domain_whose_labels_were_not_read_yet_waits_for_them(tmp_path: Path) -> None:
    """What is forbidden by a label is not done to it meanwhile; it is not called gone, and whoever may do everything need not wait."""
    rules = ROLES + 'forbid(principal == Caller::"operator", action, resource) when { resource is Domain && resource.hasTag("prod") };'
    async with bed(tmp_path, rules) as server:
        await server.label("guest-1", prod="yes")
        domains = server.core.domains
        (entry,) = domains.by_name("guest-1")
        unread = replace(entry, config=None)
        domains.by_name = lambda name, host="": [unread] if name == "guest-1" else []  # type: ignore[method-assign] # as at a start
        await refused(server.who("operator"), "StartDomain", job_pb2.StartDomainRequest(domain=ref("guest-1")), "HOST_UNREACHABLE")
        assert (await server.who("admin").ask("GetDomain", query_pb2.GetDomainRequest(domain=ref("guest-1")))).domain.name == "guest-1"


@pytest.mark.parametrize("uri", ["urn:virtrpc:labels&#58;1", "urn:x<y", "urn:a'b", f" {LABELS_URI}", ""])
async def test_a_namespace_that_libvirt_would_write_as_another_is_refused(tmp_path: Path, uri: str) -> None:
    """It writes & and < of one as they are: they would make the labels' namespace, or a definition that nobody can read."""
    async with bed(tmp_path, DEFINER) as server:
        element = types_pb2.MetadataElement(uri=uri, key="v", xml=labelled(team="red"))
        request = job_pb2.SetMetadataRequest(domain=ref("guest-1"), element=element)
        await refused(server.who("operator"), "SetMetadata", request, "INVALID_ARGUMENT")


@pytest.mark.parametrize("name", ["web<x/>-of-others", "<x>others</x>", "web</name><name>others"])
async def test_a_name_is_what_libvirt_takes_for_it(tmp_path: Path, name: str) -> None:
    """Elements inside of a name, whose texts it counts, and a second name are refused."""
    rules = ROLES + 'permit(principal == Caller::"web", action in Action::"admin", resource) when { resource is Domain && resource.name == "web" };'
    async with bed(tmp_path, rules) as server:
        await refused(server.who("web"), "DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format(name, UUID, "")), "XML_INVALID")
        await refused(server.who("web"), "DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format(" web", UUID, "")))


async def test_a_definition_for_another_host_is_held_against_the_roots_there(tmp_path: Path) -> None:
    """Files that a migration's definition names lie where the domain goes."""
    rules = ROLES + 'permit(principal == Caller::"mover", action in [Action::"viewer", Action::"MigrateDomain"], resource);'
    async with bed(tmp_path, rules, "sim://a/?domains=1&running=1", "sim://b/?domains=0", roots_of_b=(Path("/elsewhere"),)) as server:
        (entry,) = server.core.domains.by_name("guest-1", "a")
        disk = "<devices><disk type='file'><source file='/images/x'/><target dev='vdb'/></disk></devices>"
        settings = types_pb2.MigrationSettings(host="b", destination_xml=XML.format("guest-1", entry.uuid, disk))
        request = job_pb2.MigrateDomainRequest(domain=ref("guest-1"), settings=settings)
        denied = await refused(server.who("mover"), "MigrateDomain", request)
        assert denied.info.metadata["action"] == "ReachOutside"


async def test_a_restored_domain_is_called_as_it_was_asked_for(tmp_path: Path) -> None:
    """Another name in the definition that is given with an image is refused: rights were judged by the one that was said."""
    async with bed(tmp_path) as server:
        request = job_pb2.RestoreDomainRequest(host="a", uuid=UUID, name="mine", path="/images/x", xml=XML.format("others", UUID, ""))
        await refused(server.who("admin"), "RestoreDomain", request, "INVALID_ARGUMENT")


def test_a_new_token_makes_no_new_caller() -> None:
    """What was decided for the same names holds; else each renewal would cost a verdict for every domain, and memory."""
    decisions = Decisions(policy('permit(principal, action, resource) when { resource is Domain && resource.name == "d" };'))
    resource = Resource("a", UUID, "d")

    def bearer(until: float) -> Caller:
        return Caller("jwt:i#s", Way.TOKEN, ("jwt:i#s",), until=until)

    decisions.learn(bearer(1.0), "GetDomain", [resource])
    assert decisions.unknown(bearer(2.0), "GetDomain", [resource]) == []


HIDDEN = (
    ROLES
    + """
@id("web") permit(principal == Caller::"web", action in Action::"admin", resource);
@id("unseen") forbid(principal == Caller::"web", action == Action::"GetDomain", resource) when { resource is Domain && resource.name == "guest-2" };
"""
)


async def test_a_definition_that_was_not_read_yet_is_not_replaced(tmp_path: Path) -> None:
    """Which labels it has is not known, so that a new one could lose them: the answer is to try again, but to who may set labels."""
    rules = ROLES + 'permit(principal == Caller::"definer", action == Action::"DefineDomain", resource);'
    rules += '@id("b") permit(principal == Caller::"definer", action in Action::"viewer", resource);'
    rules += 'forbid(principal == Caller::"nobody", action, resource) when { resource is Domain && resource.hasTag("x") };'
    async with bed(tmp_path, rules) as server:
        await server.label("guest-1", team="red")
        (entry,) = server.core.domains.by_name("guest-1")
        known, unread = server.core.domains.get, replace(entry, config=None)
        server.core.domains.get = lambda key: unread if key == entry.key else known(key)  # type: ignore[method-assign] # as at a start
        request = job_pb2.DefineDomainRequest(xml=XML.format("guest-1", entry.uuid, ""))
        await refused(server.who("definer"), "DefineDomain", request, "HOST_UNREACHABLE")
        server.core.domains.get = known  # type: ignore[method-assign] # as it was
        assert (await refused(server.who("definer"), "DefineDomain", request)).info.metadata["action"] == "SetLabels"


async def test_what_is_not_seen_is_not_replaced_and_its_image_is_not_read(tmp_path: Path) -> None:
    """Nor when every rule but the one about seeing permits it."""
    async with bed(tmp_path, HIDDEN) as server:
        (entry,) = server.core.domains.by_name("guest-2")
        await server.who("admin").ask("SaveDomain", job_pb2.SaveDomainRequest(domain=ref("guest-2"), path="/images/two"))
        asked: list[tuple[str, Any]] = [
            ("DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("guest-2", entry.uuid, ""))),
            ("RestoreDomain", job_pb2.RestoreDomainRequest(host="a", uuid=entry.uuid, name="guest-2", path="/images/two")),
            ("DefineSaveImage", job_pb2.DefineSaveImageRequest(host="a", path="/images/two", xml=XML.format("guest-2", entry.uuid, ""))),
            ("GetSaveImage", snapshot_pb2.GetSaveImageRequest(host="a", path="/images/two")),
        ]
        for rpc, request in asked:
            denied = await refused(server.who("web"), rpc, request)
            assert denied.rule == "unseen", rpc


TWO = ("sim://a/?domains=1&running=1&migrate_seconds=0.01", "sim://b/?domains=0")
MOVER = (
    BY_LABEL
    + """
@id("moves") permit(principal == Caller::"mover", action in [Action::"viewer", Action::"MigrateDomain"], resource)
unless { resource is Domain && resource in Host::"b" && resource.name == "kept" };
"""
)


def moving(name: str = "", **settings: Any) -> job_pb2.MigrateDomainRequest:
    """A migration of guest-1 on a, to b unless it is said where."""
    return job_pb2.MigrateDomainRequest(
        domain=ref("guest-1", "a"), settings=types_pb2.MigrationSettings(destination_name=name, **(settings or {"host": "b"}))
    )


async def test_a_destination_has_rules_of_its_own(tmp_path: Path) -> None:
    """Under which name a domain may come there, and that what is stored there under its uuid is another's: the same as for a definition."""
    async with bed(tmp_path, MOVER, *TWO) as server:
        mover = server.who("mover")
        await refused(mover, "MigrateDomain", moving("kept"))
        (entry,) = server.core.domains.by_name("guest-1", "a")
        labels = f"<metadata>{OWN.format('red')}</metadata>"
        await server.who("admin").ask("DefineDomain", job_pb2.DefineDomainRequest(host="b", xml=XML.format("guest-1", entry.uuid, labels)))
        await until(lambda: (found := server.core.domains.get(("b", entry.uuid))) and found.config is not None)
        denied = await refused(mover, "MigrateDomain", moving())
        assert denied.info.metadata["action"] == "SetLabels"
        assert "host b has a definition of it with other labels" in denied.message
        await server.who("admin").ask("MigrateDomain", moving())
    rules = MOVER + '@id("b-shut") forbid(principal == Caller::"mover", action == Action::"MigrateDomain", resource in Host::"b");'
    async with bed(tmp_path / "shut", rules, *TWO) as server:
        assert (await refused(server.who("mover"), "MigrateDomain", moving())).rule == "b-shut"


def test_a_hosts_own_address_is_that_host() -> None:
    """However it is written; another port by the same transport, another path or another hypervisor is another daemon."""
    ours = "qemu+tls://kvm.lab/system"
    for same in ("qemu+tls://KVM.lab./system", "qemu+tcp://kvm.lab:16509/system", "qemu+tls://other@kvm.lab/system"):
        assert same_daemon(same, ours), same
    for other in (
        "qemu+tls://kvm.lab:5000/system",
        "qemu+tls://kvm.lab/session",
        "xen+tls://kvm.lab/system",
        "qemu+tls://kvm2.lab/system",
        "qemu:///system",
    ):
        assert not same_daemon(other, ours), other
    assert not same_daemon("qemu:///system", "qemu:///system")


async def test_a_uri_is_no_way_around_a_hosts_rules(tmp_path: Path) -> None:
    """A configured host that is named by its address is that host."""
    rules = MOVER + '@id("b-shut") forbid(principal == Caller::"mover", action == Action::"MigrateDomain", resource in Host::"b");'
    async with bed(tmp_path, rules, *TWO) as server:
        config = server.core.hosts["b"].config
        server.core.hosts["b"].config = dataclasses.replace(config, migration_uri="qemu+tls://kvm.lab/system")
        denied = await refused(server.who("mover"), "MigrateDomain", moving(uri="qemu+tcp://kvm.lab/system"))
        assert denied.rule == "b-shut"


async def test_a_host_counts_what_its_caller_sees(tmp_path: Path) -> None:
    """As lists do: in all, and of those that run."""
    rules = (
        ROLES
        + """
    @id("some") permit(principal == Caller::"some", action in Action::"viewer", resource) when { resource is Host || resource.name like "guest-*2" };
    """
    )
    async with bed(tmp_path, rules, "sim://a/?domains=250&running=240") as server:
        for who in ("some", "viewer"):
            active = await server.who(who).ask(
                "ListDomains", query_pb2.ListDomainsRequest(filter=types_pb2.DomainFilter(active=True), page_size=1000)
            )
            counts = (len(await server.who(who).names()), len(active.domains))
            told = [
                (await server.who(who).ask("GetHost", query_pb2.GetHostRequest())).host,
                *(await server.who(who).ask("ListHosts", query_pb2.ListHostsRequest())).hosts,
            ]
            every = (250, 240) if who == "viewer" else (25, 24)
            assert {(host.domains, host.active_domains) for host in told} == {every}
            assert counts[1] == every[1]


def job_is(server: Bed, job_id: str, state: JobState) -> bool:
    """Whether a job has come so far."""
    return server.core.jobs.known(job_id).state is state


WORDS = ("guest-2", "operator", "SaveDomain", "managed", "why-not")


async def test_an_error_tells_nothing_of_who_was_in_the_way(tmp_path: Path) -> None:
    """Neither refused at once nor after waiting, in no stream and no list: by no name, uuid, caller, kind, reason or job id."""
    rules = (
        ROLES + 'permit(principal == Caller::"web", action in Action::"admin", resource) when { resource is Domain && resource.name == "guest-1" };'
    )
    async with bed(tmp_path, rules, "sim://a/?domains=4&running=4&save_seconds=1000") as server:
        host = server.core.hosts["a"]
        (hidden,) = server.core.domains.by_name("guest-2")
        for slots in (host.budget, host.limits[Kind.SAVE]):
            slots.limit, usual = 1, slots.limit
            operator = server.who("operator")
            operator._who = (*operator._who, ("virtrpc-reason", "why-not"))  # type: ignore[assignment] # a pair more
            save = operator.call("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-2")))
            job_id = (await save.read()).job.job_id
            await until(partial(job_is, server, job_id, JobState.RUNNING))
            for wait, reason in ((0, "BUSY"), (0.05, "WAIT_TIMEOUT")):
                options = types_pb2.JobOptions(wait_timeout=duration_pb2.Duration(nanos=int(wait * 1e9)))
                request = job_pb2.ManagedSaveDomainRequest(domain=ref("guest-1"), options=options)
                denied = await refused(server.who("web"), "ManagedSaveDomain", request, reason)
                told = denied.message + str(denied.info)
                assert "held by somebody whose work you may not see" in denied.message
                assert not [word for word in (*WORDS, hidden.uuid, job_id) if word in told.replace("ManagedSaveDomain", "")]
            jobs = (await server.who("web").ask("ListJobs", job_pb2.ListJobsRequest())).jobs
            for job in jobs:
                told = str([job.error, *job.holders])
                assert not [word for word in (*WORDS, hidden.uuid, job_id) if word in told]
            await server.who("admin").ask("CancelJob", job_pb2.CancelJobRequest(job_id=job_id))
            await until(partial(job_is, server, job_id, JobState.CANCELLED))
            slots.limit = usual


async def test_what_a_domain_is_called_now_is_not_told_to_who_had_a_job_on_it(tmp_path: Path) -> None:
    """Who began a job on what it does not see any more is told by the name of then that it may do no more."""
    rules = (
        ROLES
        + 'permit(principal == Caller::"web", action in Action::"operator", resource) when { resource is Domain && resource.name == "guest-4" };'
    )
    async with bed(tmp_path, rules) as server:
        request = job_pb2.SetMetadataRequest(domain=ref("guest-4"), title="t", options=types_pb2.JobOptions(request_id="once"))
        await server.who("web").ask("SetMetadata", request)
        (job_id,) = server.core.jobs.ids()
        await server.who("admin").ask("RenameDomain", job_pb2.RenameDomainRequest(domain=ref("guest-4"), name="secret"))
        for rpc, asked in (("SetMetadata", request), ("CancelJob", job_pb2.CancelJobRequest(job_id=job_id))):
            denied = await refused(server.who("web"), rpc, asked)
            assert "secret" not in denied.message + str(denied.info)


async def test_labels_of_a_running_domain_do_not_come_to_count(tmp_path: Path) -> None:
    """An old image brings old labels back, which count once the stored definition is gone or left behind: that needs the right to set them."""
    rules = (
        BY_LABEL
        + """
    permit(principal == Caller::"blue", action in [Action::"viewer", Action::"UndefineDomain", Action::"MigrateDomain"], resource)
    when { resource is Domain && resource.hasTag("team") && resource.getTag("team") == "blue" };
    """
    )
    async with bed(tmp_path, rules, *TWO) as server:
        await server.label("guest-1", team="red")
        element = types_pb2.MetadataElement(uri=LABELS_URI, key="v", xml=labelled(team="blue"))
        change = job_pb2.SetMetadataRequest(domain=ref("guest-1"), element=element, scope=types_pb2.CHANGE_SCOPE_CONFIG)
        await server.who("admin").ask("SetMetadata", change)
        (entry,) = server.core.domains.by_name("guest-1")
        await until(lambda: server.core.sight.resource(server.core.domains.get(entry.key) or entry).labels == (("team", "blue"),))
        asked: list[tuple[str, Any]] = [("UndefineDomain", job_pb2.UndefineDomainRequest(domain=ref("guest-1"))), ("MigrateDomain", moving())]
        for rpc, request in asked:
            denied = await refused(server.who("blue"), rpc, request)
            assert denied.info.metadata["action"] == "SetLabels"
            assert "it runs with other labels than are stored" in denied.message
        await server.label("guest-1", team="blue")
        await server.who("blue").ask("UndefineDomain", asked[0][1])


async def test_labels_are_not_shed_where_definitions_need_them(tmp_path: Path) -> None:
    """Who may undefine and define could make a domain anew without its labels: a rule that forbids definitions without prevents it."""
    makes = BY_LABEL + 'permit(principal == Caller::"red", action in [Action::"DefineDomain", Action::"UndefineDomain"], resource);'
    labels = '@id("labelled") forbid(principal, action in [Action::"DefineDomain", Action::"CreateDomain", Action::"RestoreDomain"], resource) '
    unless = 'unless { resource is Domain && resource.hasTag("team") };'
    async with bed(tmp_path, makes + labels + unless) as server:
        await server.label("guest-4", team="red")
        (entry,) = server.core.domains.by_name("guest-4")
        red = server.who("red")
        await red.ask("UndefineDomain", job_pb2.UndefineDomainRequest(domain=ref("guest-4")))
        assert (await refused(red, "DefineDomain", job_pb2.DefineDomainRequest(xml=XML.format("guest-4", entry.uuid, "")))).rule == "labelled"
        own = XML.format("guest-4", entry.uuid, f"<metadata>{OWN.format('red')}</metadata>")
        assert (await refused(red, "DefineDomain", job_pb2.DefineDomainRequest(xml=own))).info.metadata["action"] == "SetLabels"
