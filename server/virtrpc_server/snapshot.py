"""SnapshotService: reads that wait for the hypervisor and hold nobody up, and the two deletions, which are jobs where the driver says so."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from grpc import aio

from virtrpc.v1 import snapshot_pb2, snapshot_pb2_grpc, types_pb2
from virtrpc_drivers.values import Snapshot
from virtrpc_server.acceptance import Acceptance, Context
from virtrpc_server.checkpoints import Checkpoints
from virtrpc_server.domains import Entry
from virtrpc_server.errors import refuse
from virtrpc_server.hosts import Hosts
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.common import duration, identity_message, numbers
from virtrpc_server.messages.guest import PARTS, guest_info_message
from virtrpc_server.messages.resources import resource_parameters_message
from virtrpc_server.messages.snapshots import snapshot_message
from virtrpc_server.orders import lifecycle, snapshots
from virtrpc_server.orders.agent import user_of
from virtrpc_server.orders.common import invalid
from virtrpc_server.orders.files import path_of
from virtrpc_server.orders.resources import asked_scope
from virtrpc_server.paging import Pager
from virtrpc_server.planning import Plans
from virtrpc_server.policy.using import Files
from virtrpc_server.slow import SlowReads
from virtrpc_server.snapshot_filter import chosen

MAX_SCREEN = 255
Unary = aio.ServicerContext[Any, Any]


class SnapshotService(snapshot_pb2_grpc.SnapshotServiceServicer):
    """What is known of a domain's snapshots, asked of the hypervisor each time."""

    def __init__(self, hosts: Hosts, lookup: Lookup, acceptance: Acceptance, slow: SlowReads, pager: Pager, plans: Plans, files: Files) -> None:
        self._hosts = hosts
        self._files = files
        self._lookup = lookup
        self._accept = acceptance
        self._slow = slow
        self._pager = pager
        self._plans = plans
        self._checkpoints = Checkpoints(hosts, lookup, slow, pager)

    async def ListSnapshots(self, request: snapshot_pb2.ListSnapshotsRequest, context: Unary) -> snapshot_pb2.ListSnapshotsResponse:
        """virDomainListAllSnapshots and virDomainSnapshotListAllChildren."""
        entry, snapshots, observed = await self._all(request.domain, "ListSnapshots")
        if request.parent:
            _find(snapshots, request.parent, entry)
        fitting = chosen(snapshots, request)
        place = self._pager.open(request)
        # After a name, not after a number: the list may change between two pages.
        after = str(place.after[0]) if place.after is not None else ""
        rows = (((found.name,), snapshot_message(found, identity_message(entry), observed)) for found in fitting if found.name > after)
        page = place.cut(rows)
        return snapshot_pb2.ListSnapshotsResponse(snapshots=page.messages, next_page_token=page.next_page_token, total_size=len(fitting))

    async def GetSnapshot(self, request: snapshot_pb2.GetSnapshotRequest, context: Unary) -> snapshot_pb2.GetSnapshotResponse:
        """virDomainSnapshotLookupByName and what hangs on it."""
        entry, snapshots, observed = await self._all(request.domain, "GetSnapshot")
        snapshot = _find(snapshots, request.name, entry)
        return snapshot_pb2.GetSnapshotResponse(snapshot=snapshot_message(snapshot, identity_message(entry), observed))

    async def GetSnapshotXml(self, request: snapshot_pb2.GetSnapshotXmlRequest, context: Unary) -> snapshot_pb2.GetSnapshotXmlResponse:
        """virDomainSnapshotGetXMLDesc, without secrets."""
        entry, snapshots, observed = await self._all(request.domain, "GetSnapshotXml")
        snapshot = _find(snapshots, request.name, entry)
        xml = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.snapshot_xml(entry.uuid, request.name))
        message = snapshot_message(snapshot, identity_message(entry), observed)
        return snapshot_pb2.GetSnapshotXmlResponse(snapshot=message, xml=xml)

    async def GetCurrentSnapshot(self, request: snapshot_pb2.GetCurrentSnapshotRequest, context: Unary) -> snapshot_pb2.GetCurrentSnapshotResponse:
        """virDomainSnapshotCurrent; NOT_FOUND where there is none."""
        entry, snapshots, observed = await self._all(request.domain, "GetCurrentSnapshot")
        current = next((snapshot for snapshot in snapshots if snapshot.current), None)
        if current is None:
            raise refuse("SNAPSHOT_NOT_FOUND", f"domain {entry.name} has no current snapshot", domain=entry.uuid, host=entry.host)
        return snapshot_pb2.GetCurrentSnapshotResponse(snapshot=snapshot_message(current, identity_message(entry), observed))

    def DeleteSnapshot(self, request: snapshot_pb2.DeleteSnapshotRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSnapshotDelete."""
        return self._accept.existing(request, context, snapshots.delete_snapshot)

    def RemoveManagedSave(self, request: snapshot_pb2.RemoveManagedSaveRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainManagedSaveRemove."""
        return self._accept.existing(request, context, lifecycle.remove_managed_save)

    async def ListCheckpoints(self, request: snapshot_pb2.ListCheckpointsRequest, context: Unary) -> snapshot_pb2.ListCheckpointsResponse:
        """virDomainListAllCheckpoints and virDomainCheckpointListAllChildren."""
        return await self._checkpoints.list(request)

    async def GetCheckpoint(self, request: snapshot_pb2.GetCheckpointRequest, context: Unary) -> snapshot_pb2.GetCheckpointResponse:
        """virDomainCheckpointLookupByName and what hangs on it."""
        return snapshot_pb2.GetCheckpointResponse(checkpoint=await self._checkpoints.get(request))

    async def GetCheckpointXml(self, request: snapshot_pb2.GetCheckpointXmlRequest, context: Unary) -> snapshot_pb2.GetCheckpointXmlResponse:
        """virDomainCheckpointGetXMLDesc, without secrets."""
        return await self._checkpoints.xml(request)

    async def GetGuestInfo(self, request: snapshot_pb2.GetGuestInfoRequest, context: Unary) -> snapshot_pb2.GetGuestInfoResponse:
        """virDomainGetGuestInfo and its elders: asks the guest's agent."""
        entry = self._lookup.domain(request.domain, needs="GetGuestInfo")
        parts = [part for part, number in PARTS.items() if number in request.parts or not request.parts]
        info = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.guest_info(entry.uuid, parts))
        return guest_info_message(entry, info)

    async def TakeScreenshot(self, request: snapshot_pb2.TakeScreenshotRequest, context: Unary) -> AsyncIterator[snapshot_pb2.TakeScreenshotResponse]:
        """virDomainScreenshot."""
        entry = self._lookup.domain(request.domain, needs="TakeScreenshot")
        if not 0 <= request.screen_number <= MAX_SCREEN:
            raise invalid("screen_number", f"must be 0 to {MAX_SCREEN}")
        picture = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.screenshot(entry.uuid, request.screen_number))
        size = sum(map(len, picture.pieces))
        yield snapshot_pb2.TakeScreenshotResponse(mime_type=picture.mime_type, total_bytes=size)
        for piece in picture.pieces:
            yield snapshot_pb2.TakeScreenshotResponse(data=piece)

    async def GetDomainCapabilities(
        self, request: snapshot_pb2.GetDomainCapabilitiesRequest, context: Unary
    ) -> snapshot_pb2.GetDomainCapabilitiesResponse:
        """virConnectGetDomainCapabilities."""
        host = self._lookup.host(request.host)
        host.require("GetDomainCapabilities")
        wanted = (request.emulator, request.arch, request.machine, request.virt_type)
        xml = await self._slow.ask_host(host, lambda: host.driver.domain_capabilities(*wanted))
        return snapshot_pb2.GetDomainCapabilitiesResponse(host=host.name, xml=xml)

    async def GetSaveImage(self, request: snapshot_pb2.GetSaveImageRequest, context: Unary) -> snapshot_pb2.GetSaveImageResponse:
        """virDomainSaveImageGetXMLDesc, without secrets."""
        host = self._lookup.host(request.host)
        host.require("GetSaveImage")
        path = path_of(request.path)
        await self._files.check_read(host.name, path)
        image = await self._slow.ask_host(host, lambda: host.driver.save_image(path))
        self._lookup.check_named(host.name, image.uuid, image.name)
        identity = types_pb2.DomainIdentity(host=host.name, uuid=image.uuid, name=image.name)
        return snapshot_pb2.GetSaveImageResponse(domain=identity, xml=image.xml)

    async def GetManagedSaveImage(self, request: snapshot_pb2.GetManagedSaveImageRequest, context: Unary) -> snapshot_pb2.GetManagedSaveImageResponse:
        """virDomainManagedSaveGetXMLDesc, without secrets."""
        entry = self._lookup.domain(request.domain, needs="GetManagedSaveImage")
        image = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.managed_save_image(entry.uuid))
        return snapshot_pb2.GetManagedSaveImageResponse(domain=identity_message(entry), xml=image.xml)

    async def GetGuestVcpus(self, request: snapshot_pb2.GetGuestVcpusRequest, context: Unary) -> snapshot_pb2.GetGuestVcpusResponse:
        """virDomainGetGuestVcpus: asks the guest's agent."""
        entry = self._lookup.domain(request.domain, needs="GetGuestVcpus")
        told = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.guest_vcpus(entry.uuid))
        vcpus = [snapshot_pb2.GuestVcpu(number=vcpu.number, online=vcpu.online, offlinable=vcpu.offlinable) for vcpu in told]
        return snapshot_pb2.GetGuestVcpusResponse(domain=identity_message(entry), vcpus=vcpus)

    async def GetAuthorizedSshKeys(
        self, request: snapshot_pb2.GetAuthorizedSshKeysRequest, context: Unary
    ) -> snapshot_pb2.GetAuthorizedSshKeysResponse:
        """virDomainAuthorizedSSHKeysGet: asks the guest's agent."""
        entry = self._lookup.domain(request.domain, needs="GetAuthorizedSshKeys")
        user = user_of(request.user)
        keys = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.authorized_ssh_keys(entry.uuid, user))
        return snapshot_pb2.GetAuthorizedSshKeysResponse(domain=identity_message(entry), keys=keys)

    async def GetResourceParameters(
        self, request: snapshot_pb2.GetResourceParametersRequest, context: Unary
    ) -> snapshot_pb2.GetResourceParametersResponse:
        """virDomainGetSchedulerParametersFlags, GetMemoryParameters, GetNumaParameters, GetBlkioParameters."""
        entry, scope = self._lookup.domain(request.domain, needs="GetResourceParameters"), asked_scope(request.scope)
        found = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.resource_parameters(entry.uuid, scope))
        return resource_parameters_message(entry, found)

    async def GetDirtyRate(self, request: snapshot_pb2.GetDirtyRateRequest, context: Unary) -> snapshot_pb2.GetDirtyRateResponse:
        """virDomainListGetStats, of the one group."""
        entry = self._lookup.domain(request.domain, needs="GetDirtyRate")
        told = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.dirty_rate(entry.uuid))
        measured = numbers(dirty_bytes_per_second=told.bytes_per_second)
        return snapshot_pb2.GetDirtyRateResponse(domain=identity_message(entry), measuring=told.measuring, period=duration(told.seconds), **measured)

    async def PlanMigration(self, request: snapshot_pb2.PlanMigrationRequest, context: Unary) -> snapshot_pb2.PlanMigrationResponse:
        """libvirt has no call of its own for it: what can be read at either end."""
        entry = self._lookup.domain(request.domain, needs="PlanMigration")
        return await self._plans.plan(entry, request.settings)

    async def _all(self, ref: types_pb2.DomainRef, rpc: str) -> tuple[Entry, tuple[Snapshot, ...], float]:
        entry = self._lookup.domain(ref, needs=rpc)
        began = time.time()
        answer = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.snapshots(entry.uuid))
        return entry, answer.snapshots, began


def _find(snapshots: tuple[Snapshot, ...], name: str, entry: Entry) -> Snapshot:
    for snapshot in snapshots:
        if snapshot.name == name:
            return snapshot
    raise refuse("SNAPSHOT_NOT_FOUND", f"domain {entry.name} has no snapshot {name!r}", snapshot=name, domain=entry.uuid, host=entry.host)
