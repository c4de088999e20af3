"""The image, really built and really run, as an engine would run it: by an OCI runtime, with no rights, on a root that is only read."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.beds import certificates
from tests.beds.daemon import Libvirtd
from tests.beds.domain import domain_xml
from tests.beds.wait import wait_until
from tests.image import build, manifests
from tests.image.container import GUARD, Container, Mount, without_rights
from virtrpc import AsyncClient, Client
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.image, pytest.mark.timeout(300), pytest.mark.xdist_group("image")]

CALM = "calm=sim://calm/?domains=2&running=1&save_seconds=1"
SLOW = "slow=sim://slow/?domains=2&running=1&save_seconds=6"
WEDGED = "wedged=sim://wedged/?domains=2&running=1&latency=3600&read_latency=3600"
Begin = Callable[..., Container]


@pytest.fixture(scope="module")
def image() -> dict[str, Any]:
    """How the image is to be run."""
    build.image()
    return dict(build.inspect()["config"])


@pytest.fixture(scope="module")
def root(image: dict[str, Any]) -> Iterator[Path]:
    """The image's files."""
    with build.mounted() as root:
        yield root


@pytest.fixture
def outside(tmp_path: Path, image: dict[str, Any]) -> Path:
    """What a machine gives a container: `run` for the socket and `state` for the journal, its user's; `etc` for the configuration."""
    uid = int(image["User"].partition(":")[0])
    for name in ("run", "state", "etc"):
        (tmp_path / name).mkdir()
    os.chown(tmp_path / "run", uid, uid)
    os.chown(tmp_path / "state", uid, uid)
    return tmp_path


@pytest.fixture
def begin(root: Path, image: dict[str, Any], outside: Path) -> Begin:
    """Makes a container of the server with these words, and these mounts beside the usual three."""

    def made(*words: str, mounts: Sequence[Mount] = (), groups: Sequence[int] = ()) -> Container:
        usual = (Mount(outside / "run", "/run/virtrpc"), Mount(outside / "state", "/var/lib/virtrpc"))
        return Container(outside, without_rights(root, image, words, [*usual, *mounts], groups=groups))

    return made


