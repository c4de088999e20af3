"""What the doctor finds, with a stand-in for virt-admin and with a real private libvirtd."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.beds.daemon import Libvirtd
from tests.server.fake_driver import only, reading, uuid
from virtrpc_drivers.errors import Fault, Reason
from virtrpc_drivers.protocol import Deliver, DriverSettings, HostDown, HostUp
from virtrpc_drivers.values import Group, HostInfo, Listed, Listing, Readings, Stamp, State
from virtrpc_server import doctor as module
from virtrpc_server.admin import Daemon, daemons, min_workers
from virtrpc_server.doctor import Diagnosis, Finding, Level, examine, render
from virtrpc_server.main import cli
from virtrpc_server.settings import load

# Behaves as virt-admin: its pool is a file beside it, and it notes how it was called.
VIRT_ADMIN = """#!/bin/sh
home=$(dirname "$0")
echo "$@" >>"$home/calls"
[ -f "$home/broken" ] && { echo "error: Failed to connect to the admin server" >&2; exit 1; }
case $3 in
srv-threadpool-info) cat "$home/pool" ;;
srv-clients-info) cat "$home/clients" ;;
srv-threadpool-set) sed -i "s/^minWorkers.*/minWorkers     : $6/; s/^maxWorkers.*/maxWorkers     : $8/" "$home/pool" ;;
esac
"""
POOL = "minWorkers     : {}\nmaxWorkers     : 20\nnWorkers       : 5\nfreeWorkers    : {}\nprioWorkers    : 5\njobQueueDepth  : {}\n\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command sets for its driver processes is undone."""
    monkeypatch.setenv("VIRTRPC_LOG", "WARNING")


class FakeDriver:
    """Says one thing when it is started; of its domains, some run."""

    def __init__(self, notice: HostUp | HostDown, running: int = 0) -> None:
        self._notice = notice
        self._running = running
        self.closed = False

    async def start(self, deliver: Deliver) -> None:
        """Deliver it."""
        deliver(self._notice)

    async def list(self) -> Listing:
        """One more than there are running ones."""
        return Listing(
            stamp=Stamp(0, 0.0, 0.0), domains=tuple(Listed(uuid=uuid(number), name=f"guest-{number}") for number in range(self._running + 1))
        )

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """Half of them at a time."""
        assert group is Group.STATE
        some = len(uuids) // 2 + 1
        states = {uuid(number): State.RUNNING if number else State.SHUTOFF for number in range(self._running + 1)}
        found = [only(reading(int(which[-12:], 16), 0.0, state=states[which]), Group.STATE) for which in uuids[:some]]
        return Readings(found=tuple(found), rest=tuple(uuids[some:]))

    async def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def up(running: int = 0) -> FakeDriver:
    """A hypervisor that answers."""
    return FakeDriver(HostUp(info=HostInfo(uri="qemu:///system", hypervisor="qemu", hypervisor_version="7.2.22", libvirt_version="9.0.0")), running)


def down(reason: Reason) -> FakeDriver:
    """A hypervisor that cannot be reached."""
    return FakeDriver(HostDown(fault=Fault(reason=reason, message="authentication unavailable")))


class Bed:
    """A directory with a fake virt-admin and a daemon's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = path / "libvirt-sock"
        self.tool = path / "bin"
        self.tool.mkdir()
        (self.tool / "virt-admin").write_text(VIRT_ADMIN)
        (self.tool / "virt-admin").chmod(0o755)
        (self.tool / "clients").write_text("nclients_max        : 5000\nnclients            : 3\n")
        self.pool(5)

    def pool(self, minimum: int, free: int = 5, queued: int = 0) -> None:
        """What srv-threadpool-info says."""
        (self.tool / "pool").write_text(POOL.format(minimum, free, queued))

    def findings(self, driver: FakeDriver | None = None, *, fix: bool = False) -> dict[str, Finding]:
        """What the doctor finds at this daemon, the last of each check."""
        settings = load({"hosts": [f"a=qemu:///system?socket={self.socket}"]})
        chosen: Any = driver or up()
        (diagnosis,) = examine(settings, fix=fix, make_driver=lambda _settings: chosen)
        return {finding.check: finding for finding in diagnosis.findings}


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """A daemon that listens, with five workers."""
    bed = Bed(tmp_path)
    monkeypatch.setenv("PATH", f"{bed.tool}:{os.environ['PATH']}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bed.socket))
        listener.listen()
        yield bed


def test_a_host_that_is_well(bed: Bed) -> None:
    """Socket, hypervisor with its versions, enough workers and connections are all ok."""
    bed.pool(20)
    driver = up()
    findings = bed.findings(driver)
    assert {findings[check].level for check in ("socket", "hypervisor", "workers", "clients")} == {Level.OK}
    assert "qemu 7.2.22, libvirt 9.0.0" in findings["hypervisor"].text
    assert driver.closed


def test_few_workers_are_explained(bed: Bed) -> None:
    """A low min_workers is a warning that says what it means and which line raises it for good; nothing is changed."""
    finding = bed.findings()["workers"]
    assert finding.level is Level.WARNING
    assert "only 3 operations" in finding.text
    assert "min_workers = 20` in /etc/libvirt/libvirtd.conf" in finding.advice
    assert "srv-threadpool-set" not in (bed.tool / "calls").read_text()


def test_fix_raises_min_workers_in_the_running_daemon(bed: Bed) -> None:
    """--fix sets it by the admin socket beside the host's own, reads it again and says what it did."""
    finding = bed.findings(fix=True)["workers"]
    assert (finding.level, "from 5 to 20" in finding.text) == (Level.FIXED, True)
    admin = f"-c libvirtd+unix:///system?socket={bed.path}/libvirt-admin-sock srv-threadpool-set libvirtd --min-workers 20 --max-workers 20"
    assert admin in (bed.tool / "calls").read_text()


