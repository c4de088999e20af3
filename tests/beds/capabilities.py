"""libvirt's cache of what QEMU can do, kept from one test bed to the next: filling it costs seconds of probing."""

import os
import shutil
from pathlib import Path

from tests.beds.guest import cache

WITHIN = Path("qemu/capabilities")


def seed(libvirt_cache: Path) -> None:
    """Put what earlier beds learned under a bed's own libvirt cache directory; libvirt itself drops what is out of date."""
    target = libvirt_cache / WITHIN
    target.mkdir(parents=True, exist_ok=True)
    for known in _store().glob("*.xml"):
        shutil.copy2(known, target)


def keep(libvirt_cache: Path) -> None:
    """Keep what a bed's libvirt has learned."""
    _store().mkdir(parents=True, exist_ok=True)
    for learned in (libvirt_cache / WITHIN).glob("*.xml"):
        partial = _store() / f".{learned.name}.{os.getpid()}"
        shutil.copy2(learned, partial)
        partial.rename(_store() / learned.name)


def _store() -> Path:
    return cache() / "qemu-capabilities"
