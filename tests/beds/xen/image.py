"""The files of a Xen host, all from Debian packages: the hypervisor, dom0's kernel, initramfs and disk, and the machine's state once dom0 is up.

``python -m tests.beds.xen.image`` builds them into a cache outside the checkout, once for each state of the recipe. Nothing is installed: packages
are downloaded and unpacked, and what dom0 runs is in ``dom0/``.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.beds.guest import cache
from tests.beds.xen.kernel import install_modules, unpacked_kernel

RECIPE = Path(__file__).parent
KERNEL_PACKAGE = "linux-image-amd64"
HYPERVISOR_PACKAGE = "xen-hypervisor-4.17-amd64"
# With all that they depend on. busybox stands in for what is not here, awk among others.
DOM0_PACKAGES = (
    "bash",
    "busybox-static",
    "coreutils",
    "grep",
    "iproute2",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-xen",
    "mount",
    "sed",
    "util-linux",
    "xen-utils-4.17",
    "xenstore-utils",
)
LEFT_OUT = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/lib/python3*")
DOM0_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "crc32c_generic",
    "ext4",
    "loop",
    "bridge",
    "xenfs",
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "xen-netback",
)
GUEST_MODULES = ("xen-blkfront", "xen-netfront")
MODULE_TREES = ("arch", "crypto", "drivers/block", "drivers/net", "drivers/virtio", "drivers/xen", "fs", "lib", "net")
DISK_BYTES = 2 << 30
LIBVIRTD_CONF = """
listen_tls = 0
listen_tcp = 1
listen_addr = "0.0.0.0"
auth_tcp = "none"
unix_sock_group = "root"
host_uuid = ""
"""
FOLDERS = ("modules", "proc", "sys", "dev", "bin", "sbin", "root")
SCRATCH = "/var/lib/scratch"
"""Where in dom0 saves and dumps can be written."""
DISK = "/var/lib/guest/disk.img"
"""A disk in dom0 that no guest has."""


@dataclass(frozen=True)
class XenImage:
    """What a host boots from."""

    home: Path

    @property
    def hypervisor(self) -> Path:
        """Xen itself."""
        return self.home / "xen"

    @property
    def kernel(self) -> Path:
        """dom0's kernel, which guests have too."""
        return self.home / "vmlinux"

    @property
    def initrd(self) -> Path:
        """dom0's initramfs."""
        return self.home / "initrd"

    @property
    def root(self) -> Path:
        """dom0's disk, raw: never written to."""
        return self.home / "root.img"


def image() -> XenImage:
    """The image of the present recipe, built first where the cache lacks it."""
    home = cache() / f"xen-{_recipe_hash()}"
    if not home.exists():
        _build(home)
    return XenImage(home)


def say(text: str) -> None:
    """Tell whoever waits."""
    print(f"xen: {text}", file=sys.stderr)


def _recipe_hash() -> str:
    digest = hashlib.sha256()
    for file in (*(RECIPE / f"{name}.py" for name in ("image", "kernel", "machine")), *sorted(RECIPE.glob("dom0/*"))):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _build(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="building-") as scratch:
        work = Path(scratch)
        root, kernel, result = work / "root", work / "kernel", work / "result"
        for directory in (root, kernel, result):
            directory.mkdir()
        say(f"downloading Xen, libvirt, {KERNEL_PACKAGE} and what they need")
        _unpack_packages(work, root, kernel)
        say("packing dom0")
        _fill(root, kernel, work, result)
        try:
            result.rename(home)
        except OSError:
            # Another builder was faster: its image is as good as this one.
            if not home.exists():
                raise
    say(f"image is in {home}")


def _unpack_packages(work: Path, root: Path, kernel: Path) -> None:
    for attempt in range(2):
        try:
            _download(work)
            break
        except SystemExit:
            if attempt:
                raise
            say("updating the package lists")
            _run([*([] if os.geteuid() == 0 else ["sudo"]), "apt-get", "update", "-q"])
    kernels = list(work.glob("archives/linux-image-*.deb"))
    wanted = ["--wildcards", "'./boot/vmlinuz-*'", *(f"'./lib/modules/*/kernel/{tree}'" for tree in MODULE_TREES)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(_unpack, kernels, kernel, wanted)]
        excluded = [f"--exclude='{pattern}'" for pattern in LEFT_OUT]
        jobs += [pool.submit(_unpack, [package], root, excluded) for package in work.glob("archives/*.deb") if package not in kernels]
        for job in jobs:
            job.result()


