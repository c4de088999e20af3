"""What an image leads to, as qemu-img tells."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import chains

pytestmark = [pytest.mark.hypervisor, pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")]
NOTHING = "<domain/>"


def made(path: Path, *words: str) -> Path:
    """A qcow2 image."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "1M"], check=True)
    return path


def refusal(image: Path, root: Path, domain: str = NOTHING) -> Reason:
    """Why an image is refused."""
    with pytest.raises(DriverError) as caught:
        chains.check([str(image)], domain, [str(root)])
    return caught.value.fault.reason


def test_what_lies_inside_is_used(tmp_path: Path) -> None:
    """An image on its own, and one whose backing file is beside it."""
    base = made(tmp_path / "base")
    over = made(tmp_path / "over", "-b", base.name, "-F", "qcow2")
    chains.check([str(base), str(over)], NOTHING, [str(tmp_path)])


def test_what_is_not_seen_from_here_is_refused(tmp_path: Path) -> None:
    """An image that is not there, and one whose backing file is not: the hypervisor may see both, where the server runs in a container."""
    assert refusal(tmp_path / "nothing", tmp_path) is Reason.PATH_NOT_ALLOWED
    base = made(tmp_path / "base")
    over = made(tmp_path / "over", "-b", str(base), "-F", "qcow2")
    base.unlink()
    assert refusal(over, tmp_path) is Reason.PATH_NOT_ALLOWED


def test_what_the_domain_lies_on_is_its_own(tmp_path: Path) -> None:
    """A backing file outside the roots is no secret where it is the domain's own disk, in its chain too; another domain's is."""
    root = tmp_path / "root"
    root.mkdir()
    base = made(tmp_path / "outside")
    over = made(root / "over", "-b", str(base), "-F", "qcow2")
    source = f"<source file='{base}'/>"
    for inside in (source, f"<source file='/x'/><backingStore type='file'>{source}</backingStore>"):
        chains.check([str(over)], f"<domain><devices><disk>{inside}</disk></devices></domain>", [str(root)])
    assert refusal(over, root) is Reason.PATH_NOT_ALLOWED


def test_what_cannot_be_looked_into(tmp_path: Path) -> None:
    """A pipe, which would never answer, and an image that is broken are refused."""
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe", tmp_path) is Reason.PATH_NOT_ALLOWED
    broken = tmp_path / "broken"
    broken.write_bytes(b"QFI\xfb\0\0\0\3" + b"\xff" * 1000)
    assert refusal(broken, tmp_path) is Reason.FAILED
