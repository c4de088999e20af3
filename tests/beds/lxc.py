"""Containers: a private libvirtd with the LXC driver, and a root file system of busybox that reacts to being shut down and restarted."""

import os
import stat
from pathlib import Path
from shutil import copy

from tests.beds import packages
from tests.beds.daemon import Libvirtd
from tests.beds.guest import image

PACKAGE = "libvirt-daemon-driver-lxc"
# The first process of a container: libvirt asks it by SIGTERM and SIGHUP, as it asks any init that has no /dev/initctl.
INIT = """#!/bin/busybox sh
say() { echo "$1" >>"/tmp/$LIBVIRT_LXC_NAME.console"; }
trap 'say POWERING-OFF; exit 0' TERM
trap 'say RESTARTING; /bin/busybox reboot -f' HUP INT
say READY
while :; do /bin/busybox sleep 1000 & wait $!; done
"""
FOLDERS = ("bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "mnt")


def missing() -> str | None:
    """Why containers cannot be started here; None where they can."""
    return packages.missing(PACKAGE)


class LxcDaemon(Libvirtd):
    """A libvirtd whose containers have a root file system in its own directory."""

    driver = "lxc"

    def __init__(self, hostname: str = "containers") -> None:
        super().__init__(hostname)
        self.root = self.path / "rootfs"

    def start(self) -> None:
        packages.install(PACKAGE)
        if not self.root.exists():
            _make_root(self.root)
        super().start()

    def _prepare(self) -> None:
        # libvirt finds containers by their cgroups, and two hierarchies that it does not manage confuse it where others are of version 1.
        for hierarchy in ("unified", "systemd"):
            if os.path.ismount(f"/sys/fs/cgroup/{hierarchy}"):
                self.inside("umount", f"/sys/fs/cgroup/{hierarchy}")

    def console_log(self, name: str) -> Path:
        """What a container says of itself: libvirt keeps no log of its console."""
        return self.root / f"tmp/{name}.console"

    def domain_xml(self, name: str, uuid: str, memory_mib: int = 64) -> str:
        """A container that runs busybox as its first process."""
        return (
            f"<domain type='lxc'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>"
            "<os><type>exe</type><init>/sbin/init</init></os><on_reboot>restart</on_reboot>"
            f"<devices><filesystem type='mount'><source dir='{self.root}'/><target dir='/'/></filesystem>"
            "<interface type='ethernet'><mac address='52:54:00:00:00:09'/></interface><console type='pty'/></devices></domain>"
        )


def _make_root(root: Path) -> None:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    copy(image().busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("/bin/busybox")
    init = root / "sbin/init"
    init.write_text(INIT)
    for program in (root / "bin/busybox", init):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