def _download(work: Path) -> None:
    """Every package that dom0 consists of, as if none were installed here; and the kernel without what would install it."""
    archives, status = work / "archives", work / "status"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    status.touch()
    # Only root has the sandbox user that apt would warn about.
    apt = ["apt-get", "-q", "-y", "-o", "APT::Sandbox::User=root"]
    alone = ["--no-install-recommends", "--download-only", "-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={archives}"]
    _run([*apt, *alone, "install", *DOM0_PACKAGES])
    _run([*apt, "download", _kernel_package(), f"{HYPERVISOR_PACKAGE}={_hypervisor_version()}"], cwd=archives)


def _hypervisor_version() -> str:
    """The oldest there is: since XSA-495 Debian builds Xen without shadow paging, and guests without hardware support cannot be moved alive then."""
    rows = _run(["apt-cache", "madison", HYPERVISOR_PACKAGE]).splitlines()
    if not rows:
        raise SystemExit(f"xen: Debian's package lists do not have {HYPERVISOR_PACKAGE}")
    return rows[-1].split("|")[1].strip()


def _kernel_package() -> str:
    """The package that the meta package stands for today."""
    found = re.search(r"Depends: (linux-image-\S+)", _run(["apt-cache", "depends", KERNEL_PACKAGE]))
    if not found:
        raise SystemExit(f"xen: Debian's package lists do not have {KERNEL_PACKAGE}")
    return found[1]


def _unpack(packages: Sequence[Path], target: Path, options: Sequence[str]) -> None:
    for package in packages:
        command = f"dpkg-deb --fsys-tarfile '{package}' | tar -x --keep-directory-symlink -C '{target}' {' '.join(options)}"
        _run(["bash", "-o", "pipefail", "-c", command])


def _fill(root: Path, kernel: Path, work: Path, result: Path) -> None:
    vmlinux = unpacked_kernel(next(kernel.glob("boot/vmlinuz-*")))
    (result / "vmlinux").write_bytes(vmlinux)
    (result / "xen").write_bytes(gzip.decompress(next(root.glob("boot/xen-*.gz")).read_bytes()))
    busybox = root / "bin/busybox"
    _initramfs(work / "early", kernel, DOM0_MODULES, RECIPE / "dom0/early-init", busybox, result / "initrd")
    _configure(root)
    guest = root / "var/lib/guest"
    guest.mkdir(parents=True)
    (guest / "vmlinux").write_bytes(vmlinux)
    _initramfs(work / "guest", kernel, GUEST_MODULES, RECIPE / "dom0/guest-init", busybox, guest / "initrd")
    with (root / DISK.lstrip("/")).open("wb") as disk:
        disk.truncate(16 << 20)
    _run(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-O", "^has_journal", "-d", root, result / "root.img", str(DISK_BYTES >> 10)])


def _configure(root: Path) -> None:
    shutil.rmtree(root / "boot")
    _only_driver(root / "usr/lib/x86_64-linux-gnu/libvirt/connection-driver", "libvirt_driver_libxl.so")
    _script(RECIPE / "dom0/init", root / "sbin/init")
    _script(RECIPE / "dom0/run", root / "srv/cgi-bin/run")
    for name in ("block", "vif-bridge"):
        _script(RECIPE / "dom0" / name, root / "etc/xen/scripts" / name)
    for folder in ("var/log/libvirt/libxl", "var/log/xen/console", "var/lib/xen", SCRATCH.lstrip("/"), "etc/libvirt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\ntty:x:5:\nkvm:x:6:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n10.77.0.1 xen-a\n10.77.0.2 xen-b\n")
    # What packages make when they are installed.
    for link, target in (("usr/bin/awk", "/bin/busybox"), ("bin/sh", "bash"), ("var/run", "/run"), ("var/lock", "/run/lock")):
        if (root / link).is_dir():
            shutil.rmtree(root / link)
        (root / link).symlink_to(target)
    _run(["/sbin/ldconfig", "-r", root])


def _only_driver(folder: Path, name: str) -> None:
    for driver in folder.iterdir():
        if driver.name != name:
            driver.unlink()


def _initramfs(root: Path, kernel: Path, modules: Sequence[str], init: Path, busybox: Path, target: Path) -> None:
    for folder in FOLDERS[1:]:
        (root / folder).mkdir(parents=True)
    install_modules(kernel / "lib/modules", modules, root)
    shutil.copy(busybox, root / "bin")
    _script(init, root / "init")
    for word in ("poweroff", "reboot"):
        # The kernel runs them when it is asked to; without -f they would ask init.
        (root / "sbin" / word).write_text(f"#!/bin/busybox sh\nexec /bin/busybox {word} -f\n")
        (root / "sbin" / word).chmod(0o755)
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    command = ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"]
    with target.open("wb") as output:
        subprocess.run(command, input=names.encode(), cwd=root, stdout=output, check=True)


def _script(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy(source, target)
    target.chmod(0o755)


def _run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"xen: {' '.join(map(str, command))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


if __name__ == "__main__":
    image()
