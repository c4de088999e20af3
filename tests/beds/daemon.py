"""A private libvirtd with a host name, directories and sockets of its own; two of them can migrate guests to each other."""

import os
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Self

from tests.beds import capabilities
from tests.beds.namespace import Namespace
from tests.beds.processes import alive, children, command_line, kill
from tests.beds.wait import wait_until

# No cgroups: two daemons would put guests of one name into the same one.
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
"""

BINDS = {
    "run": "/run",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "etc": "/etc/libvirt",
    "hosts": "/etc/hosts",
}

Settings = Mapping[str, int | str]


class Libvirtd:
    """A libvirtd that is started on entering and ends with all its guests on leaving."""

    driver = "qemu"
    """Which of its drivers its URI means."""

    def __init__(self, hostname: str = "bed", settings: Settings | None = None) -> None:
        """Prepare its directories. ``settings`` go into libvirtd.conf: min_workers, max_workers, max_client_requests …"""
        self.hostname = hostname
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self.tcp_port = _free_port()
        self._settings = dict(settings or {})
        self._namespace: Namespace | None = None
        self._entered: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Its Unix socket, reachable from outside the namespace."""
        return self.path / "run/libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        """What a client on this machine opens."""
        return f"{self.driver}+unix:///system?socket={self.socket}"

    @property
    def tcp_uri(self) -> str:
        """What a client opens over TCP, and where a peer migrates guests to."""
        return f"qemu+tcp://127.0.0.1:{self.tcp_port}/system"

    @property
    def admin_uri(self) -> str:
        """What virt-admin opens."""
        return f"libvirtd+unix:///system?socket={self.path / 'run/libvirt/libvirt-admin-sock'}"

    @property
    def pid(self) -> int:
        """The daemon's own process."""
        assert self._entered is not None
        return children(self._entered.pid)[0]

    def console_log(self, name: str) -> Path:
        """Where a guest's console can be written to."""
        return self.path / f"{name}.console"

    def start(self) -> None:
        """Start the daemon and return once it answers."""
        if self._namespace is None:
            self._configure()
            self._namespace = Namespace(self.hostname, {self.path / outside: inside for outside, inside in BINDS.items()})
            self._prepare()
        self._entered = self._namespace.spawn(["libvirtd", "--listen"], self.path / "libvirtd.log")
        wait_until(self._answers, f"libvirtd {self.hostname} to answer, see {self.path}/libvirtd.log", 60)

    def _prepare(self) -> None:
        """What is to be done among its mounts before the daemon starts."""

    def kill(self) -> None:
        """Kill the daemon alone; its guests run on."""
        self._end_daemon(signal.SIGKILL)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The daemon answers nobody while the context lasts (SIGSTOP)."""
        assert self._entered is not None
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            # nsenter stops itself together with its child, and then would not see it end.
            os.kill(self._entered.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """End the daemon in good order and start it again; its guests run on."""
        self._end_daemon(signal.SIGTERM)
        self.start()

    def stop(self) -> None:
        """End the daemon and its guests and remove its directories."""
        if self._namespace is not None:
            self._namespace.close()
            self._namespace = None
        if self._entered is not None:
            self._entered.wait(30)
        capabilities.keep(self.path / "cache")
        rmtree(self.path)

    def define(self, xml: str) -> None:
        """Define a domain from XML that may be longer than a command line."""
        subprocess.run(["virsh", "-c", self.uri, "define", "/dev/stdin"], input=xml, text=True, check=True, capture_output=True)

    def virsh(self, *arguments: str, check: bool = True) -> str:
        """What virsh prints for a command; with ``check`` a failure raises CalledProcessError, which carries stderr."""
        return self._tool("virsh", self.uri, arguments, check)

    def admin(self, *arguments: str) -> str:
        """What virt-admin prints for a command."""
        return self._tool("virt-admin", self.admin_uri, arguments, check=True)

    def inside(self, *command: str | Path) -> str:
        """What a program prints that is run where the daemon runs: among its mounts."""
        assert self._namespace is not None
        return self._namespace.run(command)

    def qemu_pids(self) -> list[int]:
        """The processes of its running guests."""
        inside = self._namespace.pids() if self._namespace else []
        return [pid for pid in inside if Path((command_line(pid) or [""])[0]).name.startswith("qemu-system")]

    def qemu_pid(self, domain: str) -> int:
        """The process of one running guest."""
        return next(pid for pid in self.qemu_pids() if any(word.startswith(f"guest={domain},") for word in command_line(pid)))

    def _tool(self, program: str, uri: str, arguments: tuple[str, ...], check: bool) -> str:
        return subprocess.run([program, "-c", uri, *arguments], check=check, capture_output=True, text=True).stdout

    def _answers(self) -> bool:
        assert self._entered is not None
        if self._entered.poll() is not None:
            raise RuntimeError(f"libvirtd {self.hostname} ended: {(self.path / 'libvirtd.log').read_text()}")
        return self.virsh("uri", check=False) != ""

    def _end_daemon(self, number: signal.Signals) -> None:
        assert self._entered is not None
        if alive(self._entered.pid):
            kill(self.pid, number)
        self._entered.wait(30)

    def _configure(self) -> None:
        (self.path / "etc").mkdir(exist_ok=True)
        (self.path / "etc/qemu.conf").write_text(QEMU_CONF)
        # libvirt looks its own host name up: without an answer here each look-up waits 40 s for a name server.
        (self.path / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.hostname}\n")
        settings: dict[str, int | str] = {
            "listen_tls": 0,
            "listen_tcp": 1,
            "listen_addr": "127.0.0.1",
            "tcp_port": str(self.tcp_port),
            "auth_tcp": "none",
            "auth_unix_rw": "none",
            "auth_unix_ro": "none",
            "host_uuid": str(uuid.uuid4()),
            **self._settings,
        }
        lines = [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in settings.items()]
        (self.path / "etc/libvirtd.conf").write_text("\n".join(lines) + "\n")
        capabilities.seed(self.path / "cache")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
