"""One sweep of statistics: in bulk and waiting for no job where the hypervisor can, else domain by domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import libvirt
from msgspec.structs import replace

from virtrpc_drivers.device_xml import devices
from virtrpc_drivers.libvirt.readings import KIB, Clock, optional
from virtrpc_drivers.values import BlockStats, CpuStats, InterfaceStats, MemoryStats, Samples, Stamp, StatsReading, Value, VcpuStats

Row = TypeVar("Row", bound=Value)
Record = dict[str, Any]

LARGEST = 2**63 - 1
"""The largest number that the contract's fields hold."""

_GROUPS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
_DISK_ERRORS = {libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC: "io", libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE: "no_space"}
_VCPU_STATES = ("offline", "running", "blocked")
_NOT_SUPPORTED = (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, libvirt.VIR_ERR_INVALID_ARG)

# Each value's field, the bulk record's key, the key of virDomainMemoryStats, and the factor to bytes.
_MEMORY = (
    ("swap_in_bytes", "swap_in", "swap_in", KIB),
    ("swap_out_bytes", "swap_out", "swap_out", KIB),
    ("major_faults", "major_fault", "major_fault", 1),
    ("minor_faults", "minor_fault", "minor_fault", 1),
    ("unused_bytes", "unused", "unused", KIB),
    ("available_bytes", "available", "available", KIB),
    ("usable_bytes", "usable", "usable", KIB),
    ("rss_bytes", "rss", "rss", KIB),
    ("disk_caches_bytes", "disk_caches", "disk_caches", KIB),
    ("hugetlb_page_allocations", "hugetlb_pgalloc", "hugetlb_pgalloc", 1),
    ("hugetlb_page_failures", "hugetlb_pgfail", "hugetlb_pgfail", 1),
    ("last_update", "last-update", "last_update", 1),
)
_BLOCK = (
    ("read_requests", "rd.reqs"),
    ("read_bytes", "rd.bytes"),
    ("read_time_ns", "rd.times"),
    ("write_requests", "wr.reqs"),
    ("write_bytes", "wr.bytes"),
    ("write_time_ns", "wr.times"),
    ("flush_requests", "fl.reqs"),
    ("flush_time_ns", "fl.times"),
    ("errors", "errors"),
    ("allocation_bytes", "allocation"),
    ("threshold_bytes", "threshold"),
    ("capacity_bytes", "capacity"),
    ("physical_bytes", "physical"),
)
_INTERFACE = (
    ("rx_bytes", "rx.bytes"),
    ("rx_packets", "rx.pkts"),
    ("rx_errors", "rx.errs"),
    ("rx_drops", "rx.drop"),
    ("tx_bytes", "tx.bytes"),
    ("tx_packets", "tx.pkts"),
    ("tx_errors", "tx.errs"),
    ("tx_drops", "tx.drop"),
)


class Sampler:
    """Samples one host; remembers whether it has bulk statistics that wait for nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bulk: bool | None = None

    def sample(self, connection: Any, uuids: Sequence[str]) -> Samples:
        """virDomainListGetStats with NOWAIT, or the single calls where a hypervisor lacks it. Domains that are gone or off are left out."""
        stamp = self._clock.stamp()
        domains = [domain for domain in (_lookup(connection, uuid) for uuid in uuids) if domain is not None]
        if not domains:
            return Samples()
        if self._bulk is not False:
            records = self._bulk_records(connection, domains)
            if records is not None:
                readings = (from_record(domain.UUIDString(), stamp, record, *_cpus(domain)) for domain, record in records)
                return Samples(stats=tuple(with_disk_errors(reading, domain) for reading, (domain, _) in zip(readings, records, strict=True)))
        return Samples(stats=tuple(_one_by_one(domain, self._clock) for domain in domains if optional(domain.isActive)))

    def _bulk_records(self, connection: Any, domains: list[Any]) -> list[tuple[Any, Record]] | None:
        try:
            records: list[tuple[Any, Record]] = connection.domainListGetStats(domains, _GROUPS, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
        except libvirt.libvirtError as error:
            # Without NOWAIT one busy guest would hold up the whole sweep: then rather guest by guest.
            if self._bulk is None and error.get_error_code() in _NOT_SUPPORTED:
                self._bulk = False
                return None
            raise
        if self._bulk is None and records:
            # The test driver answers, but says nothing of memory and CPUs.
            self._bulk = any("balloon.current" in record or "vcpu.current" in record for _, record in records)
        return None if self._bulk is False else records


def with_disk_errors(reading: StatsReading, domain: Any) -> StatsReading:
    """With what stopped a guest at its disks (virDomainGetDiskErrors), asked only of one that is paused by an I/O error and has just answered."""
    if not reading.block or optional(lambda: domain.state(0)) != [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR]:
        return reading
    errors = optional(lambda: domain.diskErrors(0)) or {}
    return replace(reading, block=tuple(replace(disk, error=_DISK_ERRORS.get(errors.get(disk.target, 0))) for disk in reading.block))


def _lookup(connection: Any, uuid: str) -> Any | None:
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _cpus(domain: Any) -> tuple[dict[int, int], dict[int, str]]:
    """The host CPU of each virtual CPU, and those that it may run on: virDomainGetVcpus takes no job, and bulk statistics do not have them."""
    answer = optional(domain.vcpus)
    if not answer:
        return {}, {}
    rows, maps = answer
    return {row[0]: row[3] for row in rows}, {row[0]: affinity(may) for row, may in zip(rows, maps, strict=False)}


def affinity(may: Sequence[bool]) -> str:
    """A map of host CPUs in libvirt's notation: "0-3,8"."""
    runs: list[list[int]] = []
    for cpu in (cpu for cpu, allowed in enumerate(may) if allowed):
        if runs and runs[-1][-1] == cpu - 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ",".join("-".join(map(str, run)) for run in runs)