def test_as_many_workers_as_guests_that_may_hang(bed: Bed) -> None:
    """One for each running guest and twenty for the rest, also above max_workers; the reckoning and both lines are told, and it is enough then."""
    few = bed.findings(up(25))["workers"]
    assert "Enough are 45: one for each of 25 running guests, 15 for statistics" in few.text
    assert "`max_workers = 45` and `min_workers = 45` in /etc/libvirt/libvirtd.conf" in few.advice
    fixed = bed.findings(up(25), fix=True)["workers"]
    assert (fixed.level, "from 5 to 45" in fixed.text) == (Level.FIXED, True)
    assert "--min-workers 45 --max-workers 45" in (bed.tool / "calls").read_text()
    assert bed.findings(up(25))["workers"].level is Level.OK


def test_a_daemon_that_does_not_answer_gets_more_workers_than_are_taken(bed: Bed) -> None:
    """Nobody can say how many guests run: each worker that is taken may be held by one of them."""
    bed.pool(5, free=1)
    fixed = bed.findings(down(Reason.HOST_UNREACHABLE), fix=True)["workers"]
    assert "one for each of 4 workers that are taken" in fixed.text
    assert "--min-workers 24 --max-workers 24" in (bed.tool / "calls").read_text()


def test_calls_that_wait_for_a_worker_are_a_problem(bed: Bed) -> None:
    """A daemon without a free worker is wrong, also where its limit is high."""
    bed.pool(20, free=0, queued=4)
    settings = load({"hosts": [f"a=qemu:///system?socket={bed.socket}"]})
    maker: Any = lambda _settings: up()  # noqa: E731 # typed as the doctor's factory
    (diagnosis,) = examine(settings, make_driver=maker)
    assert not diagnosis.healthy
    assert any("4 calls wait for a worker" in finding.text for finding in diagnosis.findings)


def test_taken_connections_are_a_problem(bed: Bed) -> None:
    """Nine tenths of max_clients is too near."""
    (bed.tool / "clients").write_text("nclients_max        : 100\nnclients            : 90\n")
    assert bed.findings()["clients"].level is Level.PROBLEM


def test_an_admin_interface_that_fails_is_no_fault_of_the_host(bed: Bed) -> None:
    """Where virt-admin cannot read the limits the doctor says why, and that 5 workers are counted on."""
    (bed.tool / "broken").touch()
    finding = bed.findings()["limits"]
    assert finding.level is Level.INFO
    assert "Failed to connect to the admin server" in finding.text
    assert "5 workers" in finding.advice


