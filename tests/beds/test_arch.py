"""Guests of other architectures: each boots, is asked to go, and does what it is told through a driver process of ours."""

from __future__ import annotations

import uuid as uuids
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.beds.arch import ARCHES, READY, Arch
from tests.beds.daemon import Libvirtd
from tests.beds.domain import make_disk
from tests.beds.wait import wait_until
from tests.drivers.bed import Bed, Kind
from virtrpc_drivers import operations as ops
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.values import State

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(300)]
BOOT_SECONDS = 180


@pytest.fixture(scope="module")
def daemon() -> Iterator[Libvirtd]:
    """A daemon for all of them."""
    with Libvirtd("arches") as started:
        yield started


@pytest.fixture(params=ARCHES, ids=lambda arch: arch.name)
def arch(request: pytest.FixtureRequest) -> Arch:
    """One of the architectures."""
    arch: Arch = request.param
    if reason := arch.missing():
        pytest.skip(reason)
    arch.prepare()
    return arch


class ArchKind(Kind):
    """One architecture as the drivers' tests see it."""

    name = "qemu"

    def __init__(self, daemon: Libvirtd, arch: Arch) -> None:
        self._daemon, self._arch = daemon, arch

    @property
    def uri(self) -> str:
        return self._daemon.uri

    def xml(self, name: str, uuid: str, **_: Any) -> str:
        return self._arch.domain_xml(name, uuid, console_log=self._daemon.console_log(name), disks=[make_disk(self._disk(name))], interface=True)

    def disk_xml(self, name: str) -> str:
        return make_disk(self._disk(f"{name}-b"), target="vdb").xml()

    def _disk(self, name: str) -> Path:
        return self._daemon.path / f"{name}-{self._arch.name}.qcow2"


@pytest.fixture
async def bed(daemon: Libvirtd, arch: Arch) -> AsyncIterator[Bed]:
    """A driver process of ours, connected."""
    opened = await Bed.open(ArchKind(daemon, arch))
    yield opened
    await opened.close()


def booted(daemon: Libvirtd, name: str, boots: int = 1) -> None:
    """Return once a guest has said so often that it is up."""
    log = daemon.console_log(name)
    wait_until(lambda: log.exists() and log.read_text(errors="replace").count(READY) >= boots, f"{name} to boot, see {log}", BOOT_SECONDS)


def test_libvirt_boots_it_and_it_goes_when_asked(daemon: Libvirtd, arch: Arch) -> None:
    """Its console says that it is up, then that it powers off: each machine has a button of its own."""
    name, uuid = f"direct-{arch.name}", str(uuids.uuid4())
    log = daemon.console_log(name)
    daemon.define(arch.domain_xml(name, uuid, console_log=log))
    daemon.virsh("start", name)
    booted(daemon, name)
    daemon.virsh("shutdown", name, "--mode", "acpi")
    wait_until(lambda: daemon.virsh("domstate", name).strip() == "shut off", "the guest to power off", BOOT_SECONDS)
    assert "POWERING-OFF" in log.read_text(errors="replace")
    daemon.virsh("undefine", name)


async def test_a_driver_process_leads_it_through_its_life(bed: Bed) -> None:
    """Started, paused, saved, started from the image, destroyed and forgotten; events tell of it."""
    uuid = await bed.defined()
    mark = len(bed.notices.seen)
    for operation, state in (
        (ops.Start(uuid=uuid), State.RUNNING),
        (ops.Suspend(uuid=uuid), State.PAUSED),
        (ops.Resume(uuid=uuid), State.RUNNING),
        (ops.ManagedSave(uuid=uuid), State.SHUTOFF),
        (ops.Start(uuid=uuid), State.RUNNING),
        (ops.Destroy(uuid=uuid), State.SHUTOFF),
    ):
        await bed.run(operation)
        assert (await bed.state(uuid)).state is state, operation
    await bed.notices.event(uuid, Change.LIFECYCLE, since=mark)
    await bed.clean()
    assert await bed.gone(uuid)
