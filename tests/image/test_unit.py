"""The unit as it is, run by a real systemd in a machine of its own: it starts, works and stops, and what it forbids is forbidden."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.beds.wait import wait_until
from tests.image import build
from tests.image.container import GUARD, Container
from tests.image.machine import furnish, machine_image, with_systemd

pytestmark = [pytest.mark.image, pytest.mark.timeout(600), pytest.mark.xdist_group("image")]

CHOWN, DAC_READ_SEARCH = 1 << 0, 1 << 2
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A machine on which systemd has started the service."""
    build.image()
    with build.mounted(machine_image()) as root:
        furnish(root)
        with Container(tmp_path_factory.mktemp("machine"), with_systemd(root)) as machine:
            wait_until(lambda: machine.exec("systemctl", "is-active", "virtrpcd").stdout.strip() == "active", "the service to be active", GUARD)
            yield machine


def shown(machine: Container, name: str) -> str:
    """A property of the service."""
    return machine.exec("systemctl", "show", "--value", "-p", name, "virtrpcd").stdout.strip()


def inside(machine: Container, *words: str) -> Done:
    """Run a command among the service's mounts, with root's rights: what is denied then, the mounts deny."""
    return machine.exec("nsenter", "--mount", f"--target={shown(machine, 'MainPID')}", *words)


def test_it_serves(machine: Container) -> None:
    """SERVING, both hosts connected, and a managed save: driver processes start, the journal is written."""
    assert machine.exec("virtrpc", "health").stdout.strip() == "SERVING"
    wait_until(lambda: shown(machine, "StatusText").startswith("2 of 2 hosts connected"), "both hosts to be connected", GUARD)
    saved = machine.exec("virtrpc", "save", "calm/guest-1")
    assert saved.returncode == 0, saved.stderr


def test_its_rights_are_few(machine: Container) -> None:
    """Two capabilities and no way to more, and a filter of system calls, in the server and in its driver processes."""
    groups = "cat /sys/fs/cgroup/*/system.slice/virtrpcd.service/cgroup.procs /sys/fs/cgroup/system.slice/virtrpcd.service/cgroup.procs"
    processes = {*machine.exec("sh", "-c", f"{groups} 2>/dev/null").stdout.split()}
    assert len(processes) == 3
    for process in processes:
        status = dict(line.split(":\t", 1) for line in machine.exec("cat", f"/proc/{process}/status").stdout.splitlines() if ":\t" in line)
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == CHOWN | DAC_READ_SEARCH
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("place", ["/etc", "/usr/bin", "/var/lib/libvirt", "/root", "/sys/fs/cgroup"])
def test_it_writes_nowhere_else(machine: Container, place: str) -> None:
    """Everything but its three directories and its own /tmp is read-only to it."""
    machine.exec("mkdir", "-p", place)
    refused = inside(machine, "touch", f"{place}/written")
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr


@pytest.mark.parametrize("place", ["/run/virtrpc", "/var/lib/virtrpc", "/var/log/virtrpc", "/tmp"])
def test_it_writes_to_its_own(machine: Container, place: str) -> None:
    """What it needs is writable; what it writes to /tmp nobody else sees."""
    assert inside(machine, "touch", f"{place}/written").returncode == 0
    assert machine.exec("test", "-e", f"{place}/written").returncode == (1 if place == "/tmp" else 0)


def test_it_stops(machine: Container) -> None:
    """systemctl stop ends it in good order, and it can be started again."""
    assert machine.exec("systemctl", "stop", "virtrpcd").returncode == 0
    assert (shown(machine, "Result"), shown(machine, "ExecMainStatus")) == ("success", "0")
    assert machine.exec("systemctl", "start", "virtrpcd").returncode == 0
    assert machine.exec("virtrpc", "health").stdout.strip() == "SERVING"
