"""The XML of test guests and of the devices they are given."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.beds.guest import image

# Each saves boot time under TCG, where the guest has nothing to protect.
KERNEL_WORDS = (
    "console=ttyS0 quiet mitigations=off nokaslr rodata=off audit=0 lsm=none tsc=reliable random.trust_cpu=on i8042.noaux cryptomgr.notests"
)


@dataclass(frozen=True)
class Disk:
    """A virtio disk backed by a file."""

    path: Path
    target: str = "vda"
    format: str = "qcow2"

    def xml(self) -> str:
        """The element as libvirt takes it, in a domain or to attach."""
        return (
            f'<disk type="file" device="disk"><driver name="qemu" type="{self.format}"/>'
            f'<source file={quoteattr(str(self.path))}/><target dev="{self.target}" bus="virtio"/></disk>'
        )


def make_disk(path: Path, size_mib: int = 16, target: str = "vda", format: str = "qcow2") -> Disk:
    """Create an empty disk image of ``size_mib`` at ``path``."""
    subprocess.run(["qemu-img", "create", "-q", "-f", format, path, f"{size_mib}M"], check=True)
    return Disk(path, target, format)


def interface_xml(mac: str = "52:54:00:00:00:01", tap: str | None = None) -> str:
    """A virtio interface: user-mode networking, or a tap device of its own, which alone has statistics."""
    backend = f'<target dev="{tap}"/>' if tap else ""
    kind = "ethernet" if tap else "user"
    return f'<interface type="{kind}"><mac address="{mac}"/>{backend}<model type="virtio"/><rom enabled="no"/></interface>'


def domain_xml(
    name: str,
    *,
    console_log: Path,
    memory_mib: int = 128,
    current_memory_mib: int | None = None,
    fill_mib: int = 0,
    churn_mib: int = 0,
    mount_disk: bool = False,
    uuid: str | None = None,
    agent: bool = True,
    disks: Sequence[Disk] = (),
    interface: bool = False,
    tap: str | None = None,
    kind: str = "qemu",
    vcpus: int = 1,
    max_vcpus: int | None = None,
    max_memory_mib: int | None = None,
    host_cpus: str = "",
) -> str:
    """The XML of a guest that boots the test image and writes its console to ``console_log``.

    ``memory_mib`` is the balloon's maximum, ``max_memory_mib`` leaves room for memory devices above it. ``fill_mib`` makes saves take
    seconds, ``churn_mib`` migrations; ``mount_disk`` formats and mounts the first disk. ``interface`` gives it user-mode networking,
    ``tap`` an interface with statistics. ``host_cpus`` are the processors that QEMU keeps to, as libvirt writes them ("2-3").
    """
    guest = image()
    words = [KERNEL_WORDS, f"fill={fill_mib}" * bool(fill_mib), f"churn={churn_mib}" * bool(churn_mib), "mount=1" * mount_disk]
    devices = [disk.xml() for disk in disks]
    if interface or tap:
        devices.append(interface_xml(tap=tap))
    if agent:
        devices.append('<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>')
    return f"""
<domain type="{kind}">
  <name>{name}</name>
  {f"<uuid>{uuid}</uuid>" if uuid else ""}
  {_memory_xml(memory_mib, current_memory_mib, max_memory_mib)}
  <vcpu current="{vcpus}"{f' cpuset="{host_cpus}"' if host_cpus else ""}>{max_vcpus or vcpus}</vcpu>
  <os>
    <type arch="x86_64" machine="pc">hvm</type>
    <kernel>{guest.kernel}</kernel>
    <initrd>{guest.initrd}</initrd>
    <cmdline>{" ".join(word for word in words if word)}</cmdline>
  </os>
  <features><acpi/></features>
  {_numa_xml(memory_mib, max_vcpus or vcpus) if max_memory_mib else ""}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type="usb" model="none"/>
    {"".join(devices)}
    <serial type="pty"><log file={quoteattr(str(console_log))} append="off"/></serial>
    <memballoon model="virtio"><stats period="1"/></memballoon>
  </devices>
  <seclabel type="none"/>
</domain>"""


def _memory_xml(memory: int, current: int | None, maximum: int | None) -> str:
    slots = f'<maxMemory slots="4" unit="MiB">{maximum}</maxMemory>' if maximum else ""
    return f'{slots}<memory unit="MiB">{memory}</memory><currentMemory unit="MiB">{current or memory}</currentMemory>'


def _numa_xml(memory: int, vcpus: int) -> str:
    # QEMU takes memory devices only where the guest has a NUMA node to put them in.
    return f'<cpu><numa><cell id="0" cpus="0-{vcpus - 1}" memory="{memory}" unit="MiB"/></numa></cpu>'
