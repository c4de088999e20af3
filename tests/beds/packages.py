"""Debian packages that some tests need: those of .ci/packages-hypervisors and .ci/packages-clients, installed when a test asks for them.

python -m tests.beds.packages NAME …
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LISTS = [Path(__file__).parents[2] / ".ci" / name for name in ("packages-hypervisors", "packages-clients")]


def install(*packages: str) -> None:
    """Install those that are missing; they must be in the list. Raises CalledProcessError with apt's words where it cannot."""
    unlisted = set(packages) - listed()
    assert not unlisted, f"{', '.join(sorted(unlisted))} must be in {' or '.join(path.name for path in LISTS)}"
    missing = [package for package in packages if not is_installed(package)]
    if missing and not _apt("install", "-y", "--no-install-recommends", *missing, check=False):
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *missing)


def missing(*packages: str) -> str | None:
    """Why these packages cannot be had here; None where they are installed, or can be."""
    absent = [package for package in packages if not is_installed(package)]
    if not absent or (shutil.which("apt-get") and os.geteuid() == 0):
        return None
    return f"needs the Debian packages {', '.join(absent)}, which only root can install"


def listed() -> set[str]:
    """The packages that a test may ask for."""
    lines = (line.partition("#")[0].strip() for path in LISTS for line in path.read_text().splitlines())
    return {line for line in lines if line}


def is_installed(package: str) -> bool:
    """Whether dpkg has it."""
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
    return asked.stdout == "installed"


def _apt(*words: str, check: bool = True) -> bool:
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", *words]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check).returncode == 0


if __name__ == "__main__":
    if (why := missing(*sys.argv[1:])) is not None:
        sys.exit(why)
    install(*sys.argv[1:])
