"""Containers, run by runc as an engine runs them: the server's has no rights, a root that is only read, no network, the default system calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.beds.wait import wait_until
from tests.image import seccomp

GUARD = 60.0
NAMESPACES = ("pid", "mount", "ipc", "uts", "network")
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
FILESYSTEMS = (
    ("/proc", "proc", ()),
    ("/dev", "tmpfs", ("nosuid", "mode=755", "size=64k")),
    ("/dev/shm", "tmpfs", ("nosuid", "nodev", "noexec", "mode=1777", "size=1m")),
    ("/sys", "sysfs", ("nosuid", "nodev", "noexec", "ro")),
    ("/tmp", "tmpfs", ("nosuid", "nodev", "mode=1777", "size=64m")),
)


@dataclass(frozen=True)
class Mount:
    """A directory of the machine in a container."""

    source: Path
    at: str
    read_only: bool = False


def without_rights(
    root: Path,
    image: Mapping[str, Any],
    words: Sequence[str],
    mounts: Sequence[Mount],
    *,
    entry: bool = True,
    user: str = "",
    groups: Sequence[int] = (),
    capabilities: Sequence[str] = (),
) -> dict[str, Any]:
    """The configuration of a container with the image's description and its files in `root`.

    `words` follow its entry point, or are the command where `entry` is false; `user` (UID:GID) instead of the image's.
    """
    uid, _, gid = (user or image["User"]).partition(":")
    return {
        "ociVersion": "1.0.2",
        "hostname": "container",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "cwd": "/",
            "args": [*(image["Entrypoint"] if entry else ()), *words],
            "env": image["Env"],
            "user": {"uid": int(uid), "gid": int(gid), "additionalGids": list(groups)},
            "noNewPrivileges": True,
            "capabilities": {kind: [f"CAP_{name}" for name in capabilities] for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            *({"destination": at, "type": kind, "source": kind, "options": list(options)} for at, kind, options in FILESYSTEMS),
            *(
                {"destination": mount.at, "type": "bind", "source": str(mount.source), "options": ["rbind", "ro" if mount.read_only else "rw"]}
                for mount in mounts
            ),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "seccomp": seccomp.default(),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }


class Container:
    """One container of runc's, with this configuration: started on entering and removed on leaving, however it is then."""

    def __init__(self, home: Path, configuration: Mapping[str, Any]) -> None:
        self.name = f"virtrpc-{uuid.uuid4().hex[:12]}"
        self.bundle = home / self.name
        self.log_file = home / f"{self.name}.log"
        self.bundle.mkdir()
        (self.bundle / "config.json").write_text(json.dumps(configuration))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.log_file.read_text(errors="replace")

    def run(self) -> int:
        """Run it to its end; its exit code."""
        with self:
            return self.wait()

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, with its user and its environment, as a probe is run."""
        return subprocess.run(["runc", "exec", self.name, *words], capture_output=True, text=True, timeout=GUARD)

    def wait_listening(self) -> None:
        """Return once the server listens."""

        def listens() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self.log}"
            return " listens on " in self.log

        wait_until(listens, f"the server to listen, see {self.log_file}", GUARD)

    def kill(self, number: signal.Signals) -> None:
        """Send its first process a signal."""
        subprocess.run(["runc", "kill", self.name, str(int(number))], check=True, capture_output=True)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(GUARD)

    def __enter__(self) -> Self:
        with self.log_file.open("wb") as log:
            command = ["runc", "run", "--bundle", str(self.bundle), self.name]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["runc", "delete", "--force", self.name], capture_output=True)
        assert self._process is not None
        self._process.wait(GUARD)
