"""The command `virtrpcd` as a process: where it says it listens, how it ends, what it exits with."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.beds import certificates
from tests.beds.processes import children
from tests.beds.wait import wait_until
from tests.server.test_tokens import AUDIENCE, ISSUER, Provider, bearing
from virtrpc.v1 import query_pb2, query_pb2_grpc

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from virtrpc_server.main import main; main()"]
GUARD_SECONDS = 90
LISTENING, UNCONNECTED = "0A", "07"


def environment(home: Path) -> dict[str, str]:
    """What a virtrpcd finds set, so that it keeps to this directory."""
    return {**os.environ, "VIRTRPC_CONFIG": "", "VIRTRPC_STATE_DIR": str(home / "state")}


class Daemon:
    """A running virtrpcd."""

    def __init__(self, home: Path, *flags: str) -> None:
        self.socket = home / "v.sock"
        self._log = home / "log"
        with self._log.open("wb") as log:
            command = [*COMMAND, "--socket", str(self.socket), *flags]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=environment(home))

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def until(self, text: str) -> None:
        """Return once it has said this."""
        wait_until(lambda: text in self.log or self.process.poll() is not None, f"virtrpcd to say {text!r}", GUARD_SECONDS)
        assert text in self.log

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(GUARD_SECONDS)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A virtrpcd with libvirt's test driver, ready."""
    daemon = Daemon(tmp_path, "--host", "t=test:///default")
    try:
        daemon.until(f"listens on unix:{daemon.socket}\n")
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A virtrpcd that ends by itself."""
    with tempfile.TemporaryDirectory() as home:
        command = [*COMMAND, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=GUARD_SECONDS, check=False, env=environment(Path(home)))


def network_sockets(pid: int) -> list[str]:
    """The local addresses, in /proc's notation, where the process or a child of it takes TCP connections or UDP datagrams."""
    mine = {link for process in (pid, *children(pid)) for link in links(process)}
    tables = [(Path(f"/proc/{pid}/net") / name).read_text().splitlines()[1:] for name in ("tcp", "tcp6", "udp", "udp6")]
    rows = [line.split() for table in tables for line in table]
    return [row[1] for row in rows if f"socket:[{row[9]}]" in mine and row[3] in (LISTENING, UNCONNECTED)]


def links(pid: int) -> set[str]:
    """What the process's descriptors are."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(path.readlink()))
        except OSError:  # closed meanwhile
            continue
    return found


def test_it_is_closed_to_the_network(daemon: Daemon) -> None:
    """Without a word about listening neither it nor a driver process of it has a network socket, and its own socket is its user's alone."""
    wait_until(lambda: children(daemon.process.pid), "its driver process to be there", GUARD_SECONDS)
    assert network_sockets(daemon.process.pid) == []
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


def test_a_tcp_address_is_a_network_socket(tmp_path: Path) -> None:
    """What the test before looks for is there once it is asked for."""
    daemon = Daemon(tmp_path, "--host", "t=sim://t/", "--listen", "127.0.0.1:0", "--insecure")
    try:
        daemon.until("listens on 127.0.0.1:")
        (address,) = network_sockets(daemon.process.pid)
        assert address.partition(":")[0].endswith("0100007F")
    finally:
        daemon.process.kill()
        daemon.process.wait()


def test_with_tls_only_who_has_a_certificate_gets_in(tmp_path: Path) -> None:
    """By flags alone a TCP address wants certificates: a right one is served, none, expired or another CA's is not, nor logged."""
    made = certificates.make(tmp_path / "c")
    (tmp_path / "p.cedar").write_text("permit(principal, action, resource);")
    with secured(tmp_path, made.server, made.ca, tmp_path / "p.cedar") as (daemon, port):
        answers = [asked(f"localhost:{port}", made.ca, pair) for pair in (made.client, None, made.expired, made.other)]
        assert answers == [grpc.StatusCode.OK, *[grpc.StatusCode.UNAVAILABLE] * 3]
        stranger(port)
        assert "ssl_transport" not in daemon.log


def test_the_documents_certificates_are_good(tmp_path: Path) -> None:
    """With the certificates that docs/identity.md makes and the shipped rules an operator is served, and Envoy itself is refused."""
    (commands,) = re.findall(r"^```sh\n(openssl .*?)^```", (ROOT / "docs/identity.md").read_text(), re.DOTALL | re.MULTILINE)
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, capture_output=True)
    ca, pairs = tmp_path / "ca.crt", [certificates.Pair(tmp_path / f"{name}.crt", tmp_path / f"{name}.key") for name in ("operator", "envoy")]
    server = certificates.Pair(tmp_path / "virtrpcd.crt", tmp_path / "virtrpcd.key")
    with secured(tmp_path, server, ca, ROOT / "server/policies/roles.cedar") as (_, port):
        assert [asked(f"localhost:{port}", ca, pair) for pair in pairs] == [grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED]


