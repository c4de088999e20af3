"""What an image that is there already leads to: the hypervisor opens its backing files, and what holds its data, with its own rights."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from virtrpc_drivers import paths
from virtrpc_drivers.device_xml import MAX_CHAIN
from virtrpc_drivers.errors import Reason, failure

_SECONDS = 10
"""How long an image may take to be looked into."""


def check(files: Iterable[str], domain_xml: str, roots: Sequence[str]) -> None:
    """Refuse images of this machine that lead outside the allowed directories, unless to what the domain's disks lie on anyway.

    Raises PATH_NOT_ALLOWED, for what is not to be seen from here as well: in a container that may be there for the hypervisor all the same.
    OPERATION_FAILED for what cannot be looked into.
    """
    known = {os.path.realpath(path) for path in _of_domain(domain_xml)}
    waiting, seen = list(files), set[str]()
    while waiting:
        path = waiting.pop()
        if len(seen) > MAX_CHAIN:
            raise failure(Reason.PATH_NOT_ALLOWED, f"the image {path!r} has more than {MAX_CHAIN} files behind it")
        seen.add(path)
        further = [link for link in _links(path) if os.path.realpath(link) not in known]
        paths.check(further, roots, local=True)
        waiting += [link for link in further if link not in seen]


def _of_domain(domain_xml: str) -> Iterator[str]:
    for source in ElementTree.fromstring(domain_xml).iterfind("devices/disk//source"):
        yield from (source.attrib[name] for name in ("file", "dev") if name in source.attrib)


def _links(path: str) -> Iterator[str]:
    """The files that an image names (qemu-img info): texts that name none, such as URLs, come as they are."""
    info = _info(path)
    if backing := info.get("full-backing-filename") or info.get("backing-filename"):
        yield backing
    data = info.get("format-specific", {}).get("data", {})
    extents = [extent["filename"] for extent in data.get("extents", ()) if "filename" in extent]
    for name in [data.get("data-file"), *extents]:
        if name and name != path:
            yield str(Path(path).parent / name)


def _is_image(path: str) -> bool:
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _info(path: str) -> dict[str, Any]:
    if not _is_image(path):
        raise failure(Reason.PATH_NOT_ALLOWED, f"{path!r} is neither a file nor a block device, or this server does not see it")
    program = shutil.which("qemu-img")
    if program is None:
        raise failure(Reason.FAILED, f"qemu-img is not there to look into {path!r}, which is to be used as it is")
    try:
        done = subprocess.run([program, "info", "-U", "--output=json", path], capture_output=True, text=True, timeout=_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        raise failure(Reason.FAILED, f"looking into {path!r} took longer than {_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise failure(Reason.FAILED, f"{path!r} cannot be looked into: {error.stderr.strip()}") from None
    found: dict[str, Any] = json.loads(done.stdout)
    return found
