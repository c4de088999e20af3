"""QueryService: every answer comes from the cache. Nothing here awaits anything but the transport of a stream,
and between the slices of a long list one turn of the loop for others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpc import aio

from virtrpc.v1 import query_pb2, query_pb2_grpc, types_pb2
from virtrpc_server import devices, metadata, xml_forms
from virtrpc_server.domains import Domains, Entry
from virtrpc_server.hosts import Hosts
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages import stats
from virtrpc_server.messages.common import identity_message
from virtrpc_server.messages.domains import domain_message, full_domain_message
from virtrpc_server.messages.hosts import host_message, host_stats_message, unreachable_message
from virtrpc_server.paging import Key, Page, Pager, Row
from virtrpc_server.policy.actions import SEE_DOMAIN
from virtrpc_server.slices import ROWS
from virtrpc_server.watching import Watches

M = TypeVar("M", bound=Message)
Context = aio.ServicerContext[Any, Any]


class QueryService(query_pb2_grpc.QueryServiceServicer):
    """What is known of domains and hosts, and how fresh it is."""

    def __init__(self, hosts: Hosts, domains: Domains, lookup: Lookup, pager: Pager, watches: Watches) -> None:
        self._hosts = hosts
        self._domains = domains
        self._lookup = lookup
        self._pager = pager
        self._watches = watches
        self._sight = lookup.sight

    async def GetDomain(self, request: query_pb2.GetDomainRequest, context: Context) -> query_pb2.GetDomainResponse:
        """virDomainLookupBy*, virDomainGetState, virDomainGetInfo and the flags."""
        by_id = request.WhichOneof("target") == "host_domain_id"
        entry = self._lookup.by_id(request.host_domain_id) if by_id else self._lookup.domain(request.domain)
        return query_pb2.GetDomainResponse(domain=self._viewed(request.view)(entry))

    async def ListDomains(self, request: query_pb2.ListDomainsRequest, context: Context) -> query_pb2.ListDomainsResponse:
        """virConnectListAllDomains."""
        page = await self._page(request, request.filter, "ListDomains", self._viewed(request.view))
        return query_pb2.ListDomainsResponse(
            domains=page.messages, next_page_token=page.next_page_token, unreachable=self._unreachable(request.filter)
        )

    async def GetDomainXml(self, request: query_pb2.GetDomainXmlRequest, context: Context) -> query_pb2.GetDomainXmlResponse:
        """virDomainGetXMLDesc, without secrets."""
        entry = self._lookup.domain(request.domain)
        return xml_forms.answer(entry, self._hosts[entry.host], inactive=request.inactive, migratable=request.migratable)

    async def GetMetadata(self, request: query_pb2.GetMetadataRequest, context: Context) -> query_pb2.GetMetadataResponse:
        """virDomainGetMetadata, of all kinds at once."""
        entry = self._lookup.domain(request.domain, needs="GetMetadata")
        return metadata.answer(entry, self._hosts[entry.host], inactive=request.inactive, uri=request.uri)

    async def ListVcpus(self, request: query_pb2.ListVcpusRequest, context: Context) -> query_pb2.ListVcpusResponse:
        """virDomainGetVcpus."""
        entry = self._lookup.domain(request.domain, needs="ListVcpus")
        place = self._pager.open(request)
        first = int(place.after[0]) + 1 if place.after is not None else 0
        page = place.cut(((vcpu.number,), stats.vcpu_message(vcpu)) for vcpu in stats.vcpus(entry) if vcpu.number >= first)
        observed = stats.stats_observation(entry, self._hosts[entry.host], entry.stats.vcpus)
        return query_pb2.ListVcpusResponse(
            domain=identity_message(entry), observation=observed, vcpus=page.messages, next_page_token=page.next_page_token
        )

    async def GetBlockStats(self, request: query_pb2.GetBlockStatsRequest, context: Context) -> query_pb2.GetBlockStatsResponse:
        """virDomainBlockStatsFlags."""
        entry = self._lookup.domain(request.domain, needs="GetBlockStats")
        chosen = devices.disks(entry, request.device)
        message = stats.block_message(entry, self._hosts[entry.host], chosen)
        return query_pb2.GetBlockStatsResponse(domain=identity_message(entry), stats=message)

    async def GetInterfaceStats(self, request: query_pb2.GetInterfaceStatsRequest, context: Context) -> query_pb2.GetInterfaceStatsResponse:
        """virDomainInterfaceStats."""
        entry = self._lookup.domain(request.domain, needs="GetInterfaceStats")
        chosen = devices.interfaces(entry, request.device)
        message = stats.interface_message(entry, self._hosts[entry.host], chosen)
        return query_pb2.GetInterfaceStatsResponse(domain=identity_message(entry), stats=message)

    async def GetMemoryStats(self, request: query_pb2.GetMemoryStatsRequest, context: Context) -> query_pb2.GetMemoryStatsResponse:
        """virDomainMemoryStats."""
        entry = self._lookup.domain(request.domain, needs="GetMemoryStats")
        return query_pb2.GetMemoryStatsResponse(domain=identity_message(entry), stats=stats.memory_message(entry, self._hosts[entry.host]))

    async def ListDomainStats(self, request: query_pb2.ListDomainStatsRequest, context: Context) -> query_pb2.ListDomainStatsResponse:
        """virConnectGetAllDomainStats."""
        groups = stats.ALL_GROUPS & set(request.groups) or stats.ALL_GROUPS
        page = await self._page(
            request, request.filter, "ListDomainStats", lambda entry: stats.domain_stats_message(entry, self._hosts[entry.host], groups)
        )
        return query_pb2.ListDomainStatsResponse(
            stats=page.messages, next_page_token=page.next_page_token, unreachable=self._unreachable(request.filter)
        )

    def WatchDomains(self, request: query_pb2.WatchDomainsRequest, context: Context) -> AsyncIterator[query_pb2.WatchDomainsResponse]:
        """virConnectDomainEventRegisterAny."""
        return self._watches.domains(request)  # type: ignore[return-value]  # the transport takes bytes

    async def ListHosts(self, request: query_pb2.ListHostsRequest, context: Context) -> query_pb2.ListHostsResponse:
        """The configured hosts."""
        place = self._pager.open(request)
        after = str(place.after[0]) if place.after is not None else ""
        hosts = sorted((host for host in self._hosts if host.name > after and self._sight.sees_host(host.name)), key=lambda host: host.name)
        seen = {host.name: await self._sight.counted(host.name) for host in hosts}
        page = place.cut(((host.name,), host_message(host, seen[host.name])) for host in hosts)
        return query_pb2.ListHostsResponse(hosts=page.messages, next_page_token=page.next_page_token)

    async def GetHost(self, request: query_pb2.GetHostRequest, context: Context) -> query_pb2.GetHostResponse:
        """virNodeGetInfo, virConnectGetCapabilities and what the driver says of its hypervisor."""
        host = self._lookup.host(request.host)
        seen = await self._sight.counted(host.name)
        message = host_message(host, seen, verbs=True, capabilities=request.include_capabilities_xml, sysinfo=request.include_sysinfo_xml)
        return query_pb2.GetHostResponse(host=message)

    async def GetHostStats(self, request: query_pb2.GetHostStatsRequest, context: Context) -> query_pb2.GetHostStatsResponse:
        """virNodeGetCPUStats and virNodeGetMemoryStats."""
        host = self._lookup.host(request.host)
        host.require("GetHostStats")
        return query_pb2.GetHostStatsResponse(host=host.name, stats=host_stats_message(host))

    def _viewed(self, view: types_pb2.DomainView.ValueType) -> Callable[[Entry], types_pb2.Domain]:
        message = full_domain_message if view == types_pb2.DOMAIN_VIEW_FULL else domain_message
        return lambda entry: message(entry, self._hosts[entry.host])

    async def _page(self, request: Message, wanted: types_pb2.DomainFilter, rpc: str, message: Callable[[Entry], M]) -> Page[M]:
        fits = self._lookup.fitting(wanted, rpc)
        place = self._pager.open(request)

        def rows(after: Key | None) -> Iterator[Row[M]]:
            for key in self._domains.order.after(after):
                entry = self._domains.get((key[0], key[2]))
                yield key, message(entry) if entry is not None and fits(entry) else None

        async def ready(after: Key | None) -> None:
            if self._sight.policed:
                next_ones = [self._domains.get((key[0], key[2])) for key in islice(self._domains.order.after(after), ROWS)]
                await self._sight.learn([self._sight.resource(entry) for entry in next_ones if entry is not None], SEE_DOMAIN, rpc)

        return await place.cut_long(rows, ready)

    def _unreachable(self, wanted: types_pb2.DomainFilter) -> Sequence[types_pb2.UnreachableHost]:
        return [unreachable_message(host) for host in self._lookup.unreachable(wanted.hosts)]
