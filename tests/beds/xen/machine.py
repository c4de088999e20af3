"""The machine that a Xen host runs on: QEMU without acceleration, whose state once dom0 is up is kept."""

import json
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from io import BufferedRWPair
from pathlib import Path

from tests.beds.wait import wait_until
from tests.beds.xen.image import XenImage, say

MEMORY_MIB = 1024
DOM0_MIB = 320
# Nobody attacks it: without what protects from that, guests are faster.
XEN_WORDS = f"console=com1 dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus=1 noreboot spec-ctrl=no xpti=no pv-l1tf=no"
READY_SECONDS = 240
"""A hang guard of dom0's boot, which takes a quarter of a minute."""


@dataclass(frozen=True)
class Identity:
    """What makes a host itself."""

    name: str
    number: int
    """The last number of its address, and of its MAC addresses."""

    @property
    def uuid(self) -> str:
        """Its machine's."""
        return f"7e57bed0-0000-4000-8000-{self.number:012x}"

    @property
    def address(self) -> str:
        """Where its peer finds it."""
        return f"10.77.0.{self.number}"


IDENTITIES = {"a": Identity("xen-a", 1), "b": Identity("xen-b", 2)}


class Machine:
    """One QEMU process, from start to ``end``. It writes to ``folder`` and to nothing else."""

    def __init__(self, image: XenImage, identity: Identity, folder: Path, wire: Path, *, state: str | None = None) -> None:
        """Begin with ``folder``/disk.qcow2, from the state saved in it or by a boot; ``wire`` is the folder that two hosts' network is in."""
        self.folder = folder
        self.ports = _free_ports(2)
        self._monitor = folder / "qmp"
        # It ends with the thread that started it, however that ends.
        words = ["setpriv", "--pdeathsig", "KILL", *_hardware(image, identity), *self._surroundings(identity, wire)]
        if state:
            words += ["-loadvm", state]
        with (folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _surroundings(self, identity: Identity, wire: Path) -> list[str]:
        peer = next(one for one in IDENTITIES.values() if one != identity)
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{inside}" for port, inside in zip(self.ports, (16509, 8000), strict=True))
        ends = f"local.type=unix,local.path={wire / identity.name},remote.type=unix,remote.path={wire / peer.name}"
        return [
            *("-drive", f"file={self.folder / 'disk.qcow2'},if=virtio,cache=unsafe"),
            *("-netdev", f"user,id=out,restrict=on,{forwards}"),
            *("-netdev", f"dgram,id=lan,{ends}"),
            *("-serial", f"file:{self.folder / 'console'}"),
            *("-qmp", f"unix:{self._monitor},server=on,wait=off"),
        ]

    def wait_booted(self) -> None:
        """Return once dom0 has booted and its libvirtd answers."""
        console = self.folder / "console"
        wait_until(lambda: self._has_printed(console, "DOM0-READY"), f"dom0 to boot, see {console}", READY_SECONDS)

    def _has_printed(self, console: Path, word: str) -> bool:
        self.check()
        return console.exists() and word in console.read_text(errors="replace")

    def check(self) -> None:
        """Raise RuntimeError with its last words where it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"QEMU has ended: {(self.folder / 'qemu.log').read_text(errors='replace')}")

    def save(self, state: str) -> None:
        """Keep the machine as it is in its disk."""
        wait_until(self._monitor.exists, "QEMU's monitor")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self._monitor))
            with connection.makefile("rwb") as stream:
                _ask(stream, {"execute": "qmp_capabilities"})
                # Empty where it went well: this command knows no errors.
                complaint = _ask(stream, {"execute": "human-monitor-command", "arguments": {"command-line": f"savevm {state}"}})
        if complaint:
            raise RuntimeError(f"savevm: {complaint}")

    @property
    def pid(self) -> int:
        """QEMU's."""
        return self._process.pid

    def end(self) -> None:
        """As if the plug were pulled."""
        self._process.kill()
        self._process.wait()


def _ask(stream: BufferedRWPair, command: dict[str, object]) -> object:
    stream.write(json.dumps(command).encode() + b"\n")
    stream.flush()
    while True:
        said = json.loads(stream.readline())
        if "error" in said:
            raise RuntimeError(str(said["error"]))
        if "return" in said:
            return said["return"]


def _hardware(image: XenImage, identity: Identity) -> list[str]:
    words = f"console=hvc0 quiet host={identity.name} uuid={identity.uuid} address={identity.number}"
    mac = f"52:54:00:be:d0:{identity.number:02x}"
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-M", "q35"),
        # Under `max` dom0 crashes, and libvirt in dom0 cannot decode an Opteron.
        *("-cpu", "Nehalem-v1", "-smp", "1,maxcpus=2", "-m", str(MEMORY_MIB), "-uuid", identity.uuid, "-name", identity.name),
        *("-kernel", str(image.hypervisor), "-append", XEN_WORDS),
        *("-initrd", f"{image.kernel} {words},{image.initrd}"),
        *("-device", f"virtio-net-pci,netdev=out,mac={mac.replace('be', 'ce')},romfile="),
        *("-device", f"virtio-net-pci,netdev=lan,mac={mac},romfile="),
    ]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def ready_disk(image: XenImage, key: str) -> Path:
    """The disk of a host with the state of its machine once dom0 was up; boots it once."""
    disk = image.home / f"ready-{key}.qcow2"
    if not disk.exists():
        say(f"booting dom0 of host {key} once, to keep its state")
        with tempfile.TemporaryDirectory(dir=image.home, prefix="booting-") as folder:
            _boot_and_save(image, IDENTITIES[key], Path(folder))
            (Path(folder) / "disk.qcow2").rename(disk)
        say(f"the state is in {disk}")
    return disk


def copy_disk(image: XenImage, disk: Path, folder: Path) -> None:
    """A copy to spoil: it holds the state and what dom0 wrote, the rest stays in the image."""
    (folder / "root.img").symlink_to(image.root)
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", disk, folder / "disk.qcow2"], check=True)


def _boot_and_save(image: XenImage, identity: Identity, folder: Path) -> None:
    (folder / "root.img").symlink_to(image.root)
    # A name without a folder: it is looked for beside the disk, wherever that is.
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "root.img", "-F", "raw", "disk.qcow2"], cwd=folder, check=True)
    machine = Machine(image, identity, folder, folder)
    try:
        machine.wait_booted()
        machine.save("ready")
    finally:
        machine.end()