def from_record(
    uuid: str, stamp: Stamp, record: Record, cpus: dict[int, int] | None = None, affinities: dict[int, str] | None = None
) -> StatsReading:
    """One domain's row of a bulk answer; groups that the row lacks are None."""
    return _credible(
        StatsReading(
            uuid=uuid,
            stamp=stamp,
            cpu=_cpu(record),
            memory=_memory(record),
            block=_blocks(record),
            interfaces=_interfaces(record),
            vcpus=_vcpus(record, cpus or {}, affinities or {}),
        )
    )


def _credible(reading: StatsReading) -> StatsReading:
    """A reading without the numbers that cannot be.

    A guest's balloon driver writes what it likes, up to 2**64 - 1, and libvirt says -1 for what it does not count.
    """
    cpu, memory = reading.cpu, reading.memory
    return replace(
        reading,
        cpu=_credible_row(cpu) if cpu is not None and 0 <= cpu.time_ns <= LARGEST else None,
        memory=_credible_row(memory) if memory is not None else None,
        block=_credible_rows(reading.block),
        interfaces=_credible_rows(reading.interfaces),
        vcpus=_credible_rows(reading.vcpus),
    )


def _credible_rows(rows: tuple[Row, ...] | None) -> tuple[Row, ...] | None:
    return tuple(_credible_row(row) for row in rows) if rows is not None else None


def _credible_row(row: Row) -> Row:
    numbers = {name: number for name in row.__struct_fields__ if isinstance(number := getattr(row, name), int)}
    wrong = {name: None for name, number in numbers.items() if not 0 <= number <= LARGEST}
    return replace(row, **wrong) if wrong else row


def _cpu(record: Record) -> CpuStats | None:
    if "cpu.time" not in record:
        return None
    return CpuStats(time_ns=record["cpu.time"], user_ns=record.get("cpu.user"), system_ns=record.get("cpu.system"))


def _memory(record: Record) -> MemoryStats | None:
    # A busy guest's row still has balloon.current from the definition, but nothing that the guest or its process said.
    if "balloon.rss" not in record and "balloon.unused" not in record:
        return None
    fields = {field: record[f"balloon.{key}"] * factor for field, key, _, factor in _MEMORY if f"balloon.{key}" in record}
    actual = record.get("balloon.current")
    return MemoryStats(actual_bytes=actual * KIB if actual is not None else None, **fields)


def _blocks(record: Record) -> tuple[BlockStats, ...] | None:
    if "block.count" not in record:
        return None
    if record["block.count"] and not any(key.endswith((".rd.reqs", ".capacity")) for key in record if key.startswith("block.")):
        return None
    found = []
    for number in range(record["block.count"]):
        row = {field: record[f"block.{number}.{key}"] for field, key in _BLOCK if f"block.{number}.{key}" in record}
        if f"block.{number}.name" in record:
            found.append(BlockStats(target=record[f"block.{number}.name"], path=record.get(f"block.{number}.path"), **row))
    return tuple(found)


