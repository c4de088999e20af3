"""Statistics: what a row says, and what a hypervisor without bulk statistics is asked instead."""

from typing import Any

from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.stats import Sampler, from_record
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

    def domainListGetStats(self, domains: list[Any], _groups: int, _flags: int) -> list[tuple[Any, dict[str, Any]]]:  # noqa: N802 - libvirt's name
        return self.answers.pop(0)

    answers: list[list[tuple[Any, dict[str, Any]]]]


def test_an_empty_sweep_does_not_change_the_way_of_asking() -> None:
    """Guests that were off during the first sweep are asked in bulk again: singly, a wedged one would hang the sweep."""
    guest, sampler = Guest(), Sampler(Clock(0))
    guest.answers = [[], [(guest, FULL)]]
    assert sampler.sample(guest, ["u"]).stats == ()
    assert [row.uuid for row in sampler.sample(guest, ["u"]).stats] == ["u"]
