"""One call of each verb that can be proven: where it finds its domain, what it is, and what undoes it."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from tests.drivers.bed import Bed
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.resources import BlkioDevice

MIB = 1 << 20
CONFIG = ops.Scope.CONFIG
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA one"
MAC = "52:54:00:00:00:77"
NIC = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='nowhere'/></interface>"


@dataclass
class Scene:
    """A domain of one case's own."""

    bed: Bed
    root: Path
    uuid: str = ""
    name: str = ""
    xml: str = ""

    @property
    def can_start_paused(self) -> bool:
        """libvirt's mock does not take the flag."""
        return self.bed.kind.name != "test"

    @property
    def disk(self) -> str:
        """A disk to attach."""
        return self._device("")

    @property
    def other_disk(self) -> str:
        """Another one at the same place."""
        return self._device("-other")

    async def prepare(self, case: Case) -> None:
        """Make its domain, and bring it to where the case begins."""
        self.uuid, self.name, self.xml = self.bed.new()
        self.xml = self.xml.replace("</devices>", f"{case.devices}</devices>")
        if case.chained:
            self._put_on_a_backing_file()
        if case.on == "none":
            return
        await self.define()
        if case.on != "off":
            await self.bed.run(ops.Start(uuid=self.uuid) if case.on in ("running", "booted") else start(self))
        if case.on == "paused":
            await self.bed.run(ops.Suspend(uuid=self.uuid))
        if case.on == "booted":
            await self.bed.kind.booted(self.name)

    async def define(self) -> None:
        """Define its domain, as it was at first."""
        await self.bed.run(ops.Define(uuid=self.uuid, name=self.name, xml=self.xml))

    async def remove(self) -> None:
        """Have no such domain any more."""
        undefine = ops.Undefine(uuid=self.uuid, managed_save=True, snapshots_metadata=True)
        for operation in (ops.Destroy(uuid=self.uuid), undefine, replace(undefine, checkpoints_metadata=True)):
            with contextlib.suppress(DriverError):  # it may be off, or gone, already
                await self.bed.run(operation)
        assert await self.bed.gone(self.uuid)

    def _put_on_a_backing_file(self) -> None:
        base = re.findall(r"<source file=['\"]([^'\"]+)", self.xml)[0]
        overlay = f"{base}.overlay"
        if self.bed.kind.name == "qemu":
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay], check=True)
        below = f"<backingStore type='file'><format type='qcow2'/><source file='{base}'/><backingStore/></backingStore>"
        self.xml = re.sub(r"<source file=['\"][^'\"]+['\"]/>", f"<source file='{overlay}'/>{below}", self.xml, count=1)

    def _device(self, suffix: str) -> str:
        path = self.root / f"{self.name}{suffix}-b.img"
        path.touch()
        return f"<disk type='file' device='disk'><source file='{path}'/><target dev='vdb' bus='virtio'/></disk>"

    def titled(self, title: str) -> str:
        """Its definition with a title."""
        return self.xml.replace("</name>", f"</name><title>{title}</title>", 1)

    def saved(self, title: str) -> str:
        """Its definition with a title, as it was saved: a guest that never ran has all of its memory."""
        return re.sub("<currentMemory.*?</currentMemory>", "", self.titled(title))

    def file(self, ending: str) -> str:
        """A file of its own."""
        return str(self.root / f"{self.bed.kind.name}-{self.name}.{ending}")


Make = Callable[[Scene], ops.AnyOperation]


