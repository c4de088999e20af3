"""OpenVZ: libvirt's openvz driver with doubles of `vzctl` and `vzlist`, and a library that makes it look for OpenVZ's paths in a directory of ours.

The library is compiled once for each state of its source, into the cache outside the checkout, and preloaded into the processes that this one
starts while the bed is entered: not into this one, so that only a driver process or another program can open the URI.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.beds import packages
from tests.beds.guest import cache

DOUBLES = Path(__file__).parent / "doubles"
SOURCE = DOUBLES / "openvz.c"
# Without ONBOOT libvirt's driver dereferences NULL as soon as somebody asks for autostart.
SAMPLE = 'ONBOOT="no"\nVE_ROOT="/vz/root/$VEID"\nVE_PRIVATE="/vz/private/$VEID"\n'
_numbers = itertools.count(101)


def missing() -> str | None:
    """Why the library cannot be compiled here; None where it can."""
    return None if _compiled().exists() else packages.missing("gcc", "libc6-dev")


def library() -> Path:
    """The library, compiled first where the cache lacks it."""
    built = _compiled()
    if not built.exists():
        packages.install("gcc", "libc6-dev")
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent, prefix="building-") as scratch:
            result = Path(scratch) / built.name
            subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", result, SOURCE, "-ldl"], check=True)
            result.rename(built)
    return built


def _compiled() -> Path:
    return cache() / f"openvz-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"


class OpenVz:
    """While it is entered, the processes that this one starts find OpenVZ."""

    uri = "openvz:///system"

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self._before: dict[str, str | None] = {}

    @property
    def containers(self) -> Path:
        """Where the containers' files are: CTID.conf, and CTID.running while one runs."""
        return self.path / "etc/vz/conf"

    def new_name(self) -> str:
        """The name of a container that nobody has: names are numbers here."""
        return str(next(_numbers))

    def domain_xml(self, name: str, uuid: str) -> str:
        """A small container. Its name must be a number."""
        return (
            f"<domain type='openvz'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
            "<os><type>exe</type><init>/sbin/init</init></os><devices>"
            "<filesystem type='template'><source name='debian'/><target dir='/'/></filesystem></devices></domain>"
        )

    def make(self, name: str) -> None:
        """A container that libvirt has not made."""
        subprocess.run([self.path / "usr/sbin/vzctl", "create", name, "--ostemplate", "debian"], check=True)

    def start(self) -> None:
        """Make its directories, and have the library preloaded."""
        for directory in ("proc/vz", "etc/vz/conf", "usr/sbin"):
            (self.path / directory).mkdir(parents=True)
        # libvirt reads a running container's processor time here, of which each line is: id, user, nice, system.
        (self.path / "proc/vz/vestat").write_text("".join(f"{number} 78 0 1330\n" for number in range(1, 1000)))
        (self.path / "etc/vz/vz.conf").write_text('CONFIGFILE="basic"\n')
        (self.containers / "ve-basic.conf-sample").write_text(SAMPLE)
        for double in ("vzctl", "vzlist"):
            shutil.copy(DOUBLES / double, self.path / "usr/sbin")
        self._set({"LD_PRELOAD": str(library()), "OPENVZ_BED": str(self.path)})

    def stop(self) -> None:
        """Put the environment back, and remove the containers."""
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(self.path)

    def _set(self, variables: dict[str, str]) -> None:
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
