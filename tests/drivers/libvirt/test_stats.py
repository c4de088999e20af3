"""Statistics: what a row says, and what a hypervisor without bulk statistics is asked instead."""

from typing import Any

import libvirt
import pytest

from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.stats import LARGEST, Sampler, from_record
from virtrpc_drivers.values import CpuStats

BUSY = {"state.state": 1, "balloon.current": 1024, "balloon.maximum": 1024, "vcpu.0.state": 1, "block.count": 1, "block.0.name": "vda"}
FULL = BUSY | {
    "cpu.time": 7,
    "cpu.user": 5,
    "cpu.system": 2,
    "balloon.rss": 2,
    "balloon.unused": 1,
    "balloon.last-update": 5,
    "vcpu.current": 1,
    "vcpu.maximum": 2,
    "vcpu.0.time": 9,
    "block.0.rd.reqs": 3,
    "block.0.capacity": 4096,
    "net.count": 1,
    "net.0.name": "vnet0",
    "net.0.rx.bytes": 11,
}


def test_a_full_row() -> None:
    """KiB become bytes, counts stay counts, and a CPU that is off is not there."""
    reading = from_record("u", Clock(0).stamp(), FULL, {0: 3})
    assert reading.memory is not None
    assert reading.block is not None
    assert reading.interfaces is not None
    assert reading.vcpus is not None
    assert reading.cpu == CpuStats(time_ns=7, user_ns=5, system_ns=2)
    assert (reading.memory.actual_bytes, reading.memory.rss_bytes, reading.memory.last_update) == (1 << 20, 2048, 5)
    assert [(row.target, row.read_requests, row.capacity_bytes, row.errors) for row in reading.block] == [("vda", 3, 4096, None)]
    assert [(row.target, row.rx_bytes, row.tx_bytes) for row in reading.interfaces] == [("vnet0", 11, None)]
    assert [(row.number, row.state, row.time_ns, row.cpu) for row in reading.vcpus] == [(0, "running", 9, 3)]


def test_a_busy_guests_row_has_no_empty_groups() -> None:
    """What a busy guest's row lacks is None, so that the older reading stays: never zeros."""
    reading = from_record("u", Clock(0).stamp(), BUSY)
    assert (reading.memory, reading.block, reading.interfaces, reading.vcpus) == (None, None, None, None)


class Guest:
    """A guest that must never be asked by itself, and its connection."""

    def lookupByUUIDString(self, _uuid: str) -> "Guest":  # noqa: N802 - libvirt's name
        return self

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return "u"

    def vcpus(self) -> list[list[Any]]:
        return [[(0, 1, 9, 3)], []]

    def state(self, _flags: int) -> list[int]:
        return [libvirt.VIR_DOMAIN_RUNNING, 0]

    def domainListGetStats(self, domains: list[Any], _groups: int, _flags: int) -> list[tuple[Any, dict[str, Any]]]:  # noqa: N802 - libvirt's name
        return self.answers.pop(0)

    answers: list[list[tuple[Any, dict[str, Any]]]]


def test_an_empty_sweep_does_not_change_the_way_of_asking() -> None:
    """Guests that were off during the first sweep are asked in bulk again: singly, a wedged one would hang the sweep."""
    guest, sampler = Guest(), Sampler(Clock(0))
    guest.answers = [[], [(guest, FULL)]]
    assert sampler.sample(guest, ["u"]).stats == ()
    assert [row.uuid for row in sampler.sample(guest, ["u"]).stats] == ["u"]


@pytest.mark.parametrize("number", [-1, LARGEST + 1, 2**64 - 2])
def test_numbers_that_cannot_be_are_left_out(number: int) -> None:
    """A guest writes its balloon's figures itself: one that no field holds is None, and the others stay."""
    counts = ("cpu.user", "balloon.major_fault", "balloon.unused", "vcpu.0.time", "block.0.rd.reqs", "net.0.rx.bytes")
    reading = from_record("u", Clock(0).stamp(), FULL | dict.fromkeys(counts, number), {0: -1})
    assert reading.memory is not None
    assert reading.block is not None
    assert reading.interfaces is not None
    assert reading.vcpus is not None
    assert reading.cpu == CpuStats(time_ns=7, system_ns=2)
    assert (reading.memory.major_faults, reading.memory.unused_bytes, reading.memory.rss_bytes) == (None, None, 2048)
    assert (reading.block[0].read_requests, reading.block[0].capacity_bytes) == (None, 4096)
    assert (reading.interfaces[0].target, reading.interfaces[0].rx_bytes) == ("vnet0", None)
    assert (reading.vcpus[0].state, reading.vcpus[0].time_ns, reading.vcpus[0].cpu) == ("running", None, None)
    assert from_record("u", Clock(0).stamp(), FULL | {"cpu.time": number}).cpu is None


def test_the_factor_counts() -> None:
    """A number of KiB that is too large only in bytes is left out; the largest that fits stays."""
    reading = from_record("u", Clock(0).stamp(), FULL | {"balloon.current": LARGEST // 1024 + 1, "balloon.unused": LARGEST // 1024})
    assert reading.memory is not None
    assert (reading.memory.actual_bytes, reading.memory.unused_bytes) == (None, LARGEST // 1024 * 1024)


class Alone(Guest):
    """A guest of a hypervisor without bulk statistics, whose counts are wild."""

    def domainListGetStats(self, *_: Any) -> Any:  # noqa: N802 - libvirt's name
        error = libvirt.libvirtError("")
        error.err = (libvirt.VIR_ERR_NO_SUPPORT, 0, "not supported", 2, None, None, None, -1, -1)
        raise error

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def blockInfo(self, _target: str) -> list[int]:  # noqa: N802 - libvirt's name
        return [2**64 - 1, 0, 0]

    def info(self) -> list[int]:
        return [1, 1024, 1024, 1, 2**64 - 1]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return "<domain><devices><disk><target dev='vda'/></disk><interface><target dev='vnet0'/></interface></devices></domain>"

    def memoryStats(self) -> dict[str, int]:  # noqa: N802 - libvirt's name
        return {"actual": 1024, "major_fault": 2**64 - 2}

    def blockStats(self, _target: str) -> tuple[int, ...]:  # noqa: N802 - libvirt's name
        return 1, 2, -1, 2**63, -1

    def interfaceStats(self, _target: str) -> tuple[int, ...]:  # noqa: N802 - libvirt's name
        return 1, 2**63, -1, 0, 0, 0, 0, 0

    def vcpus(self) -> list[list[Any]]:
        return [[(0, 1, 2**64 - 1, -1)], [(True,)]]


def test_single_calls_leave_them_out_as_well() -> None:
    """Guest by guest the same holds: no number that a field does not hold."""
    (reading,) = Sampler(Clock(0)).sample(Alone(), ["u"]).stats
    assert reading.cpu is None
    assert reading.memory is not None
    assert reading.block is not None
    assert reading.interfaces is not None
    assert reading.vcpus is not None
    assert (reading.memory.actual_bytes, reading.memory.major_faults) == (1 << 20, None)
    block, nic, vcpu = reading.block[0], reading.interfaces[0], reading.vcpus[0]
    assert (block.read_requests, block.read_bytes, block.write_requests, block.write_bytes, block.errors) == (1, 2, None, None, None)
    assert (nic.rx_bytes, nic.rx_packets, nic.rx_errors, nic.rx_drops) == (1, None, None, 0)
    assert (vcpu.time_ns, vcpu.cpu, vcpu.affinity) == (None, None, "0")
