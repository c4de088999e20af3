"""What the other tests rely on: the guest does what a guest does, and a private daemon is one of two."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beds.daemon import Libvirtd
from tests.beds.domain import domain_xml, make_disk
from tests.beds.processes import alive
from tests.beds.wait import wait_for_console, wait_until

pytestmark = pytest.mark.hypervisor


@pytest.fixture(scope="module")
def alpha() -> Iterator[Libvirtd]:
    with Libvirtd("alpha", {"min_workers": 4, "max_workers": 9}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def beta() -> Iterator[Libvirtd]:
    with Libvirtd("beta") as daemon:
        yield daemon


@pytest.fixture
def guest(alpha: Libvirtd) -> Iterator[str]:
    """A guest that is up and ends with the test."""
    alpha.define(domain_xml("guest", console_log=alpha.console_log("guest")))
    alpha.virsh("start", "guest")
    wait_for_console(alpha.console_log("guest"), "READY")
    yield "guest"
    alpha.virsh("destroy", "guest", check=False)
    alpha.virsh("undefine", "guest", "--managed-save", check=False)


def test_the_agent_sets_a_password(alpha: Libvirtd, guest: str) -> None:
    """The guest's own file shows it: the hash is another one afterwards."""
    wait_until(lambda: 'state="connected"' in alpha.virsh("dumpxml", guest).replace("'", '"'), "the agent to connect")
    assert "root:*:" in _read(alpha, guest, "/etc/shadow")
    alpha.virsh("set-user-password", guest, "root", "secret")
    assert "root:$6$" in _read(alpha, guest, "/etc/shadow")


def test_the_power_button_ends_the_guest(alpha: Libvirtd, guest: str) -> None:
    """An ACPI shutdown is an answer of the guest, not a kill."""
    alpha.virsh("shutdown", guest, "--mode", "acpi")
    wait_until(lambda: alpha.virsh("domstate", guest).strip() == "shut off", "the guest to power off")
    assert "POWERING-OFF" in alpha.console_log(guest).read_text()


def test_a_disk_comes_and_goes(alpha: Libvirtd, guest: str, tmp_path: Path) -> None:
    """The guest releases a disk, so a detach ends."""
    disk = make_disk(tmp_path / "disk.qcow2", target="vdb")
    (tmp_path / "disk.xml").write_text(disk.xml())
    alpha.virsh("attach-device", guest, str(tmp_path / "disk.xml"))
    assert "vdb" in alpha.virsh("domblklist", guest)
    alpha.virsh("detach-device", guest, str(tmp_path / "disk.xml"))
    wait_until(lambda: "vdb" not in alpha.virsh("domblklist", guest), "the disk to go")


def test_guests_outlive_their_daemon_and_not_their_bed() -> None:
    """kill and restart leave the guest running, stop leaves nothing."""
    with Libvirtd("gamma") as daemon:
        daemon.define(domain_xml("guest", console_log=daemon.console_log("guest")))
        daemon.virsh("start", "guest")
        guest, first = daemon.qemu_pid("guest"), daemon.pid
        daemon.kill()
        daemon.start()
        daemon.restart()
        assert daemon.qemu_pid("guest") == guest
        assert daemon.pid != first
        assert "running" in daemon.virsh("domstate", "guest")
    wait_until(lambda: not alive(guest), "the guest to end with its bed")


def test_a_churning_guest_migrates_live_between_two_daemons(alpha: Libvirtd, beta: Libvirtd) -> None:
    """Each daemon is a host of its own to libvirt."""
    alpha.define(domain_xml("mover", console_log=alpha.console_log("mover"), memory_mib=256, churn_mib=64))
    alpha.virsh("start", "mover")
    wait_for_console(alpha.console_log("mover"), "FILLED")
    alpha.virsh("migrate", "--live", "--p2p", "mover", beta.tcp_uri, "--migrateuri", "tcp://127.0.0.1")
    assert "running" in beta.virsh("domstate", "mover")
    assert beta.qemu_pid("mover") in beta.qemu_pids()
    assert alpha.qemu_pids() == []


def test_settings_reach_the_daemon(alpha: Libvirtd) -> None:
    """The limits that tests of the budget rely on."""
    pool = alpha.admin("srv-threadpool-info", "libvirtd").split()
    assert pool[pool.index("minWorkers") + 2] == "4"
    assert pool[pool.index("maxWorkers") + 2] == "9"


def _read(daemon: Libvirtd, guest: str, path: str) -> str:
    """A file of the guest's, through the agent."""
    handle = _agent(daemon, guest, "guest-file-open", path=path)
    content = _agent(daemon, guest, "guest-file-read", handle=handle)
    assert isinstance(content, dict)
    return base64.b64decode(content["buf-b64"]).decode()


def _agent(daemon: Libvirtd, guest: str, command: str, **arguments: object) -> object:
    answer = daemon.virsh("qemu-agent-command", guest, json.dumps({"execute": command, "arguments": arguments}))
    value: object = json.loads(answer)["return"]
    return value