@dataclass(frozen=True)
class Case:
    """How a call of one verb is made, and what can be said of it afterwards."""

    does: Make
    on: str = "off"
    """The domain's state before: none, off, paused, running, or booted with an agent that answers."""
    first: tuple[Make, ...] = ()
    """What makes the domain ready for it."""
    undo: Make | None = None
    """What somebody else does later, so that the effect is there no more."""
    never: Make | None = None
    """A call of which nothing is to be seen where the usual one's effect is there from the beginning."""
    counts_what_was_there: bool = True
    """Whether what was there before the call proves it too: so of states and settings, and not of what a call makes."""
    stays_shown: bool = False
    """Whether it is so of a domain that was made anew as well."""
    proves_by_being_gone: bool = False
    shares: str = ""
    """Cases that share a domain of this name leave each other alone: real guests take their time to start and to end."""
    devices: str = ""
    """More devices in its definition."""
    chained: bool = False
    """Whether its disk has a backing file."""
    unknown_to: frozenset[str] = frozenset()
    """Hypervisors that forget at once what they were told: nothing proves it there."""
    lost_with: frozenset[str] = frozenset()
    """Hypervisors that forget it when the process ends in which they live."""
    only: frozenset[str] = frozenset({"sim", "test", "qemu"})
    """Hypervisors on which it is tried; where not on all that have the verb, the reason is beside it."""


def _snapshot(scene: Scene) -> ops.AnyOperation:
    return ops.CreateSnapshot(uuid=scene.uuid, name="s", xml="<domainsnapshot><name>s</name></domainsnapshot>")


def _checkpoint(name: str) -> Make:
    return lambda s: ops.CreateCheckpoint(uuid=s.uuid, name=name, xml=f"<domaincheckpoint><name>{name}</name></domaincheckpoint>")


def _backup(scene: Scene) -> ops.AnyOperation:
    target = f"<disk name='vda' type='file'><driver type='qcow2'/><target file='{scene.file('backup')}'/></disk>"
    return ops.Backup(uuid=scene.uuid, xml=f"<domainbackup mode='push'><disks>{target}</disks></domainbackup>")


def _copy(scene: Scene) -> ops.AnyOperation:
    xml = f"<disk type='file'><source file='{scene.file('copy')}'/><driver name='qemu' type='qcow2'/></disk>"
    return ops.CopyBlock(uuid=scene.uuid, disk="vda", xml=xml, finish="pivot", transient_job=True)


def start(scene: Scene) -> ops.AnyOperation:
    """Start it, and let its guest do nothing where it can be so: a dozen that boot would take their time."""
    return ops.Start(uuid=scene.uuid, paused=scene.can_start_paused)


def _save(scene: Scene) -> ops.AnyOperation:
    return ops.Save(uuid=scene.uuid, path=scene.file("save"), after_restore="running" if scene.can_start_paused else "")


def _managed_save(scene: Scene) -> ops.AnyOperation:
    return ops.ManagedSave(uuid=scene.uuid)


def _image(title: str) -> Make:
    return lambda s: ops.DefineSaveImage(uuid=s.uuid, name=s.name, path=s.file("save"), xml=s.saved(title))


def _managed_image(title: str) -> Make:
    return lambda s: ops.DefineManagedSaveImage(uuid=s.uuid, xml=s.saved(title))


def _threads(change: Callable[..., ops.AnyOperation], scope: ops.Scope = CONFIG) -> Make:
    return lambda s: change(uuid=s.uuid, number=3, scope=scope)


