"""Verbs that only ask the guest: after the call, wait for the event, or for what a slow re-read shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.capabilities import hypervisor_of
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.events import Ear, RawEvent
from virtrpc_drivers.libvirt.runs import Run, given_up

REREAD_SECONDS = 2.0
NO_ID = -1
"""That of a domain that is off, and of any where the hypervisor has none."""

REBOOT_LOOKS = {"xen": 15}
"""How often in a row a domain that was to reboot is seen off until it is said to have shut down instead. Xen's is off while a new one is made."""


@dataclass(frozen=True)
class Question:
    """What was asked of the guest, and how its answer is known. Each raises DriverError for a no."""

    verb: str
    answered_by: Callable[[RawEvent], bool]
    """Whether this event says that the guest did it."""
    hinted_by: Callable[[RawEvent], bool]
    """Whether this event makes a look worth while. It says nothing by itself: it may have been long in coming, and tell of an earlier run."""
    shown_by: Callable[[Any], bool]
    """Whether a look through a connection shows that it did."""


def waits(operation: ops.Operation, active: bool) -> bool:
    """Whether this operation, sent to a domain in this state, is one that only asks."""
    if isinstance(operation, ops.DetachDevice):
        return active and operation.scope is not ops.Scope.CONFIG
    return isinstance(operation, ops.Shutdown | ops.Reboot)


def question(connection: Any, operation: ops.Operation) -> Question | None:
    """What is going to be asked: looked up BEFORE the call. None where the call's return is already the end."""
    domain = connection.lookupByUUIDString(operation.uuid)
    if not domain.isActive() or not waits(operation, active=True):
        return None
    if isinstance(operation, ops.Shutdown):
        return Question("shut down", _never, _stopped, _run_over(operation.uuid, domain.ID()))
    if isinstance(operation, ops.Reboot):
        shown = _new_id(operation.uuid, domain.ID(), REBOOT_LOOKS.get(hypervisor_of(connection), 2))
        return Question("reboot", _rebooted, _started, shown)
    assert isinstance(operation, ops.DetachDevice)
    return _detach_question(domain, operation)


async def wait(run: Run, asked: Question, ear: Ear, lanes: Lanes) -> None:
    """Wait until the guest did it. Raises GUEST_TIMEOUT, ABORTED where the wait was cancelled, or the guest's refusal."""
    try:
        async with asyncio.timeout(run.call.wait_guest):
            while not await _one_look(run, asked, ear, lanes):
                pass
    except TimeoutError:
        raise failure(Reason.GUEST_TIMEOUT, f"the guest did not {asked.verb} within {run.call.wait_guest:g} s") from None


async def _one_look(run: Run, asked: Question, ear: Ear, lanes: Lanes) -> bool:
    if await _heard(run, asked, ear):
        return True
    try:
        return await lanes.reads.bounded(asked.shown_by)
    except (TimeoutError, DriverError) as error:
        if isinstance(error, DriverError) and error.reason is not Reason.HOST_UNREACHABLE and error.fault.libvirt_code is None:
            raise
        return False  # a look that failed says nothing: the next one may


async def _heard(run: Run, asked: Question, ear: Ear) -> bool:
    """Listen for one period, or until a hint. Whether an event said yes."""
    gave_up = run.gave_up
    assert gave_up is not None
    end = asyncio.get_running_loop().time() + REREAD_SECONDS
    while (left := end - asyncio.get_running_loop().time()) > 0:
        event = await _next(ear, gave_up, left)
        if gave_up.done():
            raise given_up(asked.verb)
        if event is None or (run.began is not None and event.stamp.monotonic < run.began):
            continue
        if asked.answered_by(event):
            return True
        if asked.hinted_by(event):
            return False
    return False


async def _next(ear: Ear, gave_up: asyncio.Future[None], seconds: float) -> RawEvent | None:
    listening = asyncio.ensure_future(ear.heard.get())
    try:
        waited: set[asyncio.Future[Any]] = {listening, gave_up}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return listening.result() if listening.done() else None
    finally:
        listening.cancel()


def _stopped(event: RawEvent) -> bool:
    return event.name == "LIFECYCLE" and event.code in (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED)


def _rebooted(event: RawEvent) -> bool:
    return event.name == "REBOOT"


def _started(event: RawEvent) -> bool:
    # Xen has no reboot event: there a reboot is a new guest under the same uuid. A guest that stops has not rebooted.
    return event.name == "LIFECYCLE" and event.code == libvirt.VIR_DOMAIN_EVENT_STARTED


def _never(_event: RawEvent) -> bool:
    return False


def _run_over(uuid: str, old: int) -> Callable[[Any], bool]:
    """Whether the run of a domain with this id is over, be it that it was started again since."""

    def shown(connection: Any) -> bool:
        return _is_off(connection, uuid) or (old != NO_ID and _id(connection, uuid) not in (old, NO_ID))

    return shown


def _id(connection: Any, uuid: str) -> int:
    number: int = connection.lookupByUUIDString(uuid).ID()
    return number


def _is_off(connection: Any, uuid: str) -> bool:
    try:
        return not connection.lookupByUUIDString(uuid).isActive()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return True
        raise


def _new_id(uuid: str, old: int, looks: int) -> Callable[[Any], bool]:
    seen_off = 0

    def shown(connection: Any) -> bool:
        nonlocal seen_off
        if not _is_off(connection, uuid):
            seen_off = 0
            return bool(connection.lookupByUUIDString(uuid).ID() != old)
        seen_off += 1
        if seen_off >= looks:
            raise failure(Reason.FAILED, "the guest shut down instead of rebooting")
        return False

    return shown


def _detach_question(domain: Any, operation: ops.DetachDevice) -> Question | None:
    xml = domain.XMLDesc(0)
    alias = domain_xml.alias_of(xml, operation.xml)
    if alias is None:
        return None

    def answered(event: RawEvent) -> bool:
        if event.name == "DEVICE_REMOVAL_FAILED" and event.text == alias:
            raise failure(Reason.FAILED, f"the guest refused to let the device {alias} go")
        return event.name == "DEVICE_REMOVED" and event.text == alias

    over = _run_over(operation.uuid, domain.ID())

    def shown(connection: Any) -> bool:
        if over(connection):
            return True
        try:
            now = connection.lookupByUUIDString(operation.uuid).XMLDesc(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return True
            raise
        aliases = {element.get("name") for element in ElementTree.fromstring(now).iterfind("devices/*/alias")}
        return alias not in aliases

    return Question("let the device go", answered, _stopped, shown)
