"""The real `virtrpcd` as a process on a Unix socket, and guests that tests make behind its back and look at behind its back."""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import grpc
import grpc.aio
import libvirt
import libvirt_qemu

from tests.beds.daemon import Libvirtd
from tests.beds.domain import Disk, domain_xml, make_disk
from tests.beds.processes import pids_with_argument
from tests.beds.wait import wait_for_console, wait_until
from virtrpc import AsyncClient, AsyncJobHandle, Client, NotFound
from virtrpc.v1 import job_pb2_grpc, query_pb2_grpc, snapshot_pb2_grpc
from virtrpc.v1 import types_pb2 as t

GUARD = 60.0
"""Seconds after which a wait is called a hang."""
Setting = str | int | float | bool
HostTable = Mapping[str, Setting | list[str]]
_numbers = itertools.count(1)

libvirt.registerErrorHandler(lambda _context, _error: None, None)


class Server:
    """`virtrpcd serve` with these hosts (a URI, or a table of the configuration file), started on entering; on leaving it must drain in good order.

    `options` are further words of the command line, `settings` further keys of the configuration file. Where callers have names and no policy is
    given, everybody may do everything.
    """

    def __init__(self, hosts: Mapping[str, str | HostTable], *options: str, **settings: Setting | list[str]) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self.socket = self.path / "s"
        self.log_file = self.path / "virtrpcd.log"
        if "policy" not in settings and ({"trusted_proxies", "jwt"} & settings.keys() or any(option.startswith("--tls") for option in options)):
            settings["policy"] = str(self.path / "policy.cedar")
            (self.path / "policy.cedar").write_text("permit(principal, action, resource);")
        self._config = self.path / "virtrpcd.toml"
        self._config.write_text(_toml(hosts, {"drain_timeout": 10, "state_dir": str(self.path / "state"), **settings}))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.search_path = os.environ["PATH"]
        """$PATH for it and its driver processes."""

    @property
    def address(self) -> str:
        """What a client calls."""
        return f"unix://{self.socket}"

    @property
    def tcp_address(self) -> str:
        """Where it listens that was told to take any port of 127.0.0.1."""
        found = re.findall(r"127\.0\.0\.1:[1-9]\d*", self.log.partition(" listens on ")[2].partition("\n")[0])
        return str(found[0])

    @property
    def pid(self) -> int:
        """The server's own process."""
        assert self._process is not None
        return self._process.pid

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self._config

    @property
    def log(self) -> str:
        """Everything that the server and its driver processes have logged."""
        return self.log_file.read_text(errors="replace")

    def assert_no_fault_of_its_own(self) -> None:
        """Neither the server nor a driver process has logged a traceback; fails with the first one."""
        before, found, after = self.log.partition("Traceback")
        assert not found, before[-2000:] + found + after[:4000]

    def start(self) -> None:
        """Start it, and return once it listens."""
        heard = len(self.log) if self.log_file.exists() else 0
        self.spawn()

        def listens() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"virtrpcd ended with {self._process.returncode}:\n{self.log}")
            return " listens on " in self.log[heard:]

        wait_until(listens, f"virtrpcd to listen, see {self.log_file}", GUARD)

    def spawn(self) -> None:
        """Start it, and return at once."""
        program = Path(sys.executable).with_name("virtrpcd")
        command = [str(word) for word in (program, "serve", "--socket", self.socket, "--config", self._config, *self._options)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VIRTRPC_")} | {"PATH": self.search_path}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def wait_live(self, *hosts: str) -> None:
        """Return once these hosts, or all, are LIVE."""
        with self.blocking() as client:

            def live() -> bool:
                return all(host.state == t.FRESHNESS_LIVE for host in client.list_hosts() if not hosts or host.name in hosts)

            wait_until(live, f"the hosts to be LIVE, see {self.log_file}", GUARD)

    def stop(self) -> int:
        """SIGTERM; the exit code once it has ended."""
        self.send(signal.SIGTERM)
        return self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code once it has ended."""
        assert self._process is not None
        return self._process.wait(GUARD)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it without asking."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(GUARD)

    def client(self, **clocks: Any) -> AsyncClient:
        """A new asynchronous client, for the loop that runs."""
        return AsyncClient(self.address, **clocks)

    def blocking(self, **clocks: Any) -> Client:
        """A new blocking client."""
        return Client(self.address, **clocks)

    def channel(self) -> Channel:
        """A new bare channel, for the loop that runs, with the generated stubs on it."""
        return Channel(self.address)

    def driver_pid(self, host: str) -> int:
        """The process id of a host's driver process, as GetHost tells it."""
        with self.blocking() as client:
            return client.get_host(host=host).driver_process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        ended = self._process.poll()
        code = self.stop() if ended is None else 0  # a test that ended it itself knows why
        log = self.log
        rmtree(self.path)
        assert code == 0, f"virtrpcd ended with {code}:\n{log}"


class Channel:
    """A channel without the client: the stubs, statuses and metadata as any generated client sees them."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.channel = grpc.aio.insecure_channel(address) if credentials is None else grpc.aio.secure_channel(address, credentials)
        self.query: query_pb2_grpc.QueryServiceAsyncStub = query_pb2_grpc.QueryServiceStub(self.channel)
        self.job: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(self.channel)
        self.snapshot: snapshot_pb2_grpc.SnapshotServiceAsyncStub = snapshot_pb2_grpc.SnapshotServiceStub(self.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.channel.close()


_WITH_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)


@dataclass
class Guest:
    """A guest that was made by libvirt itself, and how to look at it past virtrpc."""

    name: str
    uuid: str
    console: Path
    direct: libvirt.virConnect
    disk: Disk | None = None

    @property
    def domain(self) -> libvirt.virDomain:
        """The domain, looked up anew: its handle does not survive a transient domain's end."""
        return self.direct.lookupByUUIDString(self.uuid)

    @property
    def state(self) -> int:
        """libvirt.VIR_DOMAIN_…, asked now."""
        return int(self.domain.state()[0])

    def wait_for(self, word: str = "READY") -> None:
        """Return once the guest has printed a word on its console."""
        wait_for_console(self.console, word, GUARD)

    def agent(self, command: str, **arguments: Any) -> Any:
        """What the guest's agent answers to a command."""
        asked = {"execute": command, **({"arguments": arguments} if arguments else {})}
        return json.loads(libvirt_qemu.qemuAgentCommand(self.domain, json.dumps(asked), 10, 0))["return"]

    def wait_for_agent(self) -> None:
        """Return once the guest's agent answers."""

        def answers() -> bool:
            try:
                self.agent("guest-ping")
            except libvirt.libvirtError:
                return False
            return True

        wait_until(answers, f"the agent of {self.name}", GUARD)

    def read_file(self, path: str) -> str:
        """A small file inside the guest, read by its agent."""
        handle = self.agent("guest-file-open", path=path, mode="r")
        try:
            return base64.b64decode(self.agent("guest-file-read", handle=handle)["buf-b64"]).decode()
        finally:
            self.agent("guest-file-close", handle=handle)

    def start(self, ready: bool = True) -> None:
        """Start it, and wait until it has booted."""
        self.console.unlink(missing_ok=True)
        self.domain.create()
        if ready:
            self.wait_for()

    def remove(self) -> None:
        """End and forget it, if it is there."""
        try:
            domain = self.domain
            if domain.isActive():
                domain.destroy()
            self.domain.undefineFlags(_WITH_ALL)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise


def xml_of(domain: libvirt.virDomain, flags: int = 0) -> Element:
    """A domain's XML, asked of libvirt now."""
    return ElementTree.fromstring(domain.XMLDesc(flags))


@dataclass
class QemuHost:
    """A server, one of its hosts, the daemon behind that, and a connection of our own to the same daemon."""

    server: Server
    daemon: Libvirtd
    direct: libvirt.virConnect
    name: str = "kvm"

    @contextmanager
    def guest(self, *, start: bool = True, ready: bool = True, disk_mib: int = 0, **xml: Any) -> Iterator[Guest]:
        """A guest with the test image (`xml` goes to domain_xml), booted, known to the server, and removed afterwards."""
        guest = self.define(disk_mib=disk_mib, **xml)
        try:
            if start:
                guest.start(ready)
            self.wait_known(guest)
            yield guest
        finally:
            guest.remove()

    def define(self, *, disk_mib: int = 0, **xml: Any) -> Guest:
        """Define a guest by libvirt itself; its definition is the server's to find."""
        name = xml.pop("name", None) or f"guest-{os.getpid()}-{next(_numbers)}"
        more = xml.pop("more_devices", "")
        disk = make_disk(self.daemon.path / f"{name}.qcow2", disk_mib) if disk_mib else None
        console = self.daemon.console_log(name)
        disks = [*([disk] if disk else []), *xml.pop("disks", [])]
        text = domain_xml(name, console_log=console, disks=disks, **xml).replace("</devices>", f"{more}</devices>")
        domain = self.direct.defineXML(text)
        return Guest(name, domain.UUIDString(), console, self.direct, disk)

    def wait_known(self, *guests: Guest) -> None:
        """Return once the server knows these guests, in the state that libvirt says they are in."""
        with self.server.blocking() as client:

            def known(guest: Guest) -> bool:
                try:
                    told = client.get_domain(f"{self.name}/{guest.uuid}")
                except NotFound:
                    return False
                return (told.state, told.persistent) == (contract_state(guest.state), bool(guest.domain.isPersistent()))

            for guest in guests:
                wait_until(partial(known, guest), f"the server to know {guest.name}, see {self.server.log_file}", GUARD)


def contract_state(state: int) -> t.DomainState.ValueType:
    """The contract's value for libvirt's: it keeps 0 for "not said"."""
    return t.DomainState.ValueType(state + 1)


def writer_of(guest: Guest) -> int:
    """The process that writes a guest's managed-save image for libvirt."""
    (pid,) = pids_with_argument("libvirt_iohelper", f"/{guest.name}.save")
    return pid


def running(guest: Guest, host: QemuHost) -> Guest:
    """The guest as a test wants to find it, whatever the one before has left: running, and known to be."""
    if guest.state == libvirt.VIR_DOMAIN_SHUTOFF:
        saved = guest.domain.hasManagedSaveImage()
        guest.start(ready=not saved)
    if guest.state == libvirt.VIR_DOMAIN_PAUSED:
        guest.domain.resume()
    host.wait_known(guest)
    return guest


async def ended(verb: Awaitable[AsyncJobHandle]) -> t.Job:
    """The job that a verb has made, SUCCEEDED; raises what it failed with."""
    async with asyncio.timeout(GUARD):
        return await (await verb).wait()


@contextmanager
def qemu_host(
    daemon: Libvirtd, name: str = "kvm", *options: str, table: HostTable | None = None, **settings: Setting | list[str]
) -> Iterator[QemuHost]:
    """A server with one host on a daemon, LIVE; `table` has further keys of that host."""
    with Server({name: {"uri": daemon.uri, **(table or {})}}, *options, **{"path_roots": [str(daemon.path)], **settings}) as server:
        server.wait_live()
        with connected(daemon) as direct:
            yield QemuHost(server, daemon, direct, name)


@contextmanager
def connected(daemon: Libvirtd) -> Iterator[libvirt.virConnect]:
    """A connection of our own to a daemon."""
    connection = libvirt.open(daemon.uri)
    try:
        yield connection
    finally:
        connection.close()


async def eventually(condition: Callable[[], Awaitable[object] | object], what: str) -> None:
    """Wait until a condition holds, asking again and again."""
    try:
        async with asyncio.timeout(GUARD):
            while True:
                holds = condition()
                if await holds if inspect.isawaitable(holds) else holds:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"gave up waiting: {what}") from None


def _toml(hosts: Mapping[str, str | HostTable], settings: Mapping[str, Setting | list[str]]) -> str:
    # What JSON writes for texts, numbers, booleans and lists of texts is TOML too.
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    for name, host in hosts.items():
        table = {"uri": host} if isinstance(host, str) else host
        lines += ["[[hosts]]", *(f"{key} = {json.dumps(value)}" for key, value in {"name": name, **table}.items())]
    return "\n".join(lines) + "\n"
