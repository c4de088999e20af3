"""`virtrpcd doctor`: what is wrong with each configured host, and what to do about it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from rich.console import Console
from rich.table import Table

from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.protocol import AnyNotice, Driver, DriverSettings, HostDown, HostUp
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.values import Group
from virtrpc_server.admin import IN_PROCESS, MODULAR, AdminError, Daemon, Pool, daemons
from virtrpc_server.budgets import BESIDE, ROOM, Budget, enough_workers
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings, shown

KVM_CREATE_VM = 0xAE01
CONNECT_SECONDS = 20.0
"""How long a hypervisor is given to answer."""
QEMU_NAMES = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64", "ppc64le": "qemu-system-ppc64", "s390x": "qemu-system-s390x"}
OTHER_QEMUS = (Path("/usr/libexec/qemu-kvm"), Path("/usr/bin/qemu-kvm"), Path("/usr/bin/kvm"))


class Level(StrEnum):
    """How bad a finding is. Only PROBLEM makes the doctor's exit code 1."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    PROBLEM = "problem"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and what to do about it."""

    check: str
    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings about one host."""

    host: str
    uri: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.level is not Level.PROBLEM for finding in self.findings)


Factory = Callable[[DriverSettings], Driver]


def examine(settings: Settings, *, fix: bool = False, make_driver: Factory = ProcessDriver) -> list[Diagnosis]:
    """Look at every configured host; blocks, for at most some 30 s a host. With `fix`, raise limits that are too low."""
    return [Diagnosis(host.name, shown(host.uri), tuple(_examine(host, settings, fix=fix, make_driver=make_driver))) for host in settings.hosts]


def _examine(host: HostSettings, settings: Settings, *, fix: bool, make_driver: Factory) -> Iterator[Finding]:
    serving = daemons(host.uri, read_only=host.read_only)
    running: int | None = None
    if serving:
        yield _check_socket(serving[0])
    if urlsplit(host.uri).path == "/embed":
        yield _check_root(host.uri)
    else:
        driver = make_driver(DriverSettings(uri=host.uri, read_only=host.read_only, path_roots=settings.roots_of(host)))
        finding, running = asyncio.run(_connect(driver))
        yield finding
    if serving and serving[0].socket.exists():
        yield from _check_limits(serving[0], running, fix=fix)
    elif serving and fix:
        yield Finding("limits", Level.INFO, "nothing was fixed: the daemon cannot be reached")
    yield from _check_qemu(host.uri)


def _check_socket(daemon: Daemon) -> Finding:
    """Whether this process may connect to a daemon's socket."""
    path = daemon.socket
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(str(path))
    except OSError as error:
        return Finding("socket", Level.PROBLEM, f"{path}: {os.strerror(error.errno) if error.errno else error}", _socket_advice(daemon, error))
    return Finding("socket", Level.OK, f"{path} accepts connections")


def _socket_advice(daemon: Daemon, error: OSError) -> str:
    if error.errno == errno.ENOENT and daemon.name not in ("libvirtd", *MODULAR.values()):
        return "Nothing listens there: correct the URI's socket, or start what should listen."
    if error.errno == errno.ENOENT:
        return f"Install and start the daemon: systemctl enable --now {daemon.name}.socket (Debian: libvirt-daemon-system)."
    if error.errno == errno.ECONNREFUSED:
        return f"The daemon is not running: systemctl start {daemon.name}."
    if error.errno in (errno.EACCES, errno.EPERM):
        group = _group(daemon.socket)
        who = f"Add the server's account to the group {group} and start the server again" if group else "Run the server as root"
        return f"{who}, or let it use org.libvirt.unix.manage by a polkit rule."
    return f"Look at the daemon's log: journalctl -u {daemon.name}."


def _group(path: Path) -> str | None:
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return None
    return group if group != "root" else None


