"""A machine with systemd as its first process: a container with root's rights, of the image and Debian's package systemd."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.image.build import MOUNTED, NAME, buildah, settings_of_machine

NAME_OF_MACHINE = "localhost/virtrpc-machine"
UNIT = Path(__file__).parents[2] / "server/systemd/virtrpcd.service"
CONFIG = """\
log_level = "INFO"

[[hosts]]
name = "calm"
uri = "sim://calm/?domains=2&running=1"

[[hosts]]
name = "mock"
uri = "test:///default"
"""
INSTALL = "apt-get -qq update && apt-get -qq install -y --no-install-recommends systemd dbus >/dev/null 2>&1"


def machine_image() -> str:
    """The name of the image of such a machine, made anew where the server's image has changed."""
    of = buildah("images", "--format={{.ID}}", NAME)
    tag = f"{NAME_OF_MACHINE}:{of}"
    if not buildah("images", "--format={{.ID}}", "--filter", f"reference={tag}"):
        for old in buildah("images", "--format={{.ID}}", "--filter", f"reference={NAME_OF_MACHINE}").split():
            buildah("rmi", "--force", old)
        container = buildah("from", "--pull-never", NAME)
        with settings_of_machine() as settings:
            volume, variable = f"--volume={settings}:{MOUNTED}:ro", f"--env=APT_CONFIG={MOUNTED}/apt.conf"
            buildah("run", "--user=root", volume, variable, container, "--", "sh", "-c", INSTALL)
        buildah("commit", "--quiet", "--rm", container, tag)
    return tag


def furnish(root: Path) -> None:
    """Put the unit into a machine's files, as an administrator does, and have it started at boot."""
    unit = root / "etc/systemd/system" / UNIT.name
    unit.write_text(UNIT.read_text().replace("ExecStart=virtrpcd ", "ExecStart=/opt/virtrpc/bin/virtrpcd "))
    wanted = unit.with_name("multi-user.target.wants") / unit.name
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to(f"/etc/systemd/system/{unit.name}")
    (root / "etc/virtrpc").mkdir()
    (root / "etc/virtrpc/virtrpcd.toml").write_text(CONFIG)
    shutil.rmtree(root / "var/lib/virtrpc")


def with_systemd(root: Path) -> dict[str, Any]:
    """The configuration of a container that such a machine is."""
    rights = _rights()
    return {
        "ociVersion": "1.0.2",
        "hostname": "machine",
        "root": {"path": str(root), "readonly": False},
        "process": {
            "cwd": "/",
            "args": ["/lib/systemd/systemd", "--system"],
            "env": ["container=oci", "PATH=/opt/virtrpc/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), rights),
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=1m"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/sys/fs/cgroup", "type": "bind", "source": "/sys/fs/cgroup", "options": ["rbind", "rw"]},
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network", "cgroup")]},
    }


def _rights() -> list[str]:
    """All the capabilities that this machine's root has: in a sandbox not each of them."""
    (mask,) = (int(line.split()[1], 16) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:"))
    return [name for number, name in enumerate(CAPABILITIES) if mask >> number & 1]


CAPABILITIES = [
    f"CAP_{name}"
    for name in """
        CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN
        NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
        SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
        BPF CHECKPOINT_RESTORE
    """.split()  # noqa: SIM905 # a list of forty lines would not be easier to read
]
"""In the order of their numbers (linux/capability.h)."""
