"""Columns of the matrix whose libvirt driver lives in the driver process: VMware and OpenVZ, against a simulator and doubles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.beds import esx, openvz
from tests.beds.vmware import VmwareDesktop
from tests.e2e.server import HostTable
from tests.hypervisors.kind import Kind


class Esx(Kind):
    """libvirt's esx driver against a simulated host."""

    name = "esx"
    title = "VMware ESX (govmomi's simulator)"
    vcpus_maximum = False
    bed: ClassVar[type[esx.EsxHost]] = esx.EsxHost

    def __init__(self) -> None:
        super().__init__()
        self._host = self.bed()

    @classmethod
    def missing(cls) -> str | None:
        return esx.missing()

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        return {"a": self._host.uri}

    def xml(self, name: str, uuid: str) -> str:
        return self._host.domain_xml(name, uuid)

    def disk_xml(self, target: str) -> str:
        path = f"[{esx.DATASTORE}] {target}.vmdk"
        return f"<disk type='file' device='disk'><source file='{path}'/><target dev='{target}' bus='scsi'/></disk>"

    def changed_device_xml(self, domain_xml: str) -> str:
        return self.disk_xml("sda")

    def start(self) -> None:
        self._host.start()

    def stop(self) -> None:
        self._host.stop()
        super().stop()


class Vcenter(Esx):
    """The same driver, by way of a vCenter."""

    name = "vpx"
    title = "VMware vCenter (govmomi's simulator)"
    bed = esx.VcenterHost


class Vmware(Kind):
    """libvirt's vmware driver with doubles of VMware's commands."""

    name = "vmware"
    title = "VMware Workstation (doubles of its commands)"

    def __init__(self) -> None:
        super().__init__()
        self._desktop = VmwareDesktop()

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        return {"a": self._desktop.uri}

    def xml(self, name: str, uuid: str) -> str:
        return self._desktop.domain_xml(name, uuid)

    def changed_device_xml(self, domain_xml: str) -> str:
        return self.disk_xml("sda")

    def start(self) -> None:
        self._desktop.start()

    def stop(self) -> None:
        self._desktop.stop()
        super().stop()


class OpenVz(Kind):
    """libvirt's openvz driver with doubles of OpenVZ's commands."""

    name = "openvz"
    title = "OpenVZ (doubles of its commands)"
    vcpus_maximum = False

    def __init__(self) -> None:
        super().__init__()
        self._bed = openvz.OpenVz()

    @classmethod
    def missing(cls) -> str | None:
        return openvz.missing()

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        return {"a": self._bed.uri}

    def new_name(self, number: int) -> str:
        return str(100 + number)

    def xml(self, name: str, uuid: str) -> str:
        return self._bed.domain_xml(name, uuid)

    def changed_device_xml(self, domain_xml: str) -> str:
        return "<filesystem type='template'><source name='debian'/><target dir='/'/><space_hard_limit unit='MiB'>100</space_hard_limit></filesystem>"

    def start(self) -> None:
        self._bed.start()

    def stop(self) -> None:
        self._bed.stop()
        super().stop()


KINDS: tuple[type[Kind], ...] = (Esx, Vcenter, Vmware, OpenVz)
"""In the order of the table."""
