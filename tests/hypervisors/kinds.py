"""The columns of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.beds.daemon import Libvirtd
from tests.beds.domain import domain_xml, interface_xml, make_disk
from tests.beds.wait import wait_until
from tests.e2e.server import HostTable, Setting
from tests.hypervisors import client_library, containers
from tests.hypervisors.kind import Kind
from tests.hypervisors.xen import Xen
from virtrpc.v1 import types_pb2 as t

SCREEN = "<video><model type='vga'/></video><graphics type='vnc' port='-1' autoport='yes'/>"


class Qemu(Kind):
    """QEMU x86-64 behind two private libvirtds."""

    name = "qemu"
    title = "QEMU x86-64 (TCG) through libvirtd"
    boots = True

    def __init__(self) -> None:
        super().__init__()
        self._daemons = (Libvirtd("matrix-a"), Libvirtd("matrix-b"))

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        here, there = self._daemons
        return {"a": here.uri, "b": {"uri": there.uri, "migration_uri": there.tcp_uri}}

    @property
    def settings(self) -> Mapping[str, Setting | list[str]]:
        return {"path_roots": [str(self.path), *(str(daemon.path) for daemon in self._daemons)]}

    @property
    def migration(self) -> t.MigrationSettings:
        # Both daemons see the same files, which libvirt cannot know.
        return t.MigrationSettings(migrate_uri="tcp://127.0.0.1", unsafe=True)

    def xml(self, name: str, uuid: str) -> str:
        console = self._daemons[0].console_log(name)
        xml = domain_xml(name, uuid=uuid, console_log=console, disks=[make_disk(self.path / f"{name}.qcow2")], interface=True)
        return xml.replace("</devices>", f"{SCREEN}</devices>")

    def disk_xml(self, target: str) -> str:
        path = self.path / f"{target}.qcow2"
        return make_disk(path, target=target).xml()

    def changed_device_xml(self, domain_xml: str) -> str:
        return interface_xml().replace("</interface>", "<link state='down'/></interface>")

    def booted(self, name: str, boots: int) -> None:
        log = self._daemons[0].console_log(name)
        wait_until(lambda: log.read_text(errors="replace").count("READY") >= boots, f"{name} to boot, see {log}", 60)

    def start(self) -> None:
        for daemon in self._daemons:
            daemon.start()

    def stop(self) -> None:
        for daemon in self._daemons:
            daemon.stop()
        super().stop()


class TestDriver(Kind):
    """libvirt's own mock."""

    __test__ = False
    name = "test"
    title = "libvirt's test driver (test:///default)"

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        return {"a": "test:///default"}

    def xml(self, name: str, uuid: str) -> str:
        return (
            f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type>hvm</type></os>"
            f"<devices>{self.disk_xml('vda')}<interface type='network'><source network='default'/></interface>"
            "<memballoon model='virtio'/></devices></domain>"
        )

    def changed_device_xml(self, domain_xml: str) -> str:
        return "<graphics type='vnc' port='-1'/>"


class Simulated(Kind):
    """`sim` with the row of a hypervisor that cannot be started here."""

    shape: ClassVar[str]
    simulated = True

    @property
    def hosts(self) -> Mapping[str, str]:
        quick = "start_seconds=0&save_seconds=0.05&restore_seconds=0&snapshot_seconds=0&revert_seconds=0&migrate_seconds=0.05&progress_seconds=0.01"
        return {"a": f"sim://a/?domains=1&running=0&shape={self.shape}&{quick}", "b": f"sim://b/?domains=0&running=0&shape={self.shape}&{quick}"}

    def xml(self, name: str, uuid: str) -> str:
        return (
            f"<domain type='sim'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><currentMemory unit='MiB'>256</currentMemory>"
            f"<vcpu>1</vcpu><os><type>hvm</type></os><devices>{self.disk_xml('vda')}</devices></domain>"
        )

    def changed_device_xml(self, domain_xml: str) -> str:
        return self.disk_xml("vda").replace("vda.img", "other.img")


class Virtuozzo(Simulated):
    """vz: shared deletions, progress in per cent."""

    name, title, shape = "vz", "Virtuozzo", "vz"


class HyperV(Simulated):
    """Hyper-V: no events."""

    name, title, shape = "hyperv", "Hyper-V", "hyper-v"


class VirtualBox(Simulated):
    """VirtualBox."""

    name, title, shape = "vbox", "VirtualBox", "vbox"


class Bhyve(Simulated):
    """bhyve: neither suspend nor resume."""

    name, title, shape = "bhyve", "bhyve", "bhyve"


class CloudHypervisor(Simulated):
    """Cloud Hypervisor."""

    name, title, shape = "ch", "Cloud Hypervisor", "ch"


KINDS: tuple[type[Kind], ...] = (
    Qemu,
    *containers.KINDS,
    Xen,
    *client_library.KINDS,
    TestDriver,
    Virtuozzo,
    HyperV,
    VirtualBox,
    Bhyve,
    CloudHypervisor,
)
"""In the order of the table."""
