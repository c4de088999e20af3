"""Verbs as they come in from the wire, below the transport: how a repeated request finds its job."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.server.world import World, all_seen, virtual
from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.operations import SetUserPassword
from virtrpc_server.acceptance import Acceptance, Context, Updates
from virtrpc_server.caller import caller_name
from virtrpc_server.errors import Refusal
from virtrpc_server.fingerprints import fingerprint
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.host_files import HostFiles
from virtrpc_server.lookup import Lookup
from virtrpc_server.migration import Migrations
from virtrpc_server.orders import agent, definition
from virtrpc_server.policy.using import Files

ONCE = types_pb2.JobOptions(request_id="r1")
DEFINITION = "<domain type='sim'><name>new</name><memory unit='MiB'>64</memory><vcpu>1</vcpu></domain>"


class Call:
    """As much of an RPC as the verbs use."""

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Nobody reads it."""


CALL = cast("Context", Call())


def acceptance(world: World) -> Acceptance:
    """What the services give their verbs to."""
    lookup = Lookup(world.hosts, world.domains)
    files = Files(lookup.sight, HostFiles(world.hosts))
    return Acceptance(world.jobs, lookup, all_seen(world.jobs), Heartbeats(), lambda _host: (), files)


async def last(updates: Updates) -> types_pb2.Job:
    """The job as its stream's last message tells it."""
    # The stream hands its messages over as bytes.
    messages = [types_pb2.JobUpdate.FromString(cast("bytes", update)) async for update in updates]
    return messages[-1].job


@virtual
async def test_a_request_is_repeated_after_its_domain_is_gone() -> None:
    """An undefine whose answer was lost is told again; another request under its id is refused as such, and without an id there is no domain."""
    async with World() as world:
        accept, domain = acceptance(world), types_pb2.DomainRef(uuid=world.guest(4).uuid)
        request = job_pb2.UndefineDomainRequest(domain=domain, options=ONCE)
        first = await last(accept.existing(request, CALL, definition.undefine))
        assert not world.domains.by_name("guest-4")
        again = await last(accept.existing(request, CALL, definition.undefine))
        assert (again.job_id, again.state) == (first.job_id, types_pb2.JOB_STATE_SUCCEEDED)
        with pytest.raises(Refusal, match="REQUEST_ID_REUSED"):
            await last(accept.existing(job_pb2.UndefineDomainRequest(domain=domain, nvram=True, options=ONCE), CALL, definition.undefine))
        with pytest.raises(Refusal, match="DOMAIN_NOT_FOUND"):
            await last(accept.existing(job_pb2.UndefineDomainRequest(domain=domain), CALL, definition.undefine))


@virtual
async def test_a_migration_is_repeated_after_its_domain_has_moved() -> None:
    """By name and host, and under another name at its destination."""
    async with World("sim://a/?domains=4&running=2", "sim://b/?domains=0") as world:
        accept, make = acceptance(world), Migrations(world.hosts, ()).order
        settings = types_pb2.MigrationSettings(host="b", destination_name="moved", persist_destination=True, undefine_source=True)
        domain = types_pb2.DomainRef(host="a", name="guest-1")
        request = job_pb2.MigrateDomainRequest(domain=domain, settings=settings, options=ONCE)
        first = await last(accept.migrating(request, CALL, make))
        assert first.migrate_domain_result.name == "moved"
        assert not world.domains.by_name("guest-1", "a")
        assert (await last(accept.migrating(request, CALL, make))).job_id == first.job_id


@virtual
async def test_a_definition_is_repeated() -> None:
    """Also where each call would give the domain a uuid of its own."""
    async with World() as world:
        accept = acceptance(world)
        request = job_pb2.DefineDomainRequest(host="a", xml=DEFINITION, options=ONCE)
        first = await last(accept.defining(request, CALL, definition.define))
        again = await last(accept.defining(request, CALL, definition.define))
        assert (again.job_id, again.define_domain_result.created) == (first.job_id, True)


@virtual
async def test_what_an_older_journal_has_of_a_password_is_known_again() -> None:
    """A job whose fingerprint was kept before such ones were made slow: its request attaches, and one with another password is refused."""
    async with World() as world:
        accept, domain = acceptance(world), types_pb2.DomainRef(uuid=world.guest().uuid)
        request = job_pb2.SetUserPasswordRequest(domain=domain, user="root", password="sesame", options=ONCE)
        operation = SetUserPassword(uuid=world.guest().uuid, user="root", password="sesame")
        first = await world.run(operation, owner=caller_name(), request_id="r1", fingerprint=fingerprint(request))
        assert first.secret
        assert (await last(accept.existing(request, CALL, agent.set_user_password))).job_id == first.id
        request.password = "other"
        with pytest.raises(Refusal, match="REQUEST_ID_REUSED"):
            await last(accept.existing(request, CALL, agent.set_user_password))