def test_a_missing_virt_admin_is_named(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without virt-admin the package is named."""
    monkeypatch.setenv("PATH", str(bed.path))
    assert "libvirt-clients" in bed.findings()["limits"].text


@pytest.mark.parametrize(
    ("remove", "text", "advice"), [(True, "No such file", "systemctl enable --now libvirtd.socket"), (False, "refused", "not running")]
)
def test_a_socket_that_does_not_answer(tmp_path: Path, remove: bool, text: str, advice: str) -> None:
    """A missing and a dead socket are told apart, each with what to do."""
    bed = Bed(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(bed.socket))
    if remove:
        bed.socket.unlink()
    finding = bed.findings(down(Reason.HOST_UNREACHABLE))["socket"]
    assert finding.level is Level.PROBLEM
    assert text in finding.text
    assert advice in finding.advice


def test_a_forbidden_socket_names_group_and_polkit(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """EACCES is answered with the socket's group and with polkit."""
    monkeypatch.setattr(module, "_group", lambda _path: "libvirt")
    advice = module._socket_advice(Daemon("libvirtd", bed.socket), PermissionError(13, "Permission denied"))
    assert "group libvirt" in advice
    assert "polkit" in advice


def test_a_hypervisor_that_refuses_is_a_problem(bed: Bed) -> None:
    """What the driver process says is passed on, with the polkit hint."""
    finding = bed.findings(down(Reason.PERMISSION_DENIED))["hypervisor"]
    assert (finding.level, "polkit" in finding.advice) == (Level.PROBLEM, True)
    assert "authentication unavailable" in finding.text


def test_an_embedded_hypervisor_is_not_opened(tmp_path: Path) -> None:
    """Opening one would start its guests in the doctor's process: only its root is looked at."""

    def never(_settings: DriverSettings) -> Any:
        raise AssertionError("opened")

    (diagnosis,) = examine(load({"hosts": [f"qemu:///embed?root={tmp_path}/new"]}), make_driver=never)
    assert next(finding for finding in diagnosis.findings if finding.check == "embed").level is Level.OK
    (diagnosis,) = examine(load({"hosts": ["qemu:///embed"]}), make_driver=never)
    assert "absolute root" in diagnosis.findings[0].text


def test_a_kvm_device_that_is_missing_or_useless_is_told(tmp_path: Path) -> None:
    """No device, and a device that makes no virtual machine, are hints and no problems."""
    assert module._check_kvm(tmp_path / "none").level is Level.INFO
    (tmp_path / "kvm").touch()
    assert "makes no virtual machine" in module._check_kvm(tmp_path / "kvm").text


def test_the_daemon_is_derived_from_the_uri(tmp_path: Path) -> None:
    """A URI's socket names the daemon and its admin socket; other machines and drivers in the client library have none here."""
    (given,) = daemons("qemu+unix:///system?socket=/x/run/virtqemud-sock-ro")
    assert (given.name, given.admin_uri) == ("virtqemud", "virtqemud+unix:///system?socket=/x/run/virtqemud-admin-sock")
    assert daemons("test:///default") == daemons("esx://h/") == daemons("qemu+tcp://h/system") == daemons("qemu:///embed?root=/x") == []
    assert [daemon.name for daemon in daemons("qemu:///system", run=tmp_path)] == ["libvirtd", "virtqemud"]
    (tmp_path / "virtqemud-sock").touch()
    assert daemons("qemu:///system", run=tmp_path)[0] == Daemon("virtqemud", tmp_path / "virtqemud-sock")


def test_the_doctor_prints_tables_and_sentences() -> None:
    """Each host has a table; advice stands below it as plain sentences; brackets in texts are no markup."""
    out = io.StringIO()
    finding = Finding("socket", Level.PROBLEM, "it [red]broke", "Mend it.")
    render([Diagnosis("a", "qemu:///system", (finding,))], Console(file=out, width=100))
    text = out.getvalue()
    assert "it [red]broke" in text
    assert "socket: Mend it." in text
    assert "Something is wrong with: a." in text


def test_the_command_speaks_json_and_exits_by_health() -> None:
    """`virtrpcd doctor --json` with a real driver process: 0 where all is well, 1 where a host is not."""
    good = CliRunner().invoke(cli, ["doctor", "--json", "--host", "t=test:///default"])
    (diagnosis,) = json.loads(good.stdout)
    assert (good.exit_code, diagnosis["host"], diagnosis["healthy"]) == (0, "t", True)
    bad = CliRunner().invoke(cli, ["doctor", "--host", "t=test:///nowhere/at/all.xml"])
    assert bad.exit_code == 1
    assert "cannot be reached" in bad.stdout


@pytest.mark.hypervisor
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("libvirtd") is None, reason="a private libvirtd needs root and libvirt-daemon")
def test_fix_works_on_a_real_daemon() -> None:
    """On a real libvirtd the doctor reads five workers, --fix raises them to twenty, and the daemon itself says so."""
    with Libvirtd("doctor") as daemon:
        runner = CliRunner()
        host = ["--host", f"a={daemon.uri}"]
        (before,) = json.loads(runner.invoke(cli, ["doctor", "--json", *host]).stdout)
        (fixed,) = json.loads(runner.invoke(cli, ["doctor", "--json", "--fix", *host]).stdout)
        levels = {finding["check"]: finding["level"] for finding in before["findings"]}
        assert (levels["socket"], levels["hypervisor"], levels["workers"]) == ("ok", "ok", "warning")
        assert {finding["check"]: finding["level"] for finding in fixed["findings"]}["workers"] == "fixed"
        assert "minWorkers     : 20" in daemon.admin("srv-threadpool-info", "libvirtd")
        assert asyncio.run(min_workers(daemon.uri)) == 20
        Daemon("libvirtd", daemon.socket).set_workers(45, 45)
        assert "maxWorkers     : 45" in daemon.admin("srv-threadpool-info", "libvirtd")
        assert "nWorkers       : 45" in daemon.admin("srv-threadpool-info", "libvirtd")
