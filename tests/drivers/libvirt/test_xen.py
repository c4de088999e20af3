"""Where libvirt's driver for Xen differs from the others: what is made of it. The real one: tests/beds/test_xen.py and `make test-xen`."""

from __future__ import annotations

import libvirt
import pytest

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import asking
from virtrpc_drivers.libvirt.operations.files import restore
from virtrpc_drivers.libvirt.operations.settings import set_vcpus
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.stats import Sampler


class NotSupported(libvirt.libvirtError):  # type: ignore[misc]  # libvirt-python is not typed
    """As libvirt-python raises it where the driver lacks a call."""

    def __init__(self) -> None:
        super().__init__("a call that the driver lacks")

    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_SUPPORT)


class Guest:
    """A guest of Xen, and its connection."""

    def __init__(self, identity: int = 3) -> None:
        self.identity = identity
        self.set: list[tuple[int, int]] = []
        self.restored: list[str] = []

    def getType(self) -> str:  # noqa: N802 - libvirt's name
        return "Xen"

    def lookupByUUIDString(self, _uuid: str) -> Guest:  # noqa: N802 - libvirt's name
        return self

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return "u"

    def ID(self) -> int:  # noqa: N802 - libvirt's name
        return self.identity

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.identity >= 0

    def setVcpusFlags(self, count: int, flags: int) -> None:  # noqa: N802 - libvirt's name
        self.set.append((count, flags))

    def saveImageGetXMLDesc(self, *_: object) -> None:  # noqa: N802 - libvirt's name
        raise NotSupported

    def restore(self, path: str) -> None:
        self.restored.append(path)

    def domainListGetStats(self, *_: object) -> None:  # noqa: N802 - libvirt's name
        raise NotSupported

    def vcpus(self) -> None:
        # libvirt-python needs virNodeGetCPUMap for it.
        raise NotSupported

    def vcpusFlags(self, _flags: int) -> int:  # noqa: N802 - libvirt's name
        return 2

    def info(self) -> list[int]:
        return [1, 131072, 131072, 2, 7]

    def memoryStats(self) -> dict[str, int]:  # noqa: N802 - libvirt's name
        return {"actual": 131072}

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return "<domain/>"


def test_virtual_cpus_are_counted_where_they_cannot_be_described() -> None:
    """The plugged virtual CPUs are told by number, without what is not known of them."""
    (reading,) = Sampler(Clock(0)).sample(Guest(), ["u"]).stats
    assert reading.vcpus is not None
    assert [(row.number, row.state, row.cpu) for row in reading.vcpus] == [(0, None, None), (1, None, None)]


@pytest.mark.parametrize(("identity", "flag"), [(3, libvirt.VIR_DOMAIN_AFFECT_LIVE), (-1, libvirt.VIR_DOMAIN_AFFECT_CONFIG)])
def test_what_a_change_of_cpus_affects_is_said(identity: int, flag: int) -> None:
    """The current scope is sent as the live or the stored one."""
    guest = Guest(identity)
    set_vcpus(guest, ops.SetVcpus(uuid="u", vcpus=2))
    assert guest.set == [(2, flag)]


def test_a_reboot_may_take_a_while() -> None:
    """A domain that is off for some looks while it is made anew has rebooted; one that stays off has shut down."""
    guest = Guest()
    question = asking.question(guest, ops.Reboot(uuid="u"))
    assert question is not None
    guest.identity = -1
    assert not any(question.shown_by(guest) for _ in range(5))
    guest.identity = 4
    assert question.shown_by(guest)
    guest.identity = -1
    with pytest.raises(DriverError) as caught:
        _ = [question.shown_by(guest) for _ in range(asking.REBOOT_LOOKS["xen"])]
    assert caught.value.reason is Reason.FAILED


def test_an_image_that_does_not_say_whose_it_is_is_restored() -> None:
    """The restore is made, and whether the named domain runs is looked at after it."""
    guest, operation = Guest(), ops.Restore(uuid="u", name="x", path="/saved")
    assert restore(guest, operation).path == "/saved"
    assert guest.restored == ["/saved"]
    with pytest.raises(DriverError) as caught:
        restore(Guest(identity=-1), operation)
    assert caught.value.reason is Reason.FAILED