@contextlib.contextmanager
def secured(home: Path, server: certificates.Pair, ca: Path, rules: Path) -> Iterator[tuple[Daemon, int]]:
    """A virtrpcd that wants certificates at a TCP port."""
    files = ("--tls-certificate", str(server.certificate), "--tls-key", str(server.key), "--tls-client-ca", str(ca), "--policy", str(rules))
    daemon = Daemon(home, "--host", "t=sim://t/", "--listen", "127.0.0.1:0", *files)
    try:
        daemon.until("listens on 127.0.0.1:")
        yield daemon, int(daemon.log.partition("listens on 127.0.0.1:")[2].split()[0])
    finally:
        daemon.process.kill()
        daemon.process.wait()


def stranger(port: int) -> None:
    """Connects without a certificate and by a name that the server does not have, until it is sent away."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket.create_connection(("127.0.0.1", port), GUARD_SECONDS)
    with (
        connection,
        contextlib.suppress(ssl.SSLError, ConnectionError),
        context.wrap_socket(connection, server_hostname="stranger") as secured,
    ):
        secured.recv(1)


def asked(address: str, ca: Path, pair: certificates.Pair | None) -> grpc.StatusCode:
    """How a call with this certificate ends."""
    certificate, key = (None, None) if pair is None else pair.pem
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes(), key, certificate)) as channel:
        stub: Any = query_pb2_grpc.QueryServiceStub(channel)
        try:
            stub.ListHosts(query_pb2.ListHostsRequest(), timeout=GUARD_SECONDS)
        except grpc.RpcError as error:
            call: Any = error
            code: grpc.StatusCode = call.code()
            return code
    return grpc.StatusCode.OK


def test_tokens_of_a_configuration_file_are_taken(tmp_path: Path) -> None:
    """With [jwt] a token names its bearer, one of a key that came later too, and a bad one is UNAUTHENTICATED."""
    provider = Provider(tmp_path)
    (tmp_path / "v.toml").write_text(f'[jwt]\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks_file = "{provider.path}"\n')
    (tmp_path / "p.cedar").write_text("permit(principal, action, resource);")
    daemon = Daemon(tmp_path, "--host", "t=sim://t/", "--config", str(tmp_path / "v.toml"), "--policy", str(tmp_path / "p.cedar"))
    try:
        daemon.until(f"listens on unix:{daemon.socket}\n")
        with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
            stub: Any = query_pb2_grpc.QueryServiceStub(channel)

            def answer(token: str) -> grpc.StatusCode:
                try:
                    stub.ListHosts(query_pb2.ListHostsRequest(), timeout=GUARD_SECONDS, metadata=bearing(token))
                except grpc.RpcError as error:
                    call: Any = error
                    code: grpc.StatusCode = call.code()
                    return code
                return grpc.StatusCode.OK

            assert answer(provider.token()) is grpc.StatusCode.OK
            assert answer(provider.token(aud="else")) is grpc.StatusCode.UNAUTHENTICATED
            provider.rotate()
            wait_until(lambda: answer(provider.token()) is grpc.StatusCode.OK, "the new key to be taken", GUARD_SECONDS)
    finally:
        daemon.process.kill()
        daemon.process.wait()


def test_tls_files_that_are_not_there_end_it_with_2(tmp_path: Path) -> None:
    """The file is named, and what is wrong with it."""
    done = run("--host", "t=sim://t/", "--socket", str(tmp_path / "s"), "--listen", "127.0.0.1:0",
               "--tls-certificate", "/nowhere.pem", "--tls-key", "/k", "--tls-client-ca", "/a")  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "virtrpcd: /nowhere.pem cannot be read: No such file or directory\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_in_good_order(daemon: Daemon, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with 0; its socket goes with it."""
    daemon.process.send_signal(number)
    assert daemon.ends() == 0
    assert "draining" in daemon.log
    assert "Traceback" not in daemon.log
    assert not daemon.socket.exists()


def test_a_second_signal_ends_at_once(daemon: Daemon) -> None:
    """While a stream is being given its time, a second signal ends the process with 128 + its number and takes the socket away."""
    # Stopped, it gets both signals in one turn of its loop, however quickly the drain would have been over.
    with grpc.insecure_channel(f"unix:{daemon.socket}") as channel:
        stub: Any = query_pb2_grpc.QueryServiceStub(channel)
        stream = stub.WatchDomains(query_pb2.WatchDomainsRequest())
        next(stream)
        daemon.process.send_signal(signal.SIGSTOP)
        daemon.process.send_signal(signal.SIGINT)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.ends() in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert not daemon.socket.exists()


def test_a_socket_in_use_ends_it_with_1(daemon: Daemon) -> None:
    """A second server on the same socket says why it ends, in one line, and leaves the first one alone."""
    second = run("serve", "--socket", str(daemon.socket), "--host", "t=test:///default")
    assert second.returncode == 1
    assert f"virtrpcd: another server answers on {daemon.socket}" in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.process.poll() is None


def test_a_wrong_configuration_ends_it_with_2(tmp_path: Path) -> None:
    """Each mistake is one line on stderr."""
    (tmp_path / "v.toml").write_text("nonsense = 1\nheartbeat = 0\n")
    done = run("serve", "--config", str(tmp_path / "v.toml"))
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["virtrpcd", "virtrpcd"]
    assert run("--listen", "0.0.0.0:1").returncode == 2
    assert run("--no-such-flag").returncode == 2


def test_it_says_its_version() -> None:
    """--version needs no subcommand and no configuration."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"virtrpcd {version('virtrpc')}\n")
