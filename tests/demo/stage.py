"""Where the demo plays: a real guest on an embedded QEMU driver, or a simulated one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.beds.domain import domain_xml, make_disk
from tests.beds.embed import PARENT, EmbedRoot
from tests.beds.wait import wait_for_console

MEMORY_MIB = 2048
FILL_MIB = 1750
IN_MEMORY = Path("/dev/shm")
IMAGE_MIB = MEMORY_MIB + 256
SPARE_MIB = 1024
"""What the rest of the machine and the programs of the demo need."""
SIM_URI = f"sim://demo/?domains=1&running=1&memory_mib={MEMORY_MIB}&save_seconds=4&restore_seconds=1"


@dataclass(frozen=True)
class Stage:
    """A host for the server, a directory for its socket, and a guest to define (none where the host has one already)."""

    uri: str
    directory: Path
    domain: str
    xml: str | None = None
    console: Path | None = None
    root: EmbedRoot | None = None
    cpus: frozenset[int] = frozenset()
    """The processors that the hypervisor keeps to; none where it is simulated."""

    def keep_apart(self, driver_process: int) -> None:
        """Keep a driver process, and what it starts from now on, on the hypervisor's processors."""
        for thread in Path(f"/proc/{driver_process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), self.cpus)

    @property
    def in_memory(self) -> bool:
        """Whether a save is written to memory rather than to a disk."""
        return self.directory.is_relative_to(IN_MEMORY)

    def wait_until_asleep(self) -> None:
        """Return once the guest has filled its memory and sleeps."""
        if self.console is not None:
            wait_for_console(self.console, "FILLED", 120)

    @property
    def left_behind(self) -> list[int]:
        """Processes of guests that are still there."""
        return self.root.qemu_pids() if self.root is not None else []


def _parent() -> Path:
    """Memory where it has room for guest and image: a virtual machine's disk costs its processors (docs/adr/0009)."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available_mib = int(meminfo["MemAvailable"].split()[0]) >> 10
    roomy = os.path.ismount(IN_MEMORY) and shutil.disk_usage(IN_MEMORY).free >> 20 >= IMAGE_MIB
    return IN_MEMORY if roomy and available_mib >= MEMORY_MIB + IMAGE_MIB + SPARE_MIB else PARENT


def _upper_half() -> frozenset[int]:
    """Half of the processors for the hypervisor: a host keeps some for its services (docs/adr/0009)."""
    ours = sorted(os.sched_getaffinity(0))
    return frozenset(ours[len(ours) // 2 :])


@contextmanager
def stage(driver: str, parent: Path | None = None, cpus: frozenset[int] | None = None) -> Iterator[Stage]:
    """The stage for a driver, "qemu" or "sim", in a new directory of `parent`, with the hypervisor on `cpus`; it is gone afterwards."""
    if driver == "sim":
        directory = Path(tempfile.mkdtemp(prefix="virtrpc-demo-", dir=parent))
        try:
            yield Stage(SIM_URI, directory, "guest-1")
        finally:
            shutil.rmtree(directory)
        return
    with EmbedRoot(parent or _parent()) as root:
        console = root.console_log("demo")
        cpus = cpus or _upper_half()
        listed = ",".join(map(str, sorted(cpus)))
        disk = make_disk(root.path / "demo.qcow2")
        xml = domain_xml("demo", console_log=console, memory_mib=MEMORY_MIB, fill_mib=FILL_MIB, host_cpus=listed, disks=[disk])
        yield Stage(root.uri, root.path, "demo", xml, console, root, cpus)
