"""What the drivers' tests stand on: a driver, what it said, and domains that a test makes and leaves no trace of."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid as uuids
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.beds.domain import domain_xml, make_disk
from tests.beds.embed import EmbedRoot
from tests.beds.sim_daemon import SimDaemon
from tests.beds.wait import wait_for_console
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import AnyNotice, Call, Change, DomainChanged, Driver, DriverSettings, HostUp
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.values import DomainConfig, DomainState, Group, HostInfo, Missing, Outcome

GUARD = 60.0
"""Seconds after which a wait is called a hang."""
SIM = "sim:///?running=1&save_seconds=1&progress_seconds=0.02"
Notice = TypeVar("Notice", bound=AnyNotice)
_numbers = itertools.count(1)


class Notices:
    """Everything that a driver said, in order."""

    def __init__(self) -> None:
        self.seen: list[AnyNotice] = []
        self._changed = asyncio.Event()

    def __call__(self, notice: AnyNotice) -> None:
        self.seen.append(notice)
        self._changed.set()

    def since(self, mark: int, kind: type[Notice]) -> list[Notice]:
        """What was said of a kind after `mark` notices."""
        return [notice for notice in self.seen[mark:] if isinstance(notice, kind)]

    async def until(self, kind: type[Notice], fits: Callable[[Notice], bool] = lambda _: True, since: int = 0) -> Notice:
        """The first notice of a kind that fits; waits for it."""
        async with asyncio.timeout(GUARD):
            while True:
                self._changed.clear()
                found = next((notice for notice in self.since(since, kind) if fits(notice)), None)
                if found is not None:
                    return found
                await self._changed.wait()

    async def event(self, uuid: str, change: Change, since: int = 0) -> DomainChanged:
        """An event of a domain; waits for it."""
        return await self.until(DomainChanged, lambda event: (event.uuid, event.change) == (uuid, change), since)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a condition holds, asking again and again."""
    try:
        async with asyncio.timeout(GUARD):
            while not await condition():  # noqa: ASYNC110 - what it asks is on the other side of a driver
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"gave up waiting: {what}") from None


def call_of(operation: ops.AnyOperation, *, began: float | None = None, **fields: Any) -> Call:
    """A call with an id of its own, begun now unless another wall time is given."""
    return Call(id=f"call-{next(_numbers)}", operation=operation, began=time.time() if began is None else began, **fields)


class Kind:
    """A hypervisor, and how its definitions look."""

    name = "sim"
    outlives = False
    can_foreign = True

    def driver(self, **settings: Any) -> Driver:
        """A driver for it, not started."""
        return ProcessDriver(DriverSettings(uri=self.uri, **settings))

    @property
    def uri(self) -> str:
        """What to connect to."""
        return SIM

    def xml(self, name: str, uuid: str, **_: Any) -> str:
        """A definition that it takes."""
        return (
            f"<domain type='{self.name}'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory>"
            "<currentMemory unit='MiB'>128</currentMemory><vcpu>1</vcpu><os><type>hvm</type></os>"
            "<devices><disk type='file' device='disk'><source file='/nowhere/a.img'/><target dev='vda' bus='virtio'/></disk>"
            "<memballoon model='virtio'/></devices></domain>"
        )

    def disk_xml(self, name: str) -> str:
        """A device to attach, with the target vdb."""
        return f"<disk type='file' device='disk'><source file='/nowhere/{name}.img'/><target dev='vdb' bus='virtio'/></disk>"

    async def booted(self, name: str) -> None:
        """Wait until a started guest listens to its power button and its agent answers."""

    async def filled(self, name: str) -> None:
        """Wait until a guest has filled its memory, so that a save of it takes long."""

    def close(self) -> None:
        """Remove what it left."""


class SimInProcess(Kind):
    """The simulated hypervisor in this process."""

    outlives = True

    def driver(self, **settings: Any) -> Driver:
        return SimDriver(DriverSettings(uri=self.uri, **settings))


class SimInDaemon(Kind):
    """The simulated hypervisor in a process of its own, behind a driver process."""

    outlives = True

    def __init__(self) -> None:
        self.daemon = SimDaemon()
        self.daemon.start()

    @property
    def uri(self) -> str:
        return self.daemon.uri("", running=1, save_seconds=1, progress_seconds=0.02)

    def close(self) -> None:
        self.daemon.close()


class LibvirtTest(Kind):
    """libvirt's own mock."""

    name = "test"
    can_foreign = False

    @property
    def uri(self) -> str:
        return "test:///default"


