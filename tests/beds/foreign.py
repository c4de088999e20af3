"""Guest images for machines of other architectures, out of Debian's packages for them: the machine's own package lists stay as they are."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.beds.guest import MODULES, RECIPE, cache, pack, run, say

# The agent's libraries are named one by one: apt has no list of installed packages to find them by.
PACKAGES = ("busybox-static", "qemu-guest-agent", "libc6", "libglib2.0-0", "libnuma1", "libpcre2-8-0", "libudev1", "liburing2")
FOLDERS = ("bin", "sbin", "usr/sbin", "etc", "proc", "sys", "dev", "run", "tmp", "mnt", "modules", "var")
# POWER's kernel starts this when the guest is to be off.
POWEROFF = "#!/bin/busybox sh\necho POWERING-OFF >/dev/console\nsync\nexec /bin/busybox poweroff -f\n"


@dataclass(frozen=True)
class ForeignImage:
    """The two files a guest boots from."""

    kernel: Path
    initrd: Path


def image(debian: str, kernel_package: str) -> ForeignImage:
    """The image for one of Debian's architectures, built first where the cache lacks it."""
    home = cache() / f"guest-{debian}-{_recipe_hash()}"
    if not home.exists():
        _build(home, debian, kernel_package)
    return ForeignImage(home / "kernel", home / "initrd")


def _recipe_hash() -> str:
    digest = hashlib.sha256()
    for file in (Path(__file__), Path(__file__).with_name("guest.py"), *sorted(RECIPE.iterdir())):
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _build(home: Path, debian: str, kernel_package: str) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="building-") as scratch:
        work = Path(scratch)
        unpacked, root, result = work / "unpacked", work / "root", work / "result"
        for directory in (unpacked, root, result):
            directory.mkdir()
        Apt(work, debian).unpack(unpacked, kernel_package)
        say(f"packing the initramfs for {debian}")
        _fill_root(unpacked, root)
        pack(root, result / "initrd")
        shutil.copy(next(unpacked.glob("boot/vmlinu[xz]-*")), result / "kernel")
        try:
            result.rename(home)
        except OSError:
            # Another builder was faster: its image is as good as this one.
            if not home.exists():
                raise


class Apt:
    """apt for another architecture, with lists and a cache of its own."""

    def __init__(self, work: Path, debian: str) -> None:
        """The sources are this machine's, as far as they are Debian's."""
        self._work, self._debian = work, debian
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text("".join(f"deb [arch={debian}] {source}\n" for source in _sources()))

    def unpack(self, target: Path, kernel_package: str) -> None:
        """Download and unpack what an image is made of."""
        say(f"downloading {self._debian} packages")
        # A list that fails (a mirror's that is being renewed) matters only if a package is then missing.
        self._run("apt-get", "update", check=False)
        self._run("apt-get", "download", self._kernel(kernel_package), *PACKAGES)
        for package in self._work.glob("*.deb"):
            run(["dpkg-deb", "-x", package, target])

    def _kernel(self, package: str) -> str:
        listing = self._run("apt-cache", "depends", package)
        return next(word for word in listing.split() if word.startswith("linux-image-") and word != package)

    def _run(self, program: str, *words: str, check: bool = True) -> str:
        settings = {
            "APT::Architecture": self._debian,
            "APT::Architectures::": self._debian,
            "APT::Sandbox::User": "root",
            "APT::Update::Post-Invoke-Success": "",
            "Acquire::Languages": "none",
            "Dir::State": self._work / "state",
            "Dir::State::status": self._work / "status",
            "Dir::Cache": self._work / "cache",
            "Dir::Etc::sourcelist": self._work / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return run([program, "-q", *options, *words], cwd=self._work, check=check)


def _sources() -> list[str]:
    wanted = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    listing = run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages", "Origin: Debian"])
    return sorted(set(listing.splitlines()))


def _fill_root(unpacked: Path, root: Path) -> None:
    for directory in FOLDERS:
        (root / directory).mkdir(parents=True)
    (root / "var/run").symlink_to("/run")
    shutil.copy(unpacked / "bin/busybox", root / "bin")
    shutil.copy(unpacked / "usr/sbin/qemu-ga", root / "usr/sbin")
    shutil.copy(RECIPE / "init", root)
    for script in ("chpasswd", "shutdown"):
        shutil.copy(RECIPE / script, root / "sbin")
    (root / "sbin/poweroff").write_text(POWEROFF)
    for program in (root / "init", *root.glob("sbin/*")):
        program.chmod(0o755)
    (root / "sbin/hwclock").symlink_to("/bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    _copy_libraries(unpacked, root)
    _copy_modules(unpacked, root)


def _copy_libraries(unpacked: Path, root: Path) -> None:
    """The agent's libraries and its loader, under the path that each architecture's programs have for it."""
    for library in _needed(unpacked, unpacked / "usr/sbin/qemu-ga", set()):
        target = root / library.parent.relative_to(unpacked)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    for loader in (*unpacked.glob("lib/ld*.so.*"), *unpacked.glob("lib64/ld*.so.*")):
        where = root / loader.relative_to(unpacked)
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(loader.parent / next(unpacked.glob(f"lib/*-linux-gnu*/{loader.name}")), where)


def _needed(unpacked: Path, program: Path, seen: set[str]) -> Iterator[Path]:
    for line in run(["readelf", "-d", program]).splitlines():
        if "(NEEDED)" not in line:
            continue
        name = line.rpartition("[")[2].rstrip("]")
        if name not in seen:
            seen.add(name)
            library = next(path for folder in ("lib", "usr/lib") for path in unpacked.glob(f"{folder}/*-linux-gnu*/{name}"))
            yield library
            yield from _needed(unpacked, library, seen)


def _copy_modules(unpacked: Path, root: Path) -> None:
    """What a kernel has built in is no module of it."""
    order = []
    for module in (*MODULES, "gpio_keys"):
        for file in unpacked.glob(f"lib/modules/*/kernel/**/{module}.ko"):
            shutil.copy(file, root / "modules")
            order.append(module)
    (root / "modules/order").write_text("".join(f"{module}\n" for module in order))
