"""Xen hosts for tests: one, or two that can move guests to each other."""

import shutil
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.beds.wait import wait_until
from tests.beds.xen.image import DISK, SCRATCH, image
from tests.beds.xen.machine import IDENTITIES, Machine, copy_disk, ready_disk

# What a guest need not do saves half of its boot; a core dump takes a second for each three MiB of its memory.
KERNEL_WORDS = (
    "console=hvc0 quiet mitigations=off rodata=off audit=0 lsm=none random.trust_cpu=on cryptomgr.notests maxcpus=1 "
    "initcall_blacklist=init_blk_tracer,load_system_certificate_list"
)
MEMORY_MIB = 96
DOMAIN = """\
<domain type='xen'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory}</memory>
  <vcpu current='1'>2</vcpu>
  <os>
    <type arch='x86_64' machine='xenpv'>linux</type>
    <kernel>/var/lib/guest/vmlinux</kernel>
    <initrd>/var/lib/guest/initrd</initrd>
    <cmdline>{words}</cmdline>
  </os>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
{devices}    <console type='pty'><target type='xen'/></console>
  </devices>
</domain>
"""


class XenHost:
    """A Xen host that is up on entering, with no guests, and gone on leaving. What tests do to its disk is gone with it."""

    scratch = SCRATCH
    """A folder in dom0 for files of saves and dumps."""
    disk = DISK
    """A raw disk image in dom0 that is nobody's, to attach."""

    def __init__(self, key: str = "a", wire: Path | None = None) -> None:
        """``key``: a or b. Two hosts that are given the same folder as ``wire`` see each other."""
        self.identity = IDENTITIES[key]
        self._key = key
        self._wire = wire
        self._folder: Path | None = None
        self._machine: Machine | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why there can be none on this machine; None where there can."""
        absent = [program for program in ("qemu-system-x86_64", "qemu-img", "apt-get", "dpkg-deb", "mke2fs") if not shutil.which(program)]
        return f"{', '.join(absent)} not found" if absent else None

    @property
    def uri(self) -> str:
        """What a client on this machine opens."""
        return f"xen+tcp://127.0.0.1:{self._running.ports[0]}/system"

    @property
    def peer_uri(self) -> str:
        """What the other host opens."""
        return f"xen+tcp://{self.identity.address}/system"

    @property
    def pid(self) -> int:
        """QEMU's."""
        return self._running.pid

    @property
    def _running(self) -> Machine:
        assert self._machine is not None, "it is not started"
        return self._machine

    def start(self) -> None:
        """Up from the kept state; the first one ever builds and boots it."""
        files = image()
        disk = ready_disk(files, self._key)
        self._folder = Path(tempfile.mkdtemp(prefix="virtrpc-xen-", dir="/tmp"))
        copy_disk(files, disk, self._folder)
        self._machine = Machine(files, self.identity, self._folder, self._wire or self._folder, state="ready")
        wait_until(self._answers, f"dom0 to answer, see {self._folder}")

    def stop(self) -> None:
        """As if the plug were pulled."""
        if self._machine is not None:
            self._machine.end()
            self._machine = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def _answers(self) -> bool:
        self._running.check()
        try:
            return self.run("true") == ""
        except OSError:
            return False

    def run(self, script: str) -> str:
        """What a shell in dom0 prints, both outputs; AssertionError where it fails."""
        url = f"http://127.0.0.1:{self._running.ports[1]}/cgi-bin/run"
        with urllib.request.urlopen(url, script.encode() + b"\n", timeout=60) as answer:
            output, _, status = answer.read().decode(errors="replace").rstrip("\n").rpartition("\n")
        assert status == "0", f"dom0: {script}: {output}"
        return str(output)

    def domain_xml(self, name: str, uuid: str, memory_mib: int = MEMORY_MIB, devices: str = "") -> str:
        """A paravirtualized guest of two processors, one of them plugged, that listens to shutdown and reboot once it has booted."""
        return DOMAIN.format(name=name, uuid=uuid, memory=memory_mib, words=KERNEL_WORDS, devices=devices)

    def disk_xml(self, target: str = "xvdb", path: str = DISK) -> str:
        """A raw image in dom0 as a disk."""
        return f"<disk type='file' device='disk'><driver name='phy' type='raw'/><source file='{path}'/><target dev='{target}' bus='xen'/></disk>"

    def cdrom_xml(self, path: str = DISK) -> str:
        """A raw image in dom0 as a medium that can be changed."""
        return self.disk_xml("xvdc", path).replace("device='disk'", "device='cdrom'").replace("</disk>", "<readonly/></disk>")

    def interface_xml(self) -> str:
        """A network interface in the network of the hosts."""
        return "<interface type='bridge'><source bridge='xenbr0'/></interface>"

    def is_up(self, name: str) -> bool:
        """Whether a guest's programs run, since its last start, boot, restore or move."""
        script = f"id=$(xl domid {name}) && xenstore-read /local/domain/$id/data/booted"
        try:
            return self.run(script).strip() == "1"
        except AssertionError:
            return False

    def wait_up(self, name: str, guard_seconds: float = 120) -> None:
        """Return once it is."""
        wait_until(lambda: self.is_up(name), f"{name} to be up, see /var/log/xen/console in dom0", guard_seconds)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class XenPair:
    """Two hosts, ``a`` and ``b``, with a network of their own between them."""

    def __init__(self) -> None:
        self._wire = Path(tempfile.mkdtemp(prefix="virtrpc-wire-", dir="/tmp"))
        self.a, self.b = XenHost("a", self._wire), XenHost("b", self._wire)
        self._stack = ExitStack()

    def start(self) -> None:
        """Both, up."""
        for host in (self.a, self.b):
            self._stack.enter_context(host)

    def stop(self) -> None:
        """Both, gone."""
        self._stack.close()
        shutil.rmtree(self._wire)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
