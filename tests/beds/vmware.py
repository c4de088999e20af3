"""VMware on a desktop: libvirt's vmware driver with doubles of `vmrun` and `vmware` first in PATH."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

DOUBLES = Path(__file__).parent / "doubles"


class VmwareDesktop:
    """While it is entered, this process and those that it starts find the doubles.

    libvirt's driver keeps its domains with the connection, and learns of those alone that run when it is opened.
    """

    uri = "vmwarews:///session"

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self._path_before = ""

    def domain_xml(self, name: str, uuid: str) -> str:
        """A small machine in a directory of its own: its disk says where its .vmx is written."""
        home = self.path / name
        home.mkdir(exist_ok=True)
        return (
            f"<domain type='vmware'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'>"
            f"<source file='{home}/{name}.vmdk'/><target dev='sda' bus='scsi'/></disk></devices></domain>"
        )

    def running(self) -> set[str]:
        """The .vmx files of the machines that run, as vmrun itself tells."""
        return {mark.read_text().strip() for mark in (self.path / "running").iterdir()}

    def start(self) -> None:
        """Put the doubles first in PATH."""
        (self.path / "running").mkdir()
        for double in ("vmrun", "vmware"):
            (self.path / "bin").mkdir(exist_ok=True)
            shutil.copy(DOUBLES / double, self.path / "bin")
        self._path_before = os.environ["PATH"]
        os.environ["PATH"] = f"{self.path / 'bin'}:{self._path_before}"

    def stop(self) -> None:
        """Put PATH back, and remove the machines."""
        if self._path_before:
            os.environ["PATH"] = self._path_before
        shutil.rmtree(self.path)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
