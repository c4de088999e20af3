"""The guest image: a Debian kernel and an initramfs of busybox, qemu-guest-agent and a handler of the power button.

``python -m tests.beds.guest`` builds it into a cache outside the checkout, once for each state of the recipe.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).parent / "rootfs"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
PROGRAM_PACKAGES = ("busybox-static", "qemu-guest-agent")
# In the order in which they can be inserted.
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_blk",
    "virtio_balloon",
    "virtio_console",
    "button",
    "evdev",
)


@dataclass(frozen=True)
class GuestImage:
    """The two files a guest boots from, and the static program that a container runs."""

    kernel: Path
    initrd: Path
    busybox: Path


def image() -> GuestImage:
    """The image of the present recipe, built first where the cache lacks it."""
    home = cache() / f"guest-{_recipe_hash()}"
    if not home.exists():
        _build(home)
    return GuestImage(home / "vmlinuz", home / "initrd", home / "busybox")


def cache() -> Path:
    """Where test beds keep what is costly to make, outside the checkout: VIRTRPC_CACHE, else under XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("VIRTRPC_CACHE") or Path(base) / "virtrpc").absolute()


def _recipe_hash() -> str:
    digest = hashlib.sha256()
    for file in (Path(__file__), *sorted(RECIPE.iterdir())):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _build(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="building-") as scratch:
        work = Path(scratch)
        unpacked, root, result = work / "unpacked", work / "root", work / "result"
        for directory in (unpacked, root, result):
            directory.mkdir()
        say(f"downloading {KERNEL_PACKAGE}, {', '.join(PROGRAM_PACKAGES)}")
        _unpack_packages(work, unpacked)
        say("packing the initramfs")
        _fill_root(unpacked, root)
        pack(root, result / "initrd")
        shutil.copy(next(unpacked.glob("boot/vmlinuz-*")), result / "vmlinuz")
        shutil.copy(unpacked / "bin/busybox", result / "busybox")
        try:
            result.rename(home)
        except OSError:
            # Another builder was faster: its image is as good as this one.
            if not home.exists():
                raise
    say(f"image is in {home}")


def _unpack_packages(work: Path, unpacked: Path) -> None:
    packages = (_kernel_package(), *PROGRAM_PACKAGES)
    # Only root has the sandbox user that apt would warn about.
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
    if subprocess.run(download, cwd=work, capture_output=True).returncode != 0:
        _update_package_lists()
        run(download, cwd=work)
    for package in work.glob("*.deb"):
        run(["dpkg-deb", "-x", package, unpacked])


def _kernel_package() -> str:
    """The package that the meta package stands for today."""
    for attempt in range(2):
        if attempt:
            _update_package_lists()
        listing = run(["apt-cache", "depends", KERNEL_PACKAGE], check=False)
        if found := re.search(r"Depends: (linux-image-\S+)", listing):
            return found[1]
    raise SystemExit(f"guest: Debian's package lists do not have {KERNEL_PACKAGE}")


def _update_package_lists() -> None:
    say("updating the package lists")
    run([*([] if os.geteuid() == 0 else ["sudo"]), "apt-get", "update", "-q"])


def _fill_root(unpacked: Path, root: Path) -> None:
    for directory in ("bin", "sbin", "usr/sbin", "etc", "proc", "sys", "dev", "run", "tmp", "mnt", "modules", "lib64", "lib/x86_64-linux-gnu"):
        (root / directory).mkdir(parents=True)
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")
    shutil.copy(unpacked / "bin/busybox", root / "bin")
    shutil.copy(RECIPE / "init", root)
    for script in ("chpasswd", "shutdown"):
        shutil.copy(RECIPE / script, root / "sbin")
    for program in (root / "init", *root.glob("sbin/*")):
        program.chmod(0o755)
    run(["gcc", "-O2", "-static", "-s", "-o", root / "bin/memory", RECIPE / "memory.c"])
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o600)
    (root / "sbin/hwclock").symlink_to("/bin/busybox")  # where qemu-ga looks for it
    _copy_with_libraries(unpacked / "usr/sbin/qemu-ga", root)
    for module in MODULES:
        shutil.copy(next(unpacked.glob(f"lib/modules/*/kernel/**/{module}.ko")), root / "modules")
    (root / "modules/order").write_text("".join(f"{module}\n" for module in MODULES))


def _copy_with_libraries(program: Path, root: Path) -> None:
    shutil.copy(program, root / "usr/sbin")
    listing = run(["ldd", program])
    if "not found" in listing:
        raise SystemExit(f"guest: a library of {program.name} is not installed here:\n{listing}")
    for library in re.findall(r"(/\S+) \(0x", listing):
        folder = "lib64" if "ld-linux" in library else "lib/x86_64-linux-gnu"
        shutil.copy(library, root / folder)


def pack(root: Path, initrd: Path) -> None:
    """Make an initramfs of a directory."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (0, 0), follow_symlinks=False)
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    command = ["cpio", "--create", "--format=newc", "--owner=0:0", "--reproducible", "--quiet"]
    with initrd.open("wb") as target:
        subprocess.run(command, input=names.encode(), cwd=root, stdout=target, check=True)


def run(command: Sequence[str | Path], cwd: Path | None = None, check: bool = True) -> str:
    """What a program prints; with ``check`` a failure ends the build with its words."""
    environment = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if check and result.returncode != 0:
        raise SystemExit(f"guest: {' '.join(map(str, command))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def say(text: str) -> None:
    """Tell whoever waits for a build how far it is."""
    print(f"guest: {text}", file=sys.stderr)


if __name__ == "__main__":
    image()
