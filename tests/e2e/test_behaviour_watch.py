"""WatchDomains: what libvirt announces arrives without polling, what it does not announce within one audit period."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.beds.domain import domain_xml, make_disk
from tests.e2e.server import GUARD, Guest, HostTable, QemuHost, Server, connected, eventually, running
from virtrpc import AsyncClient, DomainMirror
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

NEVER = 86_400.0
SOON = 2.0
MIB = 1 << 20


@pytest.fixture(scope="module")
def bed(daemon: Libvirtd) -> Iterator[QemuHost]:
    """One daemon as two hosts: `kvm` looks again only when told to, its audit being a day away; `audited` looks every two seconds."""
    hosts: dict[str, HostTable] = {"kvm": {"uri": daemon.uri, "audit_seconds": NEVER}, "audited": {"uri": daemon.uri, "audit_seconds": SOON}}
    with Server(hosts, path_roots=[str(daemon.path)]) as server:
        server.wait_live()
        with connected(daemon) as direct:
            yield QemuHost(server, daemon, direct)


@pytest.fixture(scope="module")
def shared_guest(bed: QemuHost) -> Iterator[Guest]:
    """A booted guest with a disk."""
    with bed.guest(disk_mib=16, memory_mib=256) as guest:
        yield guest


@pytest.fixture
def guest(bed: QemuHost, shared_guest: Guest) -> Guest:
    """The same, running."""
    return running(shared_guest, bed)


@pytest.fixture
async def client(bed: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of the bed's server."""
    async with bed.server.client() as client:
        yield client


class Watcher:
    """What one stream has told, as a client holds it."""

    def __init__(self, host: str) -> None:
        self.mirror = DomainMirror()
        self.told: list[str] = []
        """The names in all changes, removals with a minus, in order."""
        self._host = host
        self._changed = asyncio.Event()

    async def follow(self, client: AsyncClient) -> None:
        """Take every batch in."""
        async for batch in client.watch_domains(filter=t.DomainFilter(hosts=[self._host])):
            self.mirror.apply(batch)
            self.told += [f"-{change.removed.domain.name}" if change.HasField("removed") else change.current.name for change in batch.changes]
            self._changed.set()

    def domain(self, uuid: str) -> t.Domain | None:
        """A domain as last told."""
        return self.mirror.domains.get((self._host, uuid))

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for the stream to tell something."""
        try:
            async with asyncio.timeout(GUARD):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"the stream never told: {what}") from None

    async def until_domain(self, uuid: str, fits: Callable[[t.Domain], object], what: str) -> None:
        """Wait for the stream to tell a domain that fits."""
        await self.until(lambda: (domain := self.domain(uuid)) is not None and fits(domain), what)


@asynccontextmanager
async def watching(client: AsyncClient, host: str = "kvm") -> AsyncIterator[Watcher]:
    """A stream of a host's domains that has told the present state."""
    watcher = Watcher(host)
    task = asyncio.create_task(watcher.follow(client))
    try:
        await watcher.until(lambda: watcher.mirror.caught_up, "the present state")
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def xml_of(bed: QemuHost, name: str) -> str:
    """A definition that nobody starts."""
    return domain_xml(name, console_log=bed.daemon.console_log(name))


