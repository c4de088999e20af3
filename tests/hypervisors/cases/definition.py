"""Cases: definitions, devices and sizes."""

from __future__ import annotations

from tests.e2e.server import ended, eventually
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc import NotFound
from virtrpc.v1 import types_pb2 as t

KIB = 1 << 10
MIB = 1 << 20


@case("JobService/DefineDomain", lambda s: ended(s.client.define_domain(host=s.host, xml=s.new()[2])))
async def define(s: Stage) -> None:
    """A definition makes a domain that is off and persistent."""
    name, uuid, xml = s.new()
    job = await s.done(s.client.define_domain(host=s.host, xml=xml))
    made = await s.client.get_domain(f"{s.host}/{name}")
    assert (made.uuid, made.state, made.persistent, job.define_domain_result.created) == (uuid, t.DOMAIN_STATE_SHUTOFF, True, True)
    await s.forget(f"{s.host}/{uuid}")


@case("JobService/UndefineDomain", lambda s: ended(s.client.undefine_domain(s.ref)))
async def undefine(s: Stage) -> None:
    """An undefined domain that is off is gone."""
    _, uuid, xml = s.new()
    await s.done(s.client.define_domain(host=s.host, xml=xml))
    await s.done(s.client.undefine_domain(f"{s.host}/{uuid}"))
    try:
        await s.client.get_domain(f"{s.host}/{uuid}")
    except NotFound:
        return
    raise AssertionError("it is still there")


@case("JobService/CreateDomain", lambda s: ended(s.client.create_domain(host=s.host, xml=s.new()[2])))
async def create(s: Stage) -> None:
    """A domain runs at once."""
    _, uuid, xml = s.new()
    await s.done(s.client.create_domain(host=s.host, xml=xml, options=LONG))
    assert (await s.client.get_domain(f"{s.host}/{uuid}")).active
    await s.forget(f"{s.host}/{uuid}")


@case("JobService/AttachDevice", lambda s: ended(s.client.attach_device(s.ref, xml=s.kind.disk_xml("vdb"))))
async def attach_device(s: Stage) -> None:
    """A disk is plugged into the stored definition, and shows there."""
    ref = await s.off()
    await s.done(s.client.attach_device(ref, xml=s.kind.disk_xml("vdb"), scope=t.CHANGE_SCOPE_CONFIG))
    assert "vdb" in (await s.client.get_domain_xml(ref, inactive=True)).xml
    if s.has("DetachDevice"):
        await s.done(s.client.detach_device(ref, xml=s.kind.disk_xml("vdb"), scope=t.CHANGE_SCOPE_CONFIG))


@case("JobService/DetachDevice", lambda s: ended(s.client.detach_device(s.ref, xml=s.kind.disk_xml("vdb"))))
async def detach_device(s: Stage) -> None:
    """A disk is taken out of the stored definition."""
    ref = await s.off()
    await s.done(s.client.attach_device(ref, xml=s.kind.disk_xml("vdb"), scope=t.CHANGE_SCOPE_CONFIG))
    await s.done(s.client.detach_device(ref, xml=s.kind.disk_xml("vdb"), scope=t.CHANGE_SCOPE_CONFIG))
    assert "vdb" not in (await s.client.get_domain_xml(ref, inactive=True)).xml


@case("JobService/UpdateDevice", lambda s: ended(s.client.update_device(s.ref, xml="<graphics type='vnc' port='-1'/>")))
async def update_device(s: Stage) -> None:
    """A device of the stored definition is changed in place."""
    ref = await s.off()
    before = (await s.client.get_domain_xml(ref)).xml
    await s.done(s.client.update_device(ref, xml=s.kind.changed_device_xml(before), scope=t.CHANGE_SCOPE_CONFIG))
    assert (await s.client.get_domain_xml(ref)).xml != before


@case("JobService/SetMemory", lambda s: ended(s.client.set_memory(s.ref, memory_bytes=64 * MIB)))
async def set_memory(s: Stage) -> None:
    """The stored definition of a domain that is off has another size of memory."""
    ref = await s.off()
    size = (await s.domain()).max_memory_bytes
    await s.done(s.client.set_memory(ref, memory_bytes=size // 2, scope=t.CHANGE_SCOPE_CURRENT))
    assert f">{size // 2 // KIB}</currentMemory>" in (await s.client.get_domain_xml(ref)).xml
    await s.done(s.client.set_memory(ref, memory_bytes=size, scope=t.CHANGE_SCOPE_CURRENT))


@case("JobService/MigrateDomain", lambda s: ended(s.client.migrate_domain(s.ref, settings=t.MigrationSettings(uri="qemu+tcp://127.0.0.1:9/system"))))
async def migrate(s: Stage) -> None:
    """A running domain goes to the server's other host, and is active there alone."""
    assert s.peer is not None, "the bed has no second host"
    ref = await s.booted()
    settings = t.MigrationSettings(host=s.peer, persist_destination=True, undefine_source=True)
    settings.MergeFrom(s.kind.migration)
    job = await s.done(s.client.migrate_domain(ref, settings=settings, options=LONG))
    assert job.migrate_domain_result.host == s.peer
    uuid = ref.partition("/")[2]

    async def moved() -> bool:
        return [domain.host async for domain in s.client.list_domains(filter=t.DomainFilter(uuids=[uuid]))] == [s.peer]

    await eventually(moved, "the domain to be at the other host alone")
    await s.forget(f"{s.peer}/{uuid}")
