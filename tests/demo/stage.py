"""Where the demo plays: a real guest on an embedded QEMU driver, or a simulated one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.beds.domain import domain_xml
from tests.beds.embed import EmbedRoot
from tests.beds.wait import wait_for_console

MEMORY_MIB = 2048
FILL_MIB = 1750
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

    def wait_until_asleep(self) -> None:
        """Return once the guest has filled its memory and sleeps."""
        if self.console is not None:
            wait_for_console(self.console, "FILLED", 120)

    @property
    def left_behind(self) -> list[int]:
        """Processes of guests that are still there."""
        return self.root.qemu_pids() if self.root is not None else []


@contextmanager
def stage(driver: str) -> Iterator[Stage]:
    """The stage for a driver: "qemu" or "sim"; it is gone afterwards."""
    if driver == "sim":
        directory = Path(tempfile.mkdtemp(prefix="virtrpc-demo-"))
        try:
            yield Stage(SIM_URI, directory, "guest-1")
        finally:
            shutil.rmtree(directory)
        return
    with EmbedRoot() as root:
        console = root.console_log("demo")
        xml = domain_xml("demo", console_log=console, memory_mib=MEMORY_MIB, fill_mib=FILL_MIB)
        yield Stage(root.uri, root.path, "demo", xml, console, root)
