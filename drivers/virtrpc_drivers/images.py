"""What an image names: a hypervisor opens its backing files, and what holds its data, with its own rights. Blocks."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import NamedFile

PLAIN = frozenset({"raw", "iso"})
"""Formats of which nothing is read but data."""
_PROGRAM = "qemu-img"
_SECONDS = 10
"""How long an image may take to be looked into."""
_MEMORY_BYTES = 1 << 30
"""What that may need: guests write images, and a bad one would have it take all that there is."""


def links(file: NamedFile) -> Iterator[NamedFile]:
    """The files that an image names, with the formats that it says (qemu-img info). Texts that are no paths, such as URLs, come as they are.

    Raises OPERATION_FAILED for an image that cannot be looked into, such as one that is not of its format.
    """
    info = _info(file)
    backing = info.get("full-backing-filename") or info.get("backing-filename")
    if backing and file.backing:
        yield NamedFile(path=backing, format=info.get("backing-filename-format", ""))
    data = info.get("format-specific", {}).get("data", {})
    if data_file := data.get("data-file"):
        yield NamedFile(path=str(Path(file.path).parent / data_file))
    for name in (extent.get("filename") for extent in data.get("extents", ())):
        if name and name != file.path:
            yield NamedFile(path=str(Path(file.path).parent / name), format="")


def hidden(path: str) -> str:
    """Why a file cannot be looked into from here, in words; empty where it can."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return "this server does not see it"
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        return "it is neither a file nor a block device"
    if not os.access(path, os.R_OK, effective_ids=True):
        return "this server may not read it"
    return "" if shutil.which(_PROGRAM) else f"{_PROGRAM} is not installed where this server runs"


def _info(file: NamedFile) -> dict[str, Any]:
    limiter = shutil.which("prlimit")
    limits = [limiter, f"--as={_MEMORY_BYTES}", f"--cpu={_SECONDS}"] if limiter is not None else []
    wanted = ["-f", file.format] if file.format else []
    try:
        command = [*limits, _PROGRAM, "info", "-U", *wanted, "--output=json", "--", file.path]
        done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", timeout=_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise failure(Reason.FAILED, f"looking into {file.path!r} took longer than {_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        # It tells what the image holds, which a guest may have written.
        words = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in error.stderr.strip())
        raise failure(Reason.FAILED, f"{file.path!r} cannot be looked into: {words}") from None
    found: dict[str, Any] = json.loads(done.stdout)
    return found
