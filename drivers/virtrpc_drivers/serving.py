"""The answering end of a channel: one driver, whose methods its requests call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from virtrpc_drivers import logs, wire
from virtrpc_drivers.channel import Channel
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.protocol import Driver, DriverSettings

logger = logging.getLogger(__name__)
MakeDriver = Callable[[DriverSettings, Callable[[], None]], Driver]
"""A driver for these settings; it calls the second to have its channel closed, and all that ends with that."""


class Serving:
    """Answers the requests of one channel."""

    def __init__(self, make_driver: MakeDriver, closed: Callable[[], None]) -> None:
        """`closed` is called once nobody asks any more: the driver is left as it is."""
        self.channel = Channel(msgspec.msgpack.Decoder(wire.AnyRequest), self._receive, closed)
        self._make_driver = make_driver
        self._driver: Driver | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _receive(self, request: wire.AnyRequest) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: wire.AnyRequest) -> None:
        bulk = type(request) in wire.BULK
        if isinstance(request, wire.RunCall | wire.ResumeCall):
            logs.call.set(request.call)
        try:
            for body in wire.replies(request.id, await self._ask(request)):
                self.channel.put(body, bulk=bulk)
                if bulk:
                    await asyncio.sleep(0)  # a long answer does not keep cancel requests waiting
        except DriverError as error:
            self.channel.put(wire.refusal(request.id, error.fault))
        except Exception:
            logger.exception("a driver call failed unexpectedly")
            self.channel.put(wire.refusal(request.id, Fault(reason=Reason.INTERNAL, message="the driver failed unexpectedly")))
        if isinstance(request, wire.Close):
            self.channel.finish()

    async def _ask(self, request: wire.AnyRequest) -> object:
        if isinstance(request, wire.Hello):
            logs.DriverFormatter.host = request.settings.host
            self._driver = self._make_driver(request.settings, self.channel.finish)
            await self._driver.start(self.channel.notice)
            return None
        if self._driver is None:
            raise failure(Reason.HOST_UNREACHABLE, "the driver process has not been told what to serve")
        return await dispatch(self._driver, request)


async def dispatch(driver: Driver, request: wire.AnyRequest) -> object:
    """One request as a call of the driver's method."""
    match request:
        case wire.ListDomains():
            return await driver.list()
        case wire.ReadDomains():
            return await driver.read(request.uuids, request.group)
        case wire.SampleDomains():
            return await driver.sample(request.uuids)
        case wire.ReadSaveImage():
            return await driver.save_image(request.path)
        case wire.FollowFiles():
            return await driver.follow(request.files)
        case wire.ReadGuestInfo():
            return await driver.guest_info(request.uuid, request.parts)
        case wire.ReadManagedSaveImage():
            return await driver.managed_save_image(request.uuid)
        case wire.ReadGuestVcpus():
            return await driver.guest_vcpus(request.uuid)
        case wire.ReadAuthorizedSshKeys():
            return await driver.authorized_ssh_keys(request.uuid, request.user)
        case wire.ReadResourceParameters():
            return await driver.resource_parameters(request.uuid, request.scope)
        case wire.ReadDirtyRate():
            return await driver.dirty_rate(request.uuid)
        case wire.TakeScreenshot():
            return await driver.screenshot(request.uuid, request.screen)
        case wire.ReadDomainCapabilities():
            return await driver.domain_capabilities(request.emulator, request.arch, request.machine, request.virt_type)
        case wire.ReadHostStats():
            return await driver.host_stats()
        case wire.ReadPulses():
            return await driver.pulses(request.uuids)
        case wire.RunCall():
            return await driver.run(request.call)
        case wire.ResumeCall():
            return await driver.resume(request.call)
        case wire.CancelCall():
            return await driver.cancel(request.call_id)
        case wire.TuneCall():
            return await driver.tune(request.call_id, request.tuning)
        case wire.AskDeparture():
            return await driver.departure(request.operation)
        case wire.AskArrival():
            return await driver.arrival(request.operation, request.facts, request.uri)
        case wire.SteerCall():
            return await driver.steer(request.call_id, request.steering)
        case wire.Probe():
            await driver.probe(request.uuid)
            return None
        case wire.ListSnapshots():
            return await driver.snapshots(request.uuid)
        case wire.ReadSnapshotXml():
            return await driver.snapshot_xml(request.uuid, request.name)
        case wire.ListCheckpoints():
            return await driver.checkpoints(request.uuid)
        case wire.ReadCheckpointXml():
            return await driver.checkpoint_xml(request.uuid, request.name, size=request.size)
        case wire.ReadCurrentSnapshot():
            return await driver.current_snapshot(request.uuid)
        case wire.Close():
            await driver.close()
            return None
        case wire.Simulate():
            return await _simulate(driver, request.command)
        case _:
            raise failure(Reason.INTERNAL, f"{type(request).__name__} is not a driver call")


async def _simulate(driver: Driver, command: msgspec.Raw) -> object:
    simulate: Any = getattr(driver, "simulate", None)
    if simulate is None:
        raise failure(Reason.UNSUPPORTED, "this driver is not a simulation")
    answer: object = await simulate(command)
    return answer
