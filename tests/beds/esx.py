"""An ESX host and a vCenter: govmomi's simulator behind a program of our own (vcsim/), for libvirt's esx driver.

The program is built with Go, once for each state of its sources, into the cache outside the checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.beds import packages
from tests.beds.guest import cache

SOURCES = Path(__file__).parent / "vcsim"
USER, PASSWORD = "user", "pass"
DATASTORE = "LocalDS_0"
_GUARD = 30.0


def missing() -> str | None:
    """Why the simulator cannot be built here; None where it is built, or can be."""
    return None if _program().exists() or _go() else packages.missing("golang-go")


def program() -> Path:
    """The simulator, built first where the cache lacks it."""
    built = _program()
    if not built.exists():
        _build(built)
    return built


def _program() -> Path:
    digest = hashlib.sha256()
    for file in sorted(SOURCES.iterdir()):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return cache() / f"vcsim-{digest.hexdigest()[:12]}"


def _go() -> str | None:
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def _build(built: Path) -> None:
    if _go() is None:
        packages.install("golang-go")
    go = _go()
    assert go is not None
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent, prefix="building-") as scratch:
        result = Path(scratch) / "vcsim"
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(result), "."]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"vcsim cannot be built:\n{done.stderr}")
        result.rename(built)


class EsxHost:
    """An ESX host with one machine of its own, started on entering."""

    model: ClassVar[str] = "esx"
    existing: ClassVar[str] = "ha-host_VM0"
    """The name of a machine that is there, running, from the start."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self._process: subprocess.Popen[str] | None = None
        self._address = "127.0.0.1:0"

    @property
    def auth_file(self) -> Path:
        """Credentials, as libvirt reads them: LIBVIRT_AUTH_FILE, or `authfile` in a URI."""
        return self.path / "auth.conf"

    @property
    def uri(self) -> str:
        """What a client opens; it names the file with the credentials."""
        return f"esx://{USER}@{self._address}/?{self._query}"

    @property
    def _query(self) -> str:
        return f"no_verify=1&authfile={self.auth_file}"

    def domain_xml(self, name: str, uuid: str) -> str:
        """A small machine; its disk says in which datastore it is kept."""
        return (
            f"<domain type='vmware'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'>"
            f"<source file='[{DATASTORE}] {name}/{name}.vmdk'/><target dev='sda' bus='scsi'/></disk></devices></domain>"
        )

    @contextmanager
    def held(self, method: str) -> Iterator[None]:
        """Calls of a method of the API (PowerOnVM_Task …) do not get through while the context lasts; with "answer-" before it, their answers."""
        with self._switched(f"hold-{method}"):
            yield

    def holds(self, method: str) -> int:
        """How many calls of a method are held now."""
        return int(self._ask("GET", f"hold-{method}"))

    @contextmanager
    def without_mount_paths(self) -> Iterator[None]:
        """HostMountInfo lacks its path while the context lasts: whoever defines a domain through libvirt's client ends by SIGSEGV."""
        with self._switched("no-mount-paths"):
            yield

    @contextmanager
    def _switched(self, switch: str) -> Iterator[None]:
        self._ask("PUT", switch)
        try:
            yield
        finally:
            self._ask("DELETE", switch)

    def _ask(self, method: str, switch: str) -> str:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        request = urllib.request.Request(f"https://{self._address}/bed/{switch}", method=method)
        with urllib.request.urlopen(request, timeout=_GUARD, context=context) as answer:
            text: str = answer.read().decode()
        return text

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.auth_file.write_text(
            f"[credentials-bed]\nusername={USER}\npassword={PASSWORD}\n[auth-esx-127.0.0.1]\ncredentials=bed\n[auth-vpx-127.0.0.1]\ncredentials=bed\n"
        )
        self.auth_file.chmod(0o600)
        self.appear()

    def appear(self) -> None:
        """Start it at the address where it was, if it was: with the machines that it has from the start."""
        environment = {**os.environ, "TMPDIR": str(self.path)}  # its datastores
        command = [str(program()), "-model", self.model, "-listen", self._address]
        with (self.path / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if said:
            self._address = said
        else:
            raise RuntimeError(f"vcsim did not start:\n{(self.path / 'log').read_text()}")

    def vanish(self) -> None:
        """End it: nobody answers at its address any more."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(_GUARD)
            self._process.stdout.close()
            self._process = None

    def stop(self) -> None:
        """End it and remove its files."""
        self.vanish()
        shutil.rmtree(self.path)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class VcenterHost(EsxHost):
    """A vCenter with one host, DC0/DC0_H0, and one machine on it."""

    model = "vpx"
    existing = "DC0_H0_VM0"

    @property
    def uri(self) -> str:
        return f"vpx://{USER}@{self._address}/DC0/DC0_H0/?{self._query}"


if __name__ == "__main__":
    program()
