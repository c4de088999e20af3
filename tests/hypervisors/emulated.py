"""The columns of QEMU: x86-64 emulated and under KVM, and other architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.beds import arch, kvm
from tests.beds.daemon import Libvirtd
from tests.beds.domain import domain_xml, interface_xml, make_disk
from tests.beds.wait import wait_until
from tests.e2e.server import HostTable, Setting
from tests.hypervisors.kind import Kind
from virtrpc.v1 import types_pb2 as t

# A screen on a socket: daemons beside each other do not know of each other's ports.
SCREEN = "<video><model type='vga'/></video><graphics type='vnc'><listen type='socket'/></graphics>"
UNSUPPORTED = "UNSUPPORTED_BY_HYPERVISOR"


class Qemu(Kind):
    """QEMU x86-64 behind two private libvirtds."""

    name = "qemu"
    title = "QEMU x86-64 (TCG) through libvirtd"
    boots = True
    boot_seconds: ClassVar[float] = 60
    domain_type = "qemu"

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
        console, disk = self._daemons[0].console_log(name), make_disk(self.path / f"{name}.qcow2")
        xml = domain_xml(name, uuid=uuid, console_log=console, disks=[disk], interface=True, kind=self.domain_type)
        return xml.replace("</devices>", f"{SCREEN}</devices>")

    def disk_xml(self, target: str) -> str:
        path = self.path / f"{target}.qcow2"
        return make_disk(path, target=target).xml()

    def changed_device_xml(self, domain_xml: str) -> str:
        return interface_xml().replace("</interface>", "<link state='down'/></interface>")

    def booted(self, name: str, boots: int) -> None:
        log = self._daemons[0].console_log(name)
        wait_until(lambda: log.read_text(errors="replace").count("READY") >= boots, f"{name} to boot, see {log}", self.boot_seconds)

    def start(self) -> None:
        for daemon in self._daemons:
            daemon.start()

    def stop(self) -> None:
        for daemon in self._daemons:
            daemon.stop()
        super().stop()


class Kvm(Qemu):
    """The same guests under KVM."""

    name, title, domain_type = "kvm", "KVM x86-64 through libvirtd", "kvm"

    @classmethod
    def missing(cls) -> str | None:
        return kvm.missing()

    @classmethod
    def at_hand(cls) -> bool:
        # To find out takes a guest's boot.
        return False


class Foreign(Qemu):
    """Guests of another architecture behind two private libvirtds."""

    machine: ClassVar[arch.Arch]
    boot_seconds = 120

    @classmethod
    def missing(cls) -> str | None:
        return cls.machine.missing()

    @classmethod
    def at_hand(cls) -> bool:
        return False

    def xml(self, name: str, uuid: str) -> str:
        console = self._daemons[0].console_log(name)
        return self.machine.domain_xml(name, uuid, console_log=console, disks=[make_disk(self.path / f"{name}.qcow2")], interface=True)

    def changed_device_xml(self, domain_xml: str) -> str:
        return arch.INTERFACE.replace("</interface>", "<link state='down'/></interface>")

    def start(self) -> None:
        self.machine.prepare()
        super().start()


class Power(Foreign):
    """POWER, little-endian."""

    name, title, machine = "power", "POWER (pseries, ppc64le) through libvirtd", arch.POWER


class Arm(Foreign):
    """arm64."""

    name, title, machine = "arm64", "arm64 (virt) through libvirtd", arch.ARM
    refuses: ClassVar[Mapping[str, str]] = {
        "PowerManagementSuspend": UNSUPPORTED,
        "PowerManagementWakeup": "WRONG_STATE",
        "InjectNmi": UNSUPPORTED,
    }


class S390(Foreign):
    """IBM Z."""

    name, title, machine = "s390x", "IBM Z (s390-ccw-virtio, s390x) through libvirtd", arch.S390
    refuses: ClassVar[Mapping[str, str]] = {
        "PowerManagementSuspend": UNSUPPORTED,
        "PowerManagementWakeup": "WRONG_STATE",
        # Its agent sets the system's clock, and then fails at the hardware's.
        "SetGuestTime": "OPERATION_FAILED",
    }


KINDS: tuple[type[Kind], ...] = (Qemu, Kvm, Power, Arm, S390)
"""In the order of the table."""
