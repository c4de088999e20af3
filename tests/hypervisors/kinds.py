"""The columns of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.e2e.server import HostTable
from tests.hypervisors import client_library, containers, emulated
from tests.hypervisors.kind import Kind
from tests.hypervisors.xen import Xen


class TestDriver(Kind):
    """libvirt's own mock."""

    __test__ = False
    name = "test"
    title = "libvirt's test driver (test:///default)"
    # The mock forgets what it is given.
    vague = frozenset({"SetSchedulerParameters", "SendProcessSignal"})

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
    *emulated.KINDS,
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
