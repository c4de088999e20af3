"""Signs of life: whose CPU time is counted where, and that no monitor is asked for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import pytest

from tests.beds.wait import wait_until
from virtrpc_drivers.libvirt.pulses import pulses
from virtrpc_drivers.values import Control, Pulse

UUID = "7f3c1f0e-0000-4000-8000-00000000beef"
TICKS = 30_000_000
WORK = "import sys\nfor line in sys.stdin: sum(range(1000))"


def refusal(code: int) -> libvirt.libvirtError:
    """An error of libvirt's."""
    error = libvirt.libvirtError("")
    error.err = (code, 0, "no", 2, None, None, None, -1, -1)
    return error


class Host:
    """A connection with one domain, which answers what needs no monitor and nothing else."""

    state = libvirt.VIR_DOMAIN_RUNNING
    counted: int | None = None
    """What its control group has counted; None where it has none."""

    def lookupByUUIDString(self, uuid: str) -> Host:  # noqa: N802 - libvirt's name
        if uuid != UUID:
            raise refusal(libvirt.VIR_ERR_NO_DOMAIN)
        return self

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def info(self) -> list[int]:
        return [self.state, 1024, 1024, 1, TICKS]

    def controlInfo(self, _flags: int) -> list[int]:  # noqa: N802 - libvirt's name
        return [libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 5]

    def getCPUStats(self, _total: bool) -> list[dict[str, int]]:  # noqa: N802 - libvirt's name
        if self.counted is None:
            raise refusal(libvirt.VIR_ERR_OPERATION_INVALID)
        return [{"cpu_time": self.counted}]


def pulse(host: Host, *, local: bool = True) -> Pulse:
    """The domain's; another that is asked for is left out."""
    (found,) = pulses(host, [UUID, "00000000-0000-4000-8000-000000000000"], local=local).pulses
    return found


@contextmanager
def process() -> Iterator[subprocess.Popen[str]]:
    """A process that looks like the domain's QEMU, and works a little for each line that it is given."""
    with subprocess.Popen([sys.executable, "-c", WORK, "-uuid", UUID, "-smp"], stdin=subprocess.PIPE, text=True, bufsize=1) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("local", [True, False])
def test_a_control_groups_count_goes_first(local: bool) -> None:
    """It is fine, and it is there also for guests of another machine."""
    host = Host()
    host.counted = 7
    assert pulse(host, local=local) == Pulse(uuid=UUID, control=Control.OCCUPIED, cpu_time_ns=7)


def test_a_process_of_this_machine_is_counted_by_the_kernel() -> None:
    """What it does in far less than a tick is seen; without its process, or on another machine, ticks have to do."""
    assert pulse(Host()).cpu_time_ns == TICKS
    with process() as running:
        assert running.stdin is not None
        wait_until(lambda: pulse(Host()).cpu_time_ns != TICKS, "the process to be found", 30)
        before: Any = pulse(Host()).cpu_time_ns
        running.stdin.write("work\n")
        wait_until(lambda: (pulse(Host()).cpu_time_ns or 0) > before, "its work to be seen", 30)
        assert pulse(Host(), local=False).cpu_time_ns == TICKS


def test_a_domain_that_is_off_has_no_pulse() -> None:
    """Nothing of it can be stuck."""
    host = Host()
    host.state = libvirt.VIR_DOMAIN_SHUTOFF
    assert pulses(host, [UUID], local=True).pulses == ()
