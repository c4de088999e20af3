"""The column of the matrix for Xen: two hosts inside QEMU."""

from __future__ import annotations

from collections.abc import Mapping

from tests.beds.xen import XenHost, XenPair
from tests.e2e.server import HostTable, Setting
from tests.hypervisors.kind import Kind


class Xen(Kind):
    """libvirt's xen driver in the dom0 of two real Xen hosts."""

    name = "xen"
    title = "Xen 4.17 and a Debian dom0 inside QEMU (TCG), through libvirtd"
    boots = True
    guard_seconds = 170

    def __init__(self) -> None:
        super().__init__()
        self._pair = XenPair()

    @classmethod
    def missing(cls) -> str | None:
        return XenHost.missing()

    @classmethod
    def at_hand(cls) -> bool:
        # It starts in a second once it was built, but each of its guests takes a quarter of a minute to boot.
        return False

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        here, there = self._pair.a, self._pair.b
        return {"a": here.uri, "b": {"uri": there.uri, "migration_uri": there.peer_uri}}

    @property
    def settings(self) -> Mapping[str, Setting | list[str]]:
        return {"path_roots": [XenHost.scratch]}

    def xml(self, name: str, uuid: str) -> str:
        return self._pair.a.domain_xml(name, uuid, devices=self._devices(name))

    def _image(self, name: str) -> str:
        path = self.file(f"{name}.img")
        for host in (self._pair.a, self._pair.b):
            host.run(f"truncate -s 16M {path}")
        return path

    def _devices(self, name: str) -> str:
        return self._pair.a.disk_xml("xvda", self._image(name)) + self._pair.a.interface_xml() + self._pair.a.cdrom_xml()

    def disk_xml(self, target: str) -> str:
        return self._pair.a.disk_xml(target.replace("vd", "xvd"))

    def changed_device_xml(self, domain_xml: str) -> str:
        return self._pair.a.cdrom_xml(self._image("other"))

    def file(self, name: str) -> str:
        return f"{XenHost.scratch}/{name}"

    def started(self, name: str) -> None:
        # The guest's kernel suspends itself, and libxl waits a minute for one that does not listen yet.
        self._pair.a.wait_up(name)

    def booted(self, name: str, boots: int) -> None:
        self._pair.a.wait_up(name)

    def start(self) -> None:
        self._pair.start()

    def stop(self) -> None:
        self._pair.stop()
        super().stop()