def _interfaces(record: Record) -> tuple[InterfaceStats, ...] | None:
    if "net.count" not in record:
        return None
    found = []
    for number in range(record["net.count"]):
        row = {field: record[f"net.{number}.{key}"] for field, key in _INTERFACE if f"net.{number}.{key}" in record}
        if f"net.{number}.name" in record:
            found.append(InterfaceStats(target=record[f"net.{number}.name"], **row))
    return tuple(found)


def _vcpus(record: Record, cpus: dict[int, int], affinities: dict[int, str]) -> tuple[VcpuStats, ...] | None:
    if "vcpu.current" not in record:
        return None
    numbers = [number for number in range(int(record.get("vcpu.maximum") or record["vcpu.current"])) if f"vcpu.{number}.state" in record]
    return tuple(
        VcpuStats(
            number=number,
            state=_vcpu_state(record[f"vcpu.{number}.state"]),
            time_ns=record.get(f"vcpu.{number}.time"),
            cpu=cpus.get(number),
            affinity=affinities.get(number),
        )
        for number in numbers
    )


def _vcpu_state(state: int) -> str | None:
    return _VCPU_STATES[state] if 0 <= state < len(_VCPU_STATES) else None


def _one_by_one(domain: Any, clock: Clock) -> StatsReading:
    stamp = clock.stamp()
    info = optional(domain.info)
    xml = optional(lambda: domain.XMLDesc(0))
    return _credible(
        StatsReading(
            uuid=domain.UUIDString(),
            stamp=stamp,
            cpu=CpuStats(time_ns=info[4]) if info else None,
            memory=_single_memory(optional(domain.memoryStats)),
            block=_single_blocks(domain, xml) if xml else None,
            interfaces=_single_interfaces(domain, xml) if xml else None,
            vcpus=_single_vcpus(optional(domain.vcpus)) or _plugged_vcpus(optional(lambda: domain.vcpusFlags(0))),
        )
    )


def _single_memory(answer: Record | None) -> MemoryStats | None:
    if not answer:
        return None
    fields = {field: answer[key] * factor for field, _, key, factor in _MEMORY if key in answer}
    return MemoryStats(actual_bytes=answer["actual"] * KIB if "actual" in answer else None, **fields)


def _single_blocks(domain: Any, xml: str) -> tuple[BlockStats, ...] | None:
    def read(target: str) -> BlockStats:
        counts = domain.blockStats(target)
        names = ("read_requests", "read_bytes", "write_requests", "write_bytes", "errors")
        sizes = dict(zip(("capacity_bytes", "allocation_bytes", "physical_bytes"), optional(lambda: domain.blockInfo(target)) or (), strict=False))
        return BlockStats(target=target, **dict(zip(names, counts, strict=False)), **sizes)

    return _each([disk.target for disk in devices(xml).disks], read)


def _single_interfaces(domain: Any, xml: str) -> tuple[InterfaceStats, ...] | None:
    def read(target: str) -> InterfaceStats:
        counts = domain.interfaceStats(target)
        names = [field for field, _ in _INTERFACE]
        return InterfaceStats(target=target, **dict(zip(names, counts, strict=False)))

    return _each([nic.target for nic in devices(xml).interfaces if nic.target], read)


def _each(targets: list[str], read: Callable[[str], Any]) -> tuple[Any, ...] | None:
    """What could be read of each target; None where there are targets and none could be read."""
    found = []
    for target in targets:
        row = optional(lambda target=target: read(target))  # type: ignore[misc]
        if row is not None:
            found.append(row)
    return tuple(found) if found or not targets else None


def _single_vcpus(answer: Any | None) -> tuple[VcpuStats, ...] | None:
    if not answer:
        return None
    return tuple(
        VcpuStats(number=number, state=_vcpu_state(state), time_ns=used, cpu=cpu, affinity=affinity(may) if may is not None else None)
        for (number, state, used, cpu), may in zip_longest(answer[0], answer[1])
    )


def _plugged_vcpus(count: int | None) -> tuple[VcpuStats, ...] | None:
    # libvirt-python counts the host's CPUs by virNodeGetCPUMap before it calls virDomainGetVcpus, and Xen's driver lacks the former.
    return tuple(VcpuStats(number=number) for number in range(count)) if count else None