async def test_lifecycle(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """Suspend, resume, destroy and start by virsh are each told with the state and its reason."""
    async with watching(client) as watcher:
        for command, state, reason in (
            ("suspend", t.DOMAIN_STATE_PAUSED, "user"),
            ("resume", t.DOMAIN_STATE_RUNNING, "unpaused"),
            ("destroy", t.DOMAIN_STATE_SHUTOFF, "destroyed"),
            ("start", t.DOMAIN_STATE_RUNNING, "booted"),
        ):
            bed.daemon.virsh(command, guest.name)
            await watcher.until_domain(guest.uuid, lambda domain: (domain.state, domain.state_reason) == (state, reason), command)  # noqa: B023
            told = watcher.domain(guest.uuid)
            assert told is not None
            assert told.active == (command != "destroy")


async def test_a_guest_that_ends_by_itself(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """A guest that is shut down from outside is told to be off when it is."""
    guest.wait_for()
    async with watching(client) as watcher:
        bed.daemon.virsh("shutdown", guest.name, "--mode", "acpi")
        await watcher.until_domain(guest.uuid, lambda domain: domain.state == t.DOMAIN_STATE_SHUTOFF, "the guest's end")


async def test_define_rename_undefine(bed: QemuHost, client: AsyncClient) -> None:
    """A domain that virsh defines appears, is the same one under its new name when it is renamed, and is removed by that name."""
    async with watching(client) as watcher:
        bed.daemon.define(xml_of(bed, "newcomer"))
        uuid = bed.direct.lookupByName("newcomer").UUIDString()
        await watcher.until_domain(uuid, lambda domain: domain.name == "newcomer" and domain.persistent, "the definition")
        generation = watcher.mirror.domains["kvm", uuid].generation
        bed.daemon.virsh("domrename", "newcomer", "renamed")
        await watcher.until_domain(uuid, lambda domain: domain.name == "renamed", "the new name")
        assert watcher.mirror.domains["kvm", uuid].generation == generation
        bed.daemon.virsh("undefine", "renamed")
        await watcher.until(lambda: watcher.domain(uuid) is None, "the removal")
        assert "-renamed" in watcher.told
        assert "-newcomer" not in watcher.told


async def test_undefine_of_a_running_domain_is_no_removal(bed: QemuHost, client: AsyncClient) -> None:
    """A running domain whose definition is removed goes on, transient, and is removed when it ends."""
    with bed.guest(ready=False) as guest:
        async with watching(client) as watcher:
            bed.daemon.virsh("undefine", guest.name)
            await watcher.until_domain(guest.uuid, lambda domain: domain.active and not domain.persistent, "that it is transient")
            assert f"-{guest.name}" not in watcher.told
            bed.daemon.virsh("destroy", guest.name)
            await watcher.until(lambda: watcher.domain(guest.uuid) is None, "the removal")


async def test_metadata(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """A title that virsh gives to a running domain makes the stream tell a newer configuration, whose XML has it."""
    async with watching(client) as watcher:
        before = _configured(watcher, guest)
        bed.daemon.virsh("desc", guest.name, "--live", "--title", "a new title")
        await watcher.until(lambda: _configured(watcher, guest) > before, "the newer configuration")
        assert "<title>a new title</title>" in (await client.get_domain_xml(f"kvm/{guest.uuid}")).xml


async def test_devices(bed: QemuHost, client: AsyncClient, guest: Guest, tmp_path: Path) -> None:
    """A disk that virsh attaches and detaches makes the stream tell a newer configuration each time, whose XML has it, and no longer has it."""
    guest.wait_for()
    disk = make_disk(bed.daemon.path / "attached.qcow2", target="vdb")
    device = tmp_path / "vdb.xml"
    device.write_text(disk.xml())
    async with watching(client) as watcher:
        for command, there in (("attach-device", True), ("detach-device", False)):
            before = _configured(watcher, guest)
            bed.daemon.virsh(command, guest.name, str(device), "--live")
            await watcher.until(lambda: _configured(watcher, guest) > before, command)  # noqa: B023

            async def shown() -> bool:
                return ("vdb" in (await client.get_domain_xml(f"kvm/{guest.uuid}")).xml) == there  # noqa: B023

            await eventually(shown, f"the XML after {command}")


async def test_balloon(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """A guest whose memory virsh changes is told with its new memory when its balloon has moved."""
    guest.wait_for()
    async with watching(client) as watcher:
        bed.daemon.virsh("setmem", guest.name, f"{192 * 1024}", "--live")
        await watcher.until_domain(guest.uuid, lambda domain: domain.memory_bytes == 192 * MIB, "the new memory")


async def test_autostart_is_found_by_the_audit(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """libvirt announces no change of autostart: the audit finds it."""
    async with watching(client, "audited") as watcher:
        for option, autostart in (([], True), (["--disable"], False)):
            bed.daemon.virsh("autostart", guest.name, *option)
            await watcher.until_domain(guest.uuid, lambda domain: domain.autostart == autostart, f"autostart {autostart}")  # noqa: B023


async def test_the_stored_configuration_is_found_by_the_audit(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """libvirt announces no change with --config of a running domain: the audit finds virtual CPUs, and a device in the stored XML."""
    disk = make_disk(bed.daemon.path / "stored.qcow2", target="vdc")
    async with watching(client, "audited") as watcher:
        bed.daemon.virsh("setvcpus", guest.name, "3", "--config", "--maximum")
        bed.daemon.virsh("setvcpus", guest.name, "2", "--config")
        await watcher.until_domain(guest.uuid, lambda domain: (domain.vcpus.config, domain.vcpus.live) == (2, 1), "the stored virtual CPUs")
        guest.domain.attachDeviceFlags(disk.xml(), libvirt.VIR_DOMAIN_AFFECT_CONFIG)

        async def stored() -> bool:
            return "vdc" in (await client.get_domain_xml(f"audited/{guest.uuid}", inactive=True)).xml

        await eventually(stored, "the stored definition to have the disk")
        assert "vdc" not in (await client.get_domain_xml(f"audited/{guest.uuid}")).xml


def _configured(watcher: Watcher, guest: Guest) -> int:
    """When the configuration was read that the stream told last, in nanoseconds."""
    return watcher.mirror.domains["kvm", guest.uuid].configuration_observation.observed_time.ToNanoseconds()
