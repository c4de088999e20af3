"""Ways around the rules that were found by trying: each is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.server.policed import ROLES, bed, labelled, policy, ref
from tests.server.test_policy import BY_LABEL, UUID, XML, refused
from virtrpc.v1 import job_pb2, query_pb2, spec_pb2, types_pb2
from virtrpc_server.caller import Caller, Way
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.labels import LABELS_URI

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