def command_line(outside: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of this checkout, on the socket that the container's server has made."""
    environment = {**os.environ, "VIRTRPC_ADDRESS": str(outside / "run/virtrpc.sock")}
    return subprocess.run([sys.executable, "-m", "virtrpc.cli", *words], capture_output=True, text=True, env=environment, timeout=GUARD)


def wait_live(outside: Path) -> None:
    """Return once the server has got to know its hosts."""
    with Client(str(outside / "run/virtrpc.sock")) as client:
        wait_until(lambda: all(host.state == t.FRESHNESS_LIVE for host in client.list_hosts()), "the hosts to be LIVE", GUARD)


# What it is


def test_it_has_the_server_and_no_tools(root: Path) -> None:
    """No package installer and no compiler in it, no program that gives rights, and nothing of the machine that built it."""
    names = {path.name for path in (root / "opt/virtrpc/lib/python3.11/site-packages").iterdir()}
    assert {"virtrpc", "virtrpc_server", "virtrpc_drivers"} <= names
    assert not names & {"pip", "setuptools", "hatchling", "pytest"}
    assert not [program for program in ("gcc", "ld", "pip", "pip3", "strip") if (root / "usr/bin" / program).exists()]
    assert not any((root / build.MOUNTED[1:]).iterdir())
    assert not (root / "etc/pip.conf").exists()


def test_its_user_owns_only_what_is_mounted(root: Path, image: dict[str, Any]) -> None:
    """The user that it names is in its passwd, and owns the two directories that are mounted over, and no other file."""
    uid, _, gid = image["User"].partition(":")
    assert f":{uid}:{gid}:" in (root / "etc/passwd").read_text()
    owned = subprocess.run(["find", root, "-xdev", "-uid", uid], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(owned) == [f"{root}/run/virtrpc", f"{root}/var/lib/virtrpc"]


def test_all_of_it_is_compiled(root: Path) -> None:
    """Each module has its compiled form beside it, valid whatever its file's time is: the read-only root takes none later."""
    for package in ("virtrpc_server", "grpc", "pydantic"):
        home = root / "opt/virtrpc/lib/python3.11/site-packages" / package
        sources = {path.stem for path in home.glob("*.py")}
        compiled = {path.name.partition(".")[0]: path.read_bytes()[4] for path in (home / "__pycache__").iterdir()}
        assert (set(compiled), set(compiled.values())) == (sources, {1}), package


# How it runs


async def test_it_serves_without_rights(begin: Begin, outside: Path, image: dict[str, Any]) -> None:
    """Health is SERVING, a managed save is done for a client outside, and its process has no capability and a filter of system calls."""
    with begin("--host", CALM) as container:
        container.wait_listening()
        probe = container.exec(*image["Healthcheck"]["Test"][1:])
        assert (probe.returncode, probe.stdout.strip()) == (0, "SERVING"), probe.stderr
        wait_live(outside)
        saved = command_line(outside, "save", "guest-1")
        assert saved.returncode == 0, saved.stderr
        (told,) = json.loads(command_line(outside, "--json", "list", "--with-managed-save").stdout)["domains"]
        assert told["name"] == "guest-1"
        status = dict(line.split(":\t", 1) for line in container.exec("cat", "/proc/1/status").stdout.splitlines() if ":\t" in line)
        assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["Uid"].split() == [image["User"].partition(":")[0]] * 4
        assert container.exec("touch", "/opt/virtrpc/x").returncode == 1
        assert "Traceback" not in container.log


async def test_it_drains_and_the_next_one_knows(begin: Begin, outside: Path, image: dict[str, Any]) -> None:
    """SIGTERM in the middle of a save: the probe fails, the save ends, then the container with 0; the next one on the same state tells of the job."""
    with begin("--host", SLOW) as container:
        container.wait_listening()
        wait_live(outside)
        async with AsyncClient(str(outside / "run/virtrpc.sock")) as client:
            save = await client.managed_save_domain("guest-1")
            async for job in save:
                if job.state == t.JOB_STATE_RUNNING:
                    break
            container.kill(signal.SIGTERM)
            down = await asyncio.to_thread(unready, container, image)
            assert (down.returncode, down.stdout.strip()) == (1, "NOT_SERVING")
            assert (await save.wait()).state == t.JOB_STATE_SUCCEEDED
        assert await asyncio.to_thread(container.wait) == 0, container.log
    with begin("--host", SLOW) as container:
        container.wait_listening()
        with Client(str(outside / "run/virtrpc.sock")) as blocking:
            assert blocking.get_job(job_id=save.job_id).state == t.JOB_STATE_SUCCEEDED


def unready(container: Container, image: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """What the image's probe says once that is not SERVING any more."""
    found: list[subprocess.CompletedProcess[str]] = []

    def down() -> bool:
        found.append(container.exec(*image["Healthcheck"]["Test"][1:]))
        return found[-1].returncode != 0

    wait_until(down, "the probe to fail", GUARD)
    return found[-1]


def test_a_directory_of_somebody_else_is_named(begin: Begin, outside: Path) -> None:
    """A state directory that it may not write to is named in the log; queries are answered, and a verb says that nothing can be kept."""
    os.chown(outside / "state", 0, 0)
    with begin("--host", CALM) as container:
        container.wait_listening()
        wait_until(lambda: "Permission denied: '/var/lib/virtrpc/" in container.log, "the directory to be named", GUARD)
        wait_live(outside)
        assert "JOURNAL_UNAVAILABLE" in command_line(outside, "--timeout", "1", "save", "guest-1").stderr
        assert "Traceback" not in container.log


# As the manifests run it


def test_the_state_is_given_away(root: Path, image: dict[str, Any], outside: Path) -> None:
    """The container that is root makes a directory as the kubelet leaves it the server's own, with its two capabilities, and does so again."""
    security = manifests.owner()["securityContext"]
    os.chown(outside / "state", 0, 0)
    for _ in range(2):
        configuration = without_rights(
            root,
            image,
            manifests.owner()["command"],
            [Mount(outside / "state", manifests.mounts(manifests.owner())["state"]["mountPath"])],
            entry=False,
            user=f"{security['runAsUser']}:0",
            capabilities=security["capabilities"]["add"],
        )
        container = Container(outside, configuration)
        assert container.run() == 0, container.log
        found = (outside / "state").stat()
        assert (f"{found.st_uid}:{found.st_gid}", found.st_mode & 0o777) == (image["User"], 0o700)


def test_a_wedged_host_fails_no_probe(begin: Begin, outside: Path) -> None:
    """Every probe of the DaemonSet succeeds while one host answers nothing and another cannot be reached; only the host's own name says so."""
    with begin("--host", WEDGED, "--host", "away=test:///nowhere") as container:
        container.wait_listening()
        for name in manifests.PROBES:
            probe = container.exec(*manifests.server()[name]["exec"]["command"])
            assert (probe.returncode, probe.stdout.strip()) == (0, "SERVING"), (name, probe.stderr)
        assert container.exec("virtrpc", "health", "virtrpc.host/away").stdout.strip() == "NOT_SERVING"


class Hypervisor(Libvirtd):
    """A daemon on a machine that has the image's user, whose socket is for a group."""

    group = 64055

    def __init__(self, user: str) -> None:
        super().__init__("first", {"unix_sock_rw_perms": "0770"})
        self._user = user

    def _prepare(self) -> None:
        # libvirtd looks up every caller's user and group, and sends away whom the machine does not know.
        for table, entry in (("passwd", f"virtrpc:x:{self._user}::/:/usr/sbin/nologin"), ("group", f"virtrpc:x:{self._user.partition(':')[2]}:")):
            known = self.path / table
            known.write_text(Path(f"/etc/{table}").read_text() + entry + "\n")
            self.inside("mount", "--bind", str(known), f"/etc/{table}")

    def start(self) -> None:
        """Start it; the socket is the group's."""
        super().start()
        os.chown(self.socket, 0, self.group)


def test_the_shipped_configuration_serves(begin: Begin, outside: Path, image: dict[str, Any]) -> None:
    """With the file and the secret as the DaemonSet mounts them: who has a certificate is served, who has none is not; probes need none."""
    made = certificates.make(outside / "made")
    tls = outside / "etc/tls"
    tls.mkdir()
    for name in manifests.CONFIGURATION:
        shutil.copy(manifests.HOME / name, outside / "etc")
    pairs = [(made.server.certificate, "tls.crt"), (made.server.key, "tls.key"), (made.ca, "ca.crt")]
    pairs += [(made.client.certificate, "client.crt"), (made.client.key, "client.key")]
    for source, name in pairs:
        shutil.copy(source, tls / name)
        os.chown(tls / name, 0, int(image["User"].partition(":")[2]))
        (tls / name).chmod(0o440)
    with begin("--host", CALM, mounts=[Mount(outside / "etc", "/etc/virtrpc", read_only=True)]) as container:
        container.wait_listening()
        probe = manifests.server()["readinessProbe"]["exec"]["command"]
        assert container.exec(*probe).stdout.strip() == "SERVING"
        call = ("virtrpc", "--address", "localhost:50051", "--ca", "/etc/virtrpc/tls/ca.crt", "--timeout", "5")
        served = container.exec(*call, "--client-certificate", "/etc/virtrpc/tls/client.crt", "--client-key", "/etc/virtrpc/tls/client.key", "hosts")
        assert served.returncode == 0, served.stderr
        assert "calm" in served.stdout
        assert container.exec(*call, "hosts").returncode == 3


@pytest.mark.hypervisor
def test_it_reaches_libvirt_by_its_group(begin: Begin, outside: Path, image: dict[str, Any]) -> None:
    """With the group of the daemon's socket, whose directory is mounted read-only, it starts a real guest; without it the log says why not."""
    with Hypervisor(image["User"]) as daemon:
        daemon.define(domain_xml("guest-1", console_log=daemon.console_log("guest-1")))
        mount = Mount(daemon.socket.parent, "/run/libvirt", read_only=True)
        with begin("--host", "local=qemu:///system", mounts=[mount]) as container:
            container.wait_listening()
            wait_until(lambda: "libvirt-sock': Permission denied" in container.log, "the daemon's socket to be denied", GUARD)
        with begin("--host", "local=qemu:///system", mounts=[mount], groups=[daemon.group]) as container:
            container.wait_listening()
            wait_live(outside)
            begun = command_line(outside, "start", "guest-1")
            assert begun.returncode == 0, begun.stderr
        assert daemon.virsh("domstate", "guest-1").strip() == "running"
