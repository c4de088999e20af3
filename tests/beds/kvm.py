"""Whether this machine runs guests under KVM: the device may be there, make a virtual machine, and still not run a guest."""

import os
import signal
import subprocess
from functools import cache
from pathlib import Path
from threading import Timer

from tests.beds.guest import image

DEVICE = Path("/dev/kvm")
SECONDS = 20
READY = "READY"


@cache
def missing(device: Path = DEVICE, seconds: float = SECONDS) -> str | None:
    """Why guests of type "kvm" cannot be used here; None where one has booted. Takes up to `seconds`, once a process."""
    if not device.exists():
        return f"{device} is missing"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be opened by this account"
    return _why_none_boots(seconds)


def _why_none_boots(seconds: float) -> str | None:
    with subprocess.Popen(
        _command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as qemu:
        alarm = Timer(seconds, qemu.kill)
        alarm.start()
        said = _until_ready(qemu)
        alarm.cancel()
        qemu.kill()
    if any(READY in line for line in said):
        return None
    last = f": {said[-1]}" if said else ""
    if qemu.returncode == -signal.SIGKILL:
        return f"a guest under KVM did not boot in {seconds:g} s{last}"
    return f"QEMU ended with {qemu.returncode}{last}"


def _until_ready(qemu: subprocess.Popen[str]) -> list[str]:
    """What a guest's console and QEMU say until the guest is up, or both are at an end."""
    assert qemu.stdout is not None
    said = []
    for line in qemu.stdout:
        if line.strip():
            said.append(line.strip())
        if READY in line:
            break
    return said


def _command() -> list[str]:
    guest = image()
    words = ["-accel", "kvm", "-m", "128", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    return ["qemu-system-x86_64", *words, "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", "console=ttyS0 quiet panic=-1"]