LIVE = ops.Scope.LIVE
WITH_AGENT = frozenset({"sim", "qemu"})
ELSEWHERE = {"Migrate": "two hosts: tests/drivers/test_sim_migration.py, tests/drivers/libvirt/test_proofs.py"}
CASES: dict[str, Case] = {
    # States.
    "Start": Case(start, undo=lambda s: ops.Destroy(uuid=s.uuid)),
    "Create": Case(
        lambda s: ops.Create(uuid=s.uuid, name=s.name, xml=s.xml, paused=s.can_start_paused),
        on="none",
        undo=lambda s: ops.Destroy(uuid=s.uuid),
    ),
    "Suspend": Case(
        lambda s: ops.Suspend(uuid=s.uuid),
        on="paused",
        first=(lambda s: ops.Resume(uuid=s.uuid),),
        undo=lambda s: ops.Resume(uuid=s.uuid),
    ),
    "Resume": Case(lambda s: ops.Resume(uuid=s.uuid), on="paused", undo=lambda s: ops.Suspend(uuid=s.uuid)),
    "Shutdown": Case(lambda s: ops.Shutdown(uuid=s.uuid), on="booted", undo=start, stays_shown=True, proves_by_being_gone=True),
    "Destroy": Case(lambda s: ops.Destroy(uuid=s.uuid), on="paused", undo=start, stays_shown=True, proves_by_being_gone=True),
    "ManagedSave": Case(_managed_save, on="paused", undo=start),
    "RemoveManagedSave": Case(lambda s: ops.RemoveManagedSave(uuid=s.uuid), on="paused", first=(_managed_save,), undo=start, stays_shown=True),
    # Agents of guests under TCG take no sleep; the simulated ones do.
    "PowerManagementSuspend": Case(
        lambda s: ops.PowerManagementSuspend(uuid=s.uuid), on="running", only=frozenset({"sim"}), undo=lambda s: ops.Destroy(uuid=s.uuid)
    ),
    "PowerManagementWakeup": Case(
        lambda s: ops.PowerManagementWakeup(uuid=s.uuid),
        on="running",
        first=(lambda s: ops.PowerManagementSuspend(uuid=s.uuid),),
        only=frozenset({"sim"}),
        undo=lambda s: ops.Suspend(uuid=s.uuid),
    ),
    "Restore": Case(
        lambda s: ops.Restore(uuid=s.uuid, name=s.name, path=s.file("save")), on="paused", first=(_save,), undo=lambda s: ops.Destroy(uuid=s.uuid)
    ),
    # Definitions.
    "Define": Case(
        lambda s: ops.Define(uuid=s.uuid, name=s.name, xml=s.titled("new")), undo=lambda s: ops.Define(uuid=s.uuid, name=s.name, xml=s.xml)
    ),
    "Undefine": Case(lambda s: ops.Undefine(uuid=s.uuid), undo=lambda s: ops.Define(uuid=s.uuid, name=s.name, xml=s.xml), proves_by_being_gone=True),
    "Rename": Case(lambda s: ops.Rename(uuid=s.uuid, name=f"{s.name}-new"), undo=lambda s: ops.Rename(uuid=s.uuid, name=s.name)),
    "SetMetadata": Case(
        lambda s: ops.SetMetadata(uuid=s.uuid, kind="title", value="x"), undo=lambda s: ops.SetMetadata(uuid=s.uuid, kind="title", value="y")
    ),
    "SetAutostart": Case(lambda s: ops.SetAutostart(uuid=s.uuid, autostart=True), undo=lambda s: ops.SetAutostart(uuid=s.uuid, autostart=False)),
    # Devices and sizes.
    "AttachDevice": Case(
        lambda s: ops.AttachDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG), undo=lambda s: ops.DetachDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG)
    ),
    "DetachDevice": Case(
        lambda s: ops.DetachDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG),
        first=(lambda s: ops.AttachDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG),),
        undo=lambda s: ops.AttachDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG),
        stays_shown=True,
    ),
    "UpdateDevice": Case(
        lambda s: ops.UpdateDevice(uuid=s.uuid, xml=s.other_disk, scope=CONFIG),
        first=(lambda s: ops.AttachDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG),),
        undo=lambda s: ops.UpdateDevice(uuid=s.uuid, xml=s.disk, scope=CONFIG),
    ),
    "SetMemory": Case(
        lambda s: ops.SetMemory(uuid=s.uuid, memory_bytes=192 * MIB), undo=lambda s: ops.SetMemory(uuid=s.uuid, memory_bytes=128 * MIB)
    ),
    "SetVcpus": Case(
        lambda s: ops.SetVcpus(uuid=s.uuid, vcpus=2, maximum=True, scope=CONFIG),
        undo=lambda s: ops.SetVcpus(uuid=s.uuid, vcpus=3, maximum=True, scope=CONFIG),
    ),
    "SetMemoryStatsPeriod": Case(
        lambda s: ops.SetMemoryStatsPeriod(uuid=s.uuid, seconds=7, scope=CONFIG),
        undo=lambda s: ops.SetMemoryStatsPeriod(uuid=s.uuid, seconds=9, scope=CONFIG),
    ),
    "ResizeBlock": Case(
        lambda s: ops.ResizeBlock(uuid=s.uuid, device="vda", capacity_bytes=32 * MIB),
        on="paused",
        shares="tuned",
        undo=lambda s: ops.ResizeBlock(uuid=s.uuid, device="vda", capacity_bytes=48 * MIB),
    ),
    "SetBlockThreshold": Case(
        lambda s: ops.SetBlockThreshold(uuid=s.uuid, device="vda", threshold_bytes=MIB),
        on="paused",
        shares="tuned",
        undo=lambda s: ops.SetBlockThreshold(uuid=s.uuid, device="vda", threshold_bytes=2 * MIB),
    ),
    # Tuning. libvirt's mock pins what runs only.
    "PinVcpu": Case(lambda s: ops.PinVcpu(uuid=s.uuid, number=0, host_cpus=(0,)), on="paused", shares="tuned"),
    "PinEmulator": Case(lambda s: ops.PinEmulator(uuid=s.uuid, host_cpus=(0,)), on="paused", shares="tuned"),
    "AddIoThread": Case(_threads(ops.AddIoThread), undo=_threads(ops.DeleteIoThread)),
    "DeleteIoThread": Case(_threads(ops.DeleteIoThread), first=(_threads(ops.AddIoThread),), undo=_threads(ops.AddIoThread), stays_shown=True),
    "PinIoThread": Case(lambda s: ops.PinIoThread(uuid=s.uuid, number=3, host_cpus=(0,), scope=CONFIG), first=(_threads(ops.AddIoThread),)),
    "SetIoThreadParameters": Case(
        lambda s: ops.SetIoThreadParameters(uuid=s.uuid, number=3, parameters={"poll_max_ns": 1000, "poll_grow": 2}),
        on="paused",
        shares="tuned",
        first=(_threads(ops.AddIoThread, LIVE),),
        undo=lambda s: ops.SetIoThreadParameters(uuid=s.uuid, number=3, parameters={"poll_max_ns": 2000}),
    ),
    "SetBlockIoTune": Case(
        lambda s: ops.SetBlockIoTune(uuid=s.uuid, device="vda", limits={"total_bytes_sec": MIB, "total_bytes_sec_max": 4 * MIB}, scope=CONFIG),
        undo=lambda s: ops.SetBlockIoTune(
            uuid=s.uuid, device="vda", limits={"total_bytes_sec": 2 * MIB, "total_bytes_sec_max": 4 * MIB}, scope=CONFIG
        ),
    ),
    "SetInterfaceParameters": Case(
        lambda s: ops.SetInterfaceParameters(uuid=s.uuid, device=MAC, inbound=ops.Bandwidth(average=MIB), scope=CONFIG),
        undo=lambda s: ops.SetInterfaceParameters(uuid=s.uuid, device=MAC, inbound=ops.Bandwidth(average=2 * MIB), scope=CONFIG),
        devices=NIC,
    ),
    "SetLifecycleAction": Case(
        lambda s: ops.SetLifecycleAction(uuid=s.uuid, event="crash", action="preserve", scope=CONFIG),
        undo=lambda s: ops.SetLifecycleAction(uuid=s.uuid, event="crash", action="destroy", scope=CONFIG),
    ),
    "SetVcpu": Case(
        lambda s: ops.SetVcpu(uuid=s.uuid, vcpus=(2,), enabled=True, scope=CONFIG),
        first=(
            lambda s: ops.SetVcpus(uuid=s.uuid, vcpus=3, maximum=True, scope=CONFIG),
            lambda s: ops.SetVcpus(uuid=s.uuid, vcpus=1, scope=CONFIG),
        ),
        undo=lambda s: ops.SetVcpu(uuid=s.uuid, vcpus=(2,), enabled=False, scope=CONFIG),
    ),
    "SetPerfEvents": Case(
        lambda s: ops.SetPerfEvents(uuid=s.uuid, events={"cpu_clock": True}, scope=CONFIG),
        undo=lambda s: ops.SetPerfEvents(uuid=s.uuid, events={"cpu_clock": False}, scope=CONFIG),
    ),
    "SetSchedulerParameters": Case(
        lambda s: ops.SetSchedulerParameters(uuid=s.uuid, parameters={"cpu_shares": 60}),
        undo=lambda s: ops.SetSchedulerParameters(uuid=s.uuid, parameters={"cpu_shares": 61}),
        unknown_to=frozenset({"test"}),
    ),
    "SetMemoryParameters": Case(
        lambda s: ops.SetMemoryParameters(uuid=s.uuid, limits={"hard_limit": 512 * MIB}, scope=CONFIG),
        undo=lambda s: ops.SetMemoryParameters(uuid=s.uuid, limits={"hard_limit": 0}, scope=CONFIG),
    ),
    "SetNumaParameters": Case(
        lambda s: ops.SetNumaParameters(uuid=s.uuid, mode="interleave", nodes=(0,), scope=CONFIG),
        undo=lambda s: ops.SetNumaParameters(uuid=s.uuid, mode="strict", scope=CONFIG),
    ),
    "SetBlkioParameters": Case(
        lambda s: ops.SetBlkioParameters(
            uuid=s.uuid, weight=300, devices=(BlkioDevice(path="/dev/vda", limits={"read_bytes_sec": MIB}),), scope=CONFIG
        ),
        undo=lambda s: ops.SetBlkioParameters(uuid=s.uuid, weight=400, scope=CONFIG),
    ),
    # The guest's agent.
    "SetGuestVcpus": Case(
        lambda s: ops.SetGuestVcpus(uuid=s.uuid, vcpus=(0,), online=True),
        on="booted",
        shares="agent",
        never=lambda s: ops.SetGuestVcpus(uuid=s.uuid, vcpus=(0,), online=False),
    ),
    "SetAuthorizedSshKeys": Case(
        lambda s: ops.SetAuthorizedSshKeys(uuid=s.uuid, user="root", keys=(KEY,), change="replace"),
        on="booted",
        shares="agent",
        undo=lambda s: ops.SetAuthorizedSshKeys(uuid=s.uuid, user="root", keys=(), change="replace"),
    ),
    # What a call makes.
    "Save": Case(
        _save,
        on="paused",
        counts_what_was_there=False,
        stays_shown=True,
        lost_with=frozenset({"sim"}),
        undo=lambda s: ops.Restore(uuid=s.uuid, name=s.name, path=s.file("save")),
    ),
    "DumpCore": Case(
        lambda s: ops.DumpCore(uuid=s.uuid, path=s.file("core"), overwrite=True),
        on="paused",
        shares="backed up",
        counts_what_was_there=False,
        unknown_to=frozenset({"test"}),
        lost_with=frozenset({"qemu"}),
    ),
    "DefineSaveImage": Case(_image("new"), on="paused", first=(_save,), undo=_image("newer")),
    "DefineManagedSaveImage": Case(_managed_image("new"), on="paused", first=(_managed_save,), undo=_managed_image("newer")),
    "CreateSnapshot": Case(_snapshot, counts_what_was_there=False, undo=lambda s: ops.DeleteSnapshot(uuid=s.uuid, name="s")),
    "DeleteSnapshot": Case(lambda s: ops.DeleteSnapshot(uuid=s.uuid, name="s"), first=(_snapshot,), undo=_snapshot, stays_shown=True),
    "CreateCheckpoint": Case(
        _checkpoint("a"),
        on="paused",
        shares="backed up",
        counts_what_was_there=False,
        undo=lambda s: ops.DeleteCheckpoint(uuid=s.uuid, name="a"),
    ),
    "DeleteCheckpoint": Case(
        lambda s: ops.DeleteCheckpoint(uuid=s.uuid, name="b"),
        on="paused",
        shares="backed up",
        first=(_checkpoint("b"),),
        undo=_checkpoint("b"),
        stays_shown=True,
    ),
    "PullBlock": Case(lambda s: ops.PullBlock(uuid=s.uuid, disk="vda"), on="paused", chained=True),
    "CommitBlock": Case(lambda s: ops.CommitBlock(uuid=s.uuid, disk="vda"), on="paused", chained=True),
    "CopyBlock": Case(_copy, on="paused"),
    "Backup": Case(_backup, on="paused", shares="backed up", counts_what_was_there=False, lost_with=frozenset({"qemu"})),
}
