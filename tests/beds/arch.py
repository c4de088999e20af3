"""Guests of other architectures under QEMU: POWER, arm64 and s390x, emulated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from tests.beds import foreign, packages
from tests.beds.domain import Disk

READY = "READY"
"""What a guest writes to its console once it is up."""

INTERFACE = '<interface type="user"><mac address="52:54:00:00:00:01"/><model type="virtio"/></interface>'
"""Its network: no option ROM, which not every bus has."""


@dataclass(frozen=True)
class Arch:
    """One architecture: its names, what emulates it, and where its kernel writes."""

    name: str
    """libvirt's name of it."""
    debian: str
    kernel: str
    """Debian's package that stands for its newest kernel."""
    emulator: str
    """The package of its QEMU."""
    machine: str
    console: str
    """The kernel's name of its console."""
    devices: str = ""
    """Elements that its machine needs beside the common ones."""
    cpu: str = ""
    features: str = ""
    serial: str = "serial"
    target: str = ""

    def missing(self) -> str | None:
        """Why it cannot be started here; None where it can."""
        return packages.missing(self.emulator)

    def prepare(self) -> None:
        """Install its emulator and build its guest's image, where they are not there yet. Minutes at most, the first time."""
        packages.install(self.emulator)
        self.image()

    def image(self) -> foreign.ForeignImage:
        """What its guests boot from."""
        return foreign.image(self.debian, self.kernel)

    def domain_xml(
        self, name: str, uuid: str, *, console_log: Path, memory_mib: int = 256, disks: Sequence[Disk] = (), interface: bool = False
    ) -> str:
        """The XML of a guest that boots to READY on its console, with an agent and a screen; its devices are virtio."""
        image = self.image()
        # A screen without a server: with one, libvirt gives POWER a keyboard and a mouse, and those need USB.
        return f"""
<domain type="qemu">
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit="MiB">{memory_mib}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch="{self.name}" machine="{self.machine}">hvm</type>
    <kernel>{image.kernel}</kernel>
    <initrd>{image.initrd}</initrd>
    <cmdline>console={self.console} quiet</cmdline>
  </os>
  {self.features}
  {self.cpu}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    {self.devices}
    {"".join(disk.xml() for disk in disks)}
    {INTERFACE * interface}
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <{self.serial} type="pty"><log file={quoteattr(str(console_log))} append="off"/>{self.target}</{self.serial}>
    <video><model type="virtio"/></video>
    <memballoon model="virtio"><stats period="1"/></memballoon>
  </devices>
  <seclabel type="none"/>
</domain>"""


NO_USB = "<controller type='usb' model='none'/>"
POWER = Arch("ppc64le", "ppc64el", "linux-image-powerpc64le", "qemu-system-ppc", "pseries", "hvc0", NO_USB)
ARM = Arch(
    "aarch64",
    "arm64",
    "linux-image-arm64",
    "qemu-system-arm",
    "virt",
    "ttyAMA0",
    NO_USB,
    cpu="<cpu mode='custom' match='exact'><model fallback='allow'>cortex-a57</model></cpu>",
)
S390 = Arch(
    "s390x",
    "s390x",
    "linux-image-s390x",
    "qemu-system-misc",
    "s390-ccw-virtio",
    "ttysclp0",
    # What QEMU has translated stays over a reset, and slows each write to its pages down: with the usual cache of up to 1 GiB, the kernel is
    # unpacked for more than a minute then, instead of 4 s. A small one is emptied before there is much in it.
    features="<features><tcg><tb-cache unit='MiB'>8</tb-cache></tcg></features>",
    serial="console",
    target="<target type='sclp'/>",
)
ARCHES = (POWER, ARM, S390)
