"""A private corner of this machine: own mounts, host name and process ids, so that what runs in it cannot outlive it."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.beds.processes import children
from tests.beds.wait import wait_until

# SIGCHLD ignored: the first process of a pid namespace inherits its orphans, and a guest nobody reaps looks alive to libvirt.
# cat ends with the pipe from this process, whatever ends this process, and everything in the namespace ends with cat.
FIRST_PROCESS = """
set -e
hostname "$1"; shift
while [ $# -gt 0 ]; do [ -f "$1" ] || mkdir -p "$1" "$2"; mount --bind "$1" "$2"; shift 2; done
exec env --ignore-signal=CHLD cat
"""


class Namespace:
    """Holds the namespaces open until ``close``."""

    def __init__(self, hostname: str, binds: Mapping[Path, str]) -> None:
        """Make the namespaces; ``binds`` maps a directory or file outside to the path that it covers inside."""
        pairs = [str(word) for pair in binds.items() for word in pair]
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc"]
        command = [*unshare, "sh", "-c", FIRST_PROCESS, "sh", hostname, *pairs]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_until(self._is_made, f"the namespaces of {hostname}", 20)
        self.first_pid = children(self._holder.pid)[0]

    def _is_made(self) -> bool:
        if self._holder.poll() is not None:
            raise RuntimeError("the private namespaces could not be made (they need root); what failed is on stderr")
        first = children(self._holder.pid)
        return bool(first) and (Path("/proc") / str(first[0]) / "comm").read_text() == "cat\n"

    def spawn(self, command: Sequence[str | Path], log: Path) -> subprocess.Popen[bytes]:
        """Start a program inside. The process returned is ``nsenter``, whose only child the program is."""
        with log.open("ab") as output:
            return subprocess.Popen([*self._enter(), *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def run(self, command: Sequence[str | Path]) -> str:
        """What a program inside prints, once it has ended; raises CalledProcessError where it failed."""
        return subprocess.run([*self._enter(), *command], check=True, capture_output=True, text=True).stdout

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.first_pid), "--mount", "--root", "--uts", "--pid", "--"]

    def pids(self) -> list[int]:
        """The processes inside, by the ids they have outside; the first process is not among them."""
        own = _pid_namespace(self.first_pid)
        everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in everyone if pid != self.first_pid and own and _pid_namespace(pid) == own]

    def close(self) -> None:
        """End everything inside."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(30)


def _pid_namespace(pid: int) -> str | None:
    try:
        return str((Path("/proc") / str(pid) / "ns/pid").readlink())
    except OSError:  # it ended meanwhile
        return None
