"""What is taken out of a Debian kernel package: the kernel, unpacked, and the modules that a boot needs."""

import lzma
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

XZ = b"\xfd7zXZ\x00"


def unpacked_kernel(bzimage: Path) -> bytes:
    """The ELF file in a Debian bzImage. Nobody then unpacks it by emulated instructions, which takes seconds."""
    data = bzimage.read_bytes()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data[data.index(XZ) :])


def install_modules(tree: Path, names: Iterable[str], target: Path) -> None:
    """Copy modules and those they depend on into ``target``/modules, with their names in the order to insert them in ``order``."""
    files = {_plain(file.stem): file for file in tree.rglob("*.ko")}
    order = _in_order(files, names)
    folder = target / "modules"
    folder.mkdir(parents=True)
    for name in order:
        shutil.copy(files[name], folder / f"{name}.ko")
    (folder / "order").write_text("".join(f"{name}\n" for name in order))


def _in_order(files: dict[str, Path], names: Iterable[str]) -> list[str]:
    order: list[str] = []
    for name in map(_plain, names):
        if name in order:
            continue
        needed = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        before = needed[1].decode().split(",") if needed and needed[1] else []
        order += [one for one in (*_in_order(files, before), name) if one not in order]
    return order


def _plain(name: str) -> str:
    return name.replace("-", "_")
