"""Signs of life that no monitor is asked for.

Measured with libvirt 9.0 and guests stopped by SIGSTOP: virDomainGetInfo, GetControlInfo and GetCPUStats answer in well under a
millisecond each, also while other calls hang. Bulk statistics of the CPU alone hang, with NOWAIT too: they ask QEMU.

How fine CPU time is counted decides how soon an idle guest can be seen to live. virDomainGetInfo counts in ticks of 10 ms, which
one needs seconds to use up. The control group counts finely; where there is none (embedded, session, a container), so does the
kernel for a process of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt

from virtrpc_drivers.libvirt.readings import control_of, optional, state_name
from virtrpc_drivers.values import ACTIVE_STATES, Pulse, Pulses

PROC = Path("/proc")
_UUID = re.compile(rb"-uuid\0([0-9a-f-]{36})\0")


def pulses(connection: Any, uuids: Sequence[str], *, local: bool) -> Pulses:
    """The pulses of these domains; those that are gone or off are left out. `local`: their processes may be this machine's."""
    felt = [pulse for pulse in (_pulse(connection, uuid) for uuid in uuids) if pulse is not None]
    processes = _processes() if local and any(coarse for _, coarse in felt) else {}
    return Pulses(pulses=tuple(_finer(pulse, processes) if coarse else pulse for pulse, coarse in felt))


def _pulse(connection: Any, uuid: str) -> tuple[Pulse, bool] | None:
    """A domain's pulse, and whether its CPU time is counted in ticks only."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        info = domain.info()
        if state_name(info[0]) not in ACTIVE_STATES:
            return None
        fine = optional(lambda: domain.getCPUStats(True)[0]["cpu_time"])
        return Pulse(uuid=uuid, control=optional(lambda: control_of(domain)), cpu_time_ns=info[4] if fine is None else fine), fine is None
    except libvirt.libvirtError:
        if not connection.isAlive():
            raise
        return None


def _finer(pulse: Pulse, processes: dict[str, Path]) -> Pulse:
    process = processes.get(pulse.uuid)
    used = _used(process) if process is not None else None
    return pulse if used is None else Pulse(uuid=pulse.uuid, control=pulse.control, cpu_time_ns=used)


def _processes() -> dict[str, Path]:
    """This machine's QEMU processes by their guests' UUIDs."""
    return {uuid: process for process in PROC.glob("[0-9]*") for uuid in _uuids(process)}


def _uuids(process: Path) -> Iterator[str]:
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:
        return  # it ended, or is not ours to see
    if (found := _UUID.search(command)) is not None:
        yield found[1].decode()


def _used(process: Path) -> int | None:
    """Nanoseconds of CPU that the threads of a process have used; None where the kernel does not say."""
    try:
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in (process / "task").iterdir())
    except (OSError, ValueError, IndexError):
        return None  # a thread ended under our eyes, or the kernel counts no such thing