def _check_root(uri: str) -> Finding:
    """An embedded hypervisor is not opened: that would start its guests in this process, or take them from a server that runs."""
    root = Path((parse_qs(urlsplit(uri).query).get("root") or [""])[0])
    if not root.is_absolute():
        return Finding("embed", Level.PROBLEM, "the URI lacks an absolute root", "Write qemu:///embed?root=/absolute/directory.")
    existing = next(parent for parent in (root, *root.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("embed", Level.PROBLEM, f"{existing} cannot be written to", "Choose another root, or run the server as its owner.")
    return Finding("embed", Level.OK, f"{root} can be used; not opened, since its guests live in the process that opens it")


async def _connect(driver: Driver) -> tuple[Finding, int | None]:
    """Whether the hypervisor answers, as the server's own driver process sees it, and how many guests run on it."""
    first: asyncio.Future[AnyNotice] = asyncio.get_running_loop().create_future()

    def deliver(notice: AnyNotice) -> None:
        if isinstance(notice, HostUp | HostDown) and not first.done():
            first.set_result(notice)

    await driver.start(deliver)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            notice = await first
            if isinstance(notice, HostUp):
                uuids = [row.uuid for row in (await driver.list()).domains]
                running = await _running(driver, uuids)
                return _connected(notice, len(uuids), running), running
            assert isinstance(notice, HostDown)
            return _unreachable(notice.fault), None
    except TimeoutError:
        text = f"no answer in {CONNECT_SECONDS:g} s"
        return Finding("hypervisor", Level.PROBLEM, text, "All of the daemon's workers may be taken by stuck guests: see its limits."), None
    except DriverError as error:
        return _unreachable(error.fault), None
    finally:
        await driver.close()


async def _running(driver: Driver, uuids: Sequence[str]) -> int:
    running = 0
    while uuids:
        answer = await driver.read(uuids, Group.STATE)
        running += sum(reading.state is not None and reading.state.active for reading in answer.found)
        uuids = answer.rest
    return running


def _connected(notice: HostUp, domains: int, running: int) -> Finding:
    info = notice.info
    versions = [f"{info.hypervisor} {info.hypervisor_version or ''}".strip(), f"libvirt {info.libvirt_version}" if info.libvirt_version else ""]
    return Finding("hypervisor", Level.OK, f"reached: {', '.join(filter(None, versions))}; {domains} domains, {running} running")


def _unreachable(fault: Fault) -> Finding:
    advice = {
        Reason.PERMISSION_DENIED: "Let the server's account use org.libvirt.unix.manage by a polkit rule, or add it to the socket's group.",
        Reason.UNAUTHENTICATED: "Give the server credentials, for example in ~/.config/libvirt/auth.conf.",
        Reason.DRIVER_LOST: "The driver process crashed: its last words are above, on stderr.",
    }.get(fault.reason, "Check the URI, and that its daemon runs and lets this machine in: virsh -c URI version asks it directly.")
    return Finding("hypervisor", Level.PROBLEM, f"cannot be reached: {fault.message}", advice)


def _check_limits(daemon: Daemon, running: int | None, *, fix: bool) -> Iterator[Finding]:
    """The daemon's workers and connections, where so many guests run (None: nobody knows)."""
    try:
        pool, clients = daemon.pool(), daemon.clients()
    except AdminError as error:
        yield Finding(
            "limits", Level.INFO, f"the daemon's limits could not be read: {error}", "The server counts on 5 workers unless `workers` says more."
        )
        return
    text = f"min_workers {pool.minimum}, max_workers {pool.maximum}, {pool.workers} started, {pool.free} free, {pool.priority} for priority calls"
    if pool.queued:
        yield Finding(
            "workers", Level.PROBLEM, f"{pool.queued} calls wait for a worker ({text})", "Stuck guests hold them: destroy those, or raise the limit."
        )
    wanted = _wanted(pool, running)
    if pool.minimum >= wanted.workers:
        yield Finding("workers", Level.OK, text)
    else:
        yield _raise_workers(daemon, pool, wanted) if fix else _too_few(daemon, pool, wanted, text)
    if clients.count * 10 >= clients.maximum * 9:
        advice = f"Raise max_clients in {daemon.config}, or find out who holds them: virt-admin srv-clients-list {daemon.name}."
        yield Finding("clients", Level.PROBLEM, f"{clients.count} of {clients.maximum} connections are taken", advice)
    else:
        yield Finding("clients", Level.OK, f"{clients.count} of {clients.maximum} connections")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """How many workers a daemon needs, and why so many."""

    workers: int
    why: str

    def lines(self, daemon: Daemon, pool: Pool) -> str:
        """What makes it permanent."""
        maximum = f"max_workers = {self.workers}` and `" if pool.maximum < self.workers else ""
        return f"`{maximum}min_workers = {self.workers}` in {daemon.config}"


def _wanted(pool: Pool, running: int | None) -> _Wanted:
    # Where the hypervisor does not answer, each worker that was started may be held by a guest that hangs.
    hung = pool.workers - pool.free if running is None else running
    whose = "workers that are taken" if running is None else "running guests"
    why = f"one for each of {hung} {whose}, {BESIDE} for statistics, progress and aborts that may hang beside them, {ROOM} for what still runs"
    return _Wanted(enough_workers(hung), why)


def _too_few(daemon: Daemon, pool: Pool, wanted: _Wanted, text: str) -> Finding:
    places = Budget.places(pool.minimum)
    meaning = (
        f"The daemon guarantees {pool.minimum} workers and often does not grow beyond them: as many guests that hang can freeze it for everybody. "
        f"So the server sends it only {places} operations at once, and queues the others. Enough are {wanted.workers}: {wanted.why}."
    )
    advice = f"`virtrpcd doctor --fix` raises it now; {wanted.lines(daemon, pool)} makes it permanent."
    return Finding("workers", Level.WARNING, f"{text}. {meaning}", advice)


def _raise_workers(daemon: Daemon, pool: Pool, wanted: _Wanted) -> Finding:
    lines = wanted.lines(daemon, pool)
    try:
        daemon.set_workers(wanted.workers, max(pool.maximum, wanted.workers))
        now = daemon.pool()
    except AdminError as error:
        text = f"min_workers could not be raised from {pool.minimum} to {wanted.workers}: {error}"
        return Finding("workers", Level.PROBLEM, text, f"Write {lines}.")
    text = f"min_workers raised from {pool.minimum} to {now.minimum} and {now.workers} workers started: {wanted.why}"
    return Finding("workers", Level.FIXED, text, f"It lasts until the daemon restarts; {lines} makes it permanent.")


def _check_qemu(uri: str) -> Iterator[Finding]:
    """Whether QEMU and KVM are there, where the host is this machine."""
    parts = urlsplit(uri)
    hypervisor, _, transport = parts.scheme.partition("+")
    if hypervisor != "qemu" or hypervisor in IN_PROCESS or parts.hostname or transport not in ("", "unix"):
        return
    name = QEMU_NAMES.get(platform.machine(), f"qemu-system-{platform.machine()}")
    found = shutil.which(name) or next((str(path) for path in OTHER_QEMUS if path.exists()), None)
    if found is None:
        yield Finding("qemu", Level.PROBLEM, f"{name} is not installed", "Install it (Debian: qemu-system-x86).")
    else:
        yield Finding("qemu", Level.OK, f"{found} is installed")
    yield _check_kvm(Path("/dev/kvm"))


def _check_kvm(device: Path) -> Finding:
    """Whether a virtual machine can be made: the device alone proves nothing, as inside a virtual machine without nesting."""
    slow = 'Guests of type "qemu" run without it, many times slower.'
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Finding("kvm", Level.INFO, f"{device} is missing", f"{slow} Enable virtualisation in the firmware, or load kvm_intel or kvm_amd.")
    except PermissionError:
        advice = "It matters to qemu:///session and qemu:///embed only: there, join the group kvm."
        return Finding("kvm", Level.INFO, f"{device} may not be opened by this account", advice)
    except OSError as error:
        return Finding("kvm", Level.INFO, f"{device} does not work: {error.strerror}", slow)
    try:
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    except OSError as error:
        return Finding("kvm", Level.INFO, f"{device} is there and makes no virtual machine: {error.strerror}", slow)
    finally:
        os.close(kvm)
    return Finding("kvm", Level.OK, f"{device} works")


_COLOURS = {Level.OK: "green", Level.INFO: "blue", Level.WARNING: "yellow", Level.PROBLEM: "red", Level.FIXED: "green"}


def render(diagnoses: list[Diagnosis], console: Console) -> None:
    """Print a table for each host, and below it what to do."""
    for diagnosis in diagnoses:
        table = Table("check", "", "found", title=f"{diagnosis.host}  {diagnosis.uri}", title_justify="left")
        for finding in diagnosis.findings:
            table.add_row(finding.check, f"[{_COLOURS[finding.level]}]{finding.level}[/]", _plain(finding.text))
        console.print(table)
        for finding in diagnosis.findings:
            if finding.advice:
                console.print(f"{finding.check}: {_plain(finding.advice)}")
    wrong = [diagnosis.host for diagnosis in diagnoses if not diagnosis.healthy]
    console.print(f"Something is wrong with: {', '.join(wrong)}." if wrong else "Nothing is wrong.")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def as_json(diagnoses: list[Diagnosis]) -> list[dict[str, object]]:
    """The same for programs."""
    return [{**asdict(diagnosis), "healthy": diagnosis.healthy} for diagnosis in diagnoses]
