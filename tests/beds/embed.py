"""A root directory for ``qemu:///embed``: the whole QEMU driver in the process that opens it, no daemon."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.beds import capabilities
from tests.beds.processes import kill, pids_with_argument

QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
stdio_handler = "file"
namespaces = []
"""


# libvirt puts Unix sockets several levels down in it, and their paths end at 108 characters: $TMPDIR may be too long.
PARENT = Path("/tmp")


class EmbedRoot:
    """A directory in ``parent`` for one process at a time to open as ``uri``; leaving it ends guests that are left over."""

    def __init__(self, parent: Path = PARENT) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir=parent))
        (self.path / "etc").mkdir()
        (self.path / "etc/qemu.conf").write_text(QEMU_CONF)
        capabilities.seed(self.path / "cache")
        (self.path / "bin").mkdir()
        for tool in ("qemu-system-x86_64", "qemu-img"):
            (self.path / "bin" / tool).symlink_to(f"/usr/bin/{tool}")

    @property
    def uri(self) -> str:
        """What to open, in one process at a time."""
        return f"qemu:///embed?root={self.path}"

    @property
    def search_path(self) -> str:
        """$PATH for the process that opens it: libvirt probes every emulator that it finds there, and where many are installed it takes a minute."""
        return f"{self.path / 'bin'}:/usr/sbin"

    def console_log(self, name: str) -> Path:
        """Where a guest's console can be written to."""
        return self.path / f"{name}.console"

    def qemu_pids(self) -> list[int]:
        """The processes of the guests that run in this root."""
        return pids_with_argument("qemu-system", str(self.path))

    def close(self) -> None:
        """End the guests that are left over and remove the directory."""
        for pid in self.qemu_pids():
            kill(pid)
        capabilities.keep(self.path / "cache")
        shutil.rmtree(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
