"""Reads of checkpoints: asked of the hypervisor each time, on behalf of SnapshotService."""

from __future__ import annotations

import time

from virtrpc.v1 import snapshot_pb2, types_pb2
from virtrpc_drivers.values import Checkpoint
from virtrpc_server.domains import Entry
from virtrpc_server.errors import refuse
from virtrpc_server.hosts import Hosts
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.checkpoints import checkpoint_message
from virtrpc_server.messages.common import identity_message
from virtrpc_server.paging import Pager
from virtrpc_server.slow import SlowReads
from virtrpc_server.snapshot_filter import below

Found = tuple[Entry, tuple[Checkpoint, ...], float]


class Checkpoints:
    """What is known of a domain's checkpoints."""

    def __init__(self, hosts: Hosts, lookup: Lookup, slow: SlowReads, pager: Pager) -> None:
        self._hosts = hosts
        self._lookup = lookup
        self._slow = slow
        self._pager = pager

    async def list(self, request: snapshot_pb2.ListCheckpointsRequest) -> snapshot_pb2.ListCheckpointsResponse:
        """Those that fit, in order of name."""
        entry, checkpoints, observed = await self._all(request.domain, "ListCheckpoints")
        if request.parent:
            _find(checkpoints, request.parent, entry)
        names = below(checkpoints, request.parent, deep=request.descendants) if request.parent else {found.name for found in checkpoints}
        fitting = sorted((found for found in checkpoints if found.name in names), key=lambda found: found.name)
        place = self._pager.open(request)
        after = str(place.after[0]) if place.after is not None else ""
        rows = (((found.name,), checkpoint_message(found, identity_message(entry), observed)) for found in fitting if found.name > after)
        page = place.cut(rows)
        return snapshot_pb2.ListCheckpointsResponse(checkpoints=page.messages, next_page_token=page.next_page_token, total_size=len(fitting))

    async def get(self, request: snapshot_pb2.GetCheckpointRequest) -> types_pb2.Checkpoint:
        """One by its name."""
        entry, checkpoints, observed = await self._all(request.domain, "GetCheckpoint")
        return checkpoint_message(_find(checkpoints, request.name, entry), identity_message(entry), observed)

    async def xml(self, request: snapshot_pb2.GetCheckpointXmlRequest) -> snapshot_pb2.GetCheckpointXmlResponse:
        """One with its XML."""
        entry, checkpoints, observed = await self._all(request.domain, "GetCheckpointXml")
        found = _find(checkpoints, request.name, entry)
        driver = self._hosts[entry.host].driver
        xml = await self._slow.ask(entry, lambda: driver.checkpoint_xml(entry.uuid, request.name, size=request.size))
        return snapshot_pb2.GetCheckpointXmlResponse(checkpoint=checkpoint_message(found, identity_message(entry), observed), xml=xml)

    async def _all(self, ref: types_pb2.DomainRef, rpc: str) -> Found:
        entry = self._lookup.domain(ref, needs=rpc)
        began = time.time()
        answer = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.checkpoints(entry.uuid))
        return entry, answer.checkpoints, began


def _find(checkpoints: tuple[Checkpoint, ...], name: str, entry: Entry) -> Checkpoint:
    for checkpoint in checkpoints:
        if checkpoint.name == name:
            return checkpoint
    raise refuse("CHECKPOINT_NOT_FOUND", f"domain {entry.name} has no checkpoint {name!r}", checkpoint=name, domain=entry.uuid, host=entry.host)