class Embed(Kind):
    """QEMU inside the driver process."""

    name = "qemu"
    can_foreign = False

    def __init__(self) -> None:
        self.root = EmbedRoot()

    @property
    def uri(self) -> str:
        return self.root.uri

    def xml(self, name: str, uuid: str, *, fill_mib: int = 0, **_: Any) -> str:
        memory = max(256, 2 * fill_mib)
        disk = make_disk(self.root.path / f"{name}.qcow2")
        log = self.root.console_log(name)
        return domain_xml(name, uuid=uuid, console_log=log, memory_mib=memory, current_memory_mib=memory // 2 if not fill_mib else memory,
                          fill_mib=fill_mib, disks=[disk])  # fmt: skip

    def disk_xml(self, name: str) -> str:
        return make_disk(Path(self.root.path) / f"{name}-b.qcow2", target="vdb").xml()

    async def booted(self, name: str) -> None:
        # Measured, with a dozen others that start beside it: 14 s at a load of 15, 58 s at 25.
        await asyncio.to_thread(wait_for_console, self.root.console_log(name), "READY", 280)

    async def filled(self, name: str) -> None:
        await asyncio.to_thread(wait_for_console, self.root.console_log(name), "FILLED")

    def close(self) -> None:
        self.root.close()


KINDS: dict[str, type[Kind]] = {"sim": SimInProcess, "sim-process": Kind, "sim-daemon": SimInDaemon, "test": LibvirtTest, "embed": Embed}


@dataclass
class Bed:
    """A driver under test, connected."""

    kind: Kind
    driver: Driver
    notices: Notices
    info: HostInfo
    made: list[str] = field(default_factory=list)

    @classmethod
    async def open(cls, kind: Kind, **settings: Any) -> Bed:
        """Start a driver and wait until its host is up."""
        driver, notices = kind.driver(**settings), Notices()
        await driver.start(notices)
        up = await notices.until(HostUp)
        return cls(kind, driver, notices, up.info)

    def need(self, *verbs: str) -> None:
        """Skip the test where the hypervisor's table lacks one of the verbs."""
        for verb in verbs:
            row = self.info.support(verb)
            if row is None or not row.supported:
                pytest.skip(f"{self.info.hypervisor} has no {verb}")

    async def run(self, operation: ops.AnyOperation) -> Outcome:
        """Run an operation to its end."""
        async with asyncio.timeout(GUARD):
            return await self.driver.run(call_of(operation))

    async def refused(self, operation: ops.AnyOperation) -> Reason:
        """Run an operation that must fail; says why it did."""
        with pytest.raises(DriverError) as caught:
            await self.run(operation)
        return caught.value.reason

    def new(self, **kind: Any) -> tuple[str, str, str]:
        """uuid, name and XML of a domain that nobody has."""
        uuid, name = str(uuids.uuid4()), f"made-{next(_numbers)}"
        self.made.append(uuid)
        return uuid, name, self.kind.xml(name, uuid, **kind)

    async def defined(self, **kind: Any) -> str:
        """The uuid of a new domain, off."""
        uuid, name, xml = self.new(**kind)
        await self.run(ops.Define(uuid=uuid, name=name, xml=xml))
        return uuid

    async def started(self, **kind: Any) -> str:
        """The uuid of a new domain, running."""
        uuid = await self.defined(**kind)
        await self.run(ops.Start(uuid=uuid))
        return uuid

    async def booted(self) -> str:
        """The uuid of a new domain whose guest is up."""
        uuid = await self.started()
        await self.kind.booted((await self.config(uuid)).name)
        return uuid

    async def state(self, uuid: str) -> DomainState:
        """A domain's state, read now."""
        reading = (await self.driver.read([uuid], Group.STATE)).found[0].state
        assert reading is not None
        return reading

    async def config(self, uuid: str) -> Named:
        """A domain's configuration, read now."""
        reading = (await self.driver.read([uuid], Group.CONFIG)).found[0]
        assert reading.config is not None
        return Named(reading.name, reading.config)

    async def gone(self, uuid: str) -> bool:
        """Whether the hypervisor says that there is no such domain."""
        return [type(item) for item in (await self.driver.read([uuid], Group.STATE)).missing] == [Missing]

    async def clean(self) -> None:
        """Remove what the test made."""
        for uuid in self.made:
            for operation in (
                ops.Destroy(uuid=uuid),
                ops.Undefine(uuid=uuid, managed_save=True, snapshots_metadata=True),
            ):
                try:
                    await self.run(operation)
                except DriverError:
                    pass  # it was off, or gone, already
        self.made.clear()

    async def close(self) -> None:
        """Close the driver and remove what it left."""
        await self.driver.close()
        self.kind.close()


@dataclass(frozen=True)
class Named:
    """A configuration and the name that came with it."""

    name: str
    config: DomainConfig
