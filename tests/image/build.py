"""The image of ./Dockerfile, built by buildah: no engine, no daemon. `python -m tests.image.build` says how large it is and what is in it.

Where the registry cannot be reached, a Debian made of the same packages stands in for its base. Base and layers are kept in the cache, outside the
checkout: VIRTRPC_IMAGE_BASE=made never asks the registry, =pulled takes nothing else; BUILDAH_ISOLATION is buildah's own.
"""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.beds import packages
from tests.beds.guest import cache

ROOT = Path(__file__).parents[2]
NAME = "localhost/virtrpc"
BASE = "docker.io/library/debian:bookworm-slim"
MIRROR = os.environ.get("VIRTRPC_DEBIAN_MIRROR", "http://deb.debian.org/debian")
PULL_SECONDS = 60
NEEDED = ("buildah", "debootstrap", "runc", "golang-github-containers-common")
MOUNTED = "/mnt"
"""Where the build finds what it has to know of the machine: a directory that is there and empty, so that nothing of it is in the image."""
CA_BUNDLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")

SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
"""
SLIM = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
"""What the slim images leave out, as theirs do: in dpkg's configuration, so that later packages leave it out as well."""


def image() -> str:
    """The image's name, once it is that of this checkout: built first where anything has changed."""
    packages.install(*NEEDED)
    with _locked():
        _ensure_base()
        with settings_of_machine() as mounted_settings:
            settings = [f"--build-arg={name}={MOUNTED}/{file}" for name, file in (("APT_CONFIG", "apt.conf"), ("PIP_CONFIG_FILE", "pip.conf"))]
            # HEALTHCHECK is Docker's: OCI's format has no place for it.
            command = [
                "build",
                "--pull-never",
                "--layers",
                "--format=docker",
                f"--volume={mounted_settings}:{MOUNTED}:ro",
                *settings,
                f"--tag={NAME}",
            ]
            buildah(*command, str(ROOT), shown=True)
    return NAME


def buildah(*words: str, shown: bool = False) -> str:
    """Runs buildah on the storage in the cache, by overlay where the file system can, else by copies; what it printed.

    Raises SystemExit with its complaints.
    """
    home = cache() / "image"
    environment = {"BUILDAH_ISOLATION": "chroot", **os.environ}
    command = ["buildah", f"--root={home}/storage", f"--runroot={home}/run", *words]
    done = subprocess.run(command, env=environment, stdout=None if shown else subprocess.PIPE, stderr=None if shown else subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"buildah {words[0]} ended with {done.returncode}{': ' + done.stderr.strip() if done.stderr else ''}")
    return "" if shown else done.stdout.strip()


def inspect(name: str = NAME) -> dict[str, Any]:
    """The image's description, in Docker's form: its `config` says how it is to be run."""
    described: dict[str, Any] = json.loads(buildah("inspect", "--type=image", name))["Docker"]
    return described


@contextmanager
def mounted(name: str = NAME) -> Iterator[Path]:
    """The root of a new container of the image; it is removed afterwards."""
    container = buildah("from", "--pull-never", name)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


@contextmanager
def _locked() -> Iterator[None]:
    home = cache() / "image"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ensure_base() -> None:
    wish = os.environ.get("VIRTRPC_IMAGE_BASE", "")
    if wish not in ("", "made", "pulled"):
        raise SystemExit(f"image: VIRTRPC_IMAGE_BASE is made or pulled, not {wish!r}")
    if BASE in buildah("images", "--format={{.Name}}:{{.Tag}}").splitlines():
        return
    if wish != "made" and _pulled(must=wish == "pulled"):
        return
    say(f"making {BASE} of Debian's packages")
    with tempfile.TemporaryDirectory(prefix="virtrpc-base-", dir=cache() / "image") as scratch:
        root = Path(scratch) / "root"
        run("debootstrap", "--variant=minbase", "bookworm", str(root), MIRROR)
        _slim(root)
        container = buildah("from", "scratch")
        buildah("copy", "--quiet", container, str(root), "/")
        buildah("config", "--cmd=bash", container)
        buildah("commit", "--quiet", "--rm", container, BASE)


def _pulled(*, must: bool) -> bool:
    say(f"pulling {BASE}")
    try:
        buildah("--registries-conf=/dev/null", "pull", "--quiet", BASE)
    except SystemExit as refusal:
        if must:
            raise
        say(f"it cannot be pulled ({str(refusal).rpartition(': ')[2]})")
        return False
    return True


def _slim(root: Path) -> None:
    """Make debootstrap's tree what the registry's image is: no documents, translations, package lists and downloads."""
    (root / "etc/apt/sources.list").write_text(SOURCES)
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(SLIM)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
    )
    share = root / "usr/share"
    for path in (*share.glob("doc/*/*"), *share.glob("doc/*")):
        if path.is_symlink() or (path.is_file() and path.name != "copyright"):
            path.unlink()
    for emptied in (
        *(share / name for name in ("groff", "info", "lintian", "locale", "man")),
        root / "var/cache/apt",
        root / "var/lib/apt/lists",
        root / "var/log",
    ):
        shutil.rmtree(emptied, ignore_errors=True)
        emptied.mkdir()
    (root / "etc/machine-id").write_text("")
    for ours in ("hostname", "resolv.conf"):
        (root / "etc" / ours).unlink(missing_ok=True)


@contextmanager
def settings_of_machine() -> Iterator[Path]:
    """A directory with what apt and pip have to know of this machine, for the time of a build: proxies, indexes, whom to trust."""
    with tempfile.TemporaryDirectory(prefix="virtrpc-build-") as scratch:
        home = Path(scratch)
        home.chmod(0o755)
        _describe_machine(home)
        yield home


def _describe_machine(home: Path) -> None:
    dump = run("apt-config", "dump", "Acquire")
    told = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    (home / "apt.conf").write_text("\n".join(line for line in dump.splitlines() if line.startswith(told)) + "\n")
    pip = configparser.RawConfigParser()
    pip["global"] = {"disable-pip-version-check": "1"}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout"):
            pip["global"][name] = value.strip("'")
    bundle = next((os.environ[name] for name in CA_BUNDLES if os.environ.get(name)), "")
    if bundle:
        shutil.copy(bundle, home / "ca.crt")
        pip["global"]["cert"] = f"{MOUNTED}/ca.crt"
    with (home / "pip.conf").open("w") as file:
        pip.write(file)


def run(*command: str) -> str:
    """Runs a command; what it printed. Raises SystemExit with the end of its complaints."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def say(words: str) -> None:
    """One line of progress."""
    print(f"image: {words}", file=sys.stderr, flush=True)


def main() -> None:
    """Build it, and say what it weighs."""
    began = time.monotonic()
    image()
    say(f"{NAME} is built, in {time.monotonic() - began:.0f} s")
    with mounted(BASE) as base, mounted() as root:
        whole, environment, below = (_mebibytes(path) for path in (root, root / "opt/virtrpc", base))
    say(f"{whole} MiB: {below} of {BASE}, {environment} of Python packages, {whole - environment - below} of Python and libvirt's client")


def _mebibytes(root: Path) -> int:
    return int(run("du", "-sxm", str(root)).split()[0])


if __name__ == "__main__":
    main()
