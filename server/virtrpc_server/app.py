"""The composition root: everything that makes up a server is built here, and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from virtrpc.v1 import job_pb2_grpc, query_pb2_grpc, snapshot_pb2_grpc
from virtrpc_drivers.protocol import Driver, DriverSettings
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_server import admin, tracing
from virtrpc_server.acceptance import Acceptance
from virtrpc_server.budgets import Budgets
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.job import JobService
from virtrpc_server.jobs import Jobs
from virtrpc_server.lag import Lag
from virtrpc_server.lookup import Lookup
from virtrpc_server.migration import Migrations
from virtrpc_server.paging import Pager
from virtrpc_server.query import QueryService
from virtrpc_server.settings import HostSettings, Settings
from virtrpc_server.slow import SlowReads
from virtrpc_server.snapshot import SnapshotService
from virtrpc_server.store import MemoryStore, Store
from virtrpc_server.transport import Transport
from virtrpc_server.watching import Watches

log = logging.getLogger(__name__)

DriverFactory = Callable[[DriverSettings], Driver]


class App:
    """A server: its hosts, its jobs, its services and where they listen. Made inside the running loop."""

    def __init__(self, settings: Settings, make_driver: DriverFactory = ProcessDriver, store: Store | None = None) -> None:
        self.settings = settings
        self.lag = Lag(settings.lag_warning)
        # Generations of a later server must not look like those of an earlier one.
        self.domains = Domains(generation=int(time.time() * 1000))
        budgets = Budgets()
        self.hosts = Hosts([_host(host, settings, make_driver, self.domains, budgets) for host in settings.hosts])
        self.jobs = Jobs(self.hosts, self.domains, store or MemoryStore())
        self.transport = Transport(settings.socket, settings.listen, insecure=settings.insecure, hosts=[host.name for host in self.hosts])
        self._add_services()

    def _add_services(self) -> None:
        lookup = Lookup(self.hosts, self.domains)
        pager = Pager()
        acceptance = Acceptance(self.jobs, lookup)
        watches = Watches(self.hosts, self.domains, self.jobs, lookup, heartbeat=self.settings.heartbeat)
        migrations = Migrations(self.hosts, self.settings.migration_schemes)
        server = self.transport.server
        query_pb2_grpc.add_QueryServiceServicer_to_server(QueryService(self.hosts, self.domains, lookup, pager, watches), server)
        job_pb2_grpc.add_JobServiceServicer_to_server(JobService(self.jobs, lookup, acceptance, migrations, pager, watches), server)
        snapshots = SnapshotService(self.hosts, lookup, acceptance, SlowReads(self.hosts), pager)
        snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(snapshots, server)

    async def start(self) -> None:
        """Begin to reach the hosts, and listen. Raises ListenError."""
        self.lag.start()
        for host in self.hosts:
            await host.start(self.jobs.report, self._connection_changed, tracing.export)
        await self.transport.start()

    async def drain(self) -> None:
        """Take nothing new, let running jobs end for `drain_timeout` seconds, then end the streams; cancels nothing."""
        self.transport.set_draining()
        await self.jobs.drain(self.settings.drain_timeout)
        await self.transport.drain(1.0)

    async def stop(self) -> None:
        """End at once; what runs at the hypervisors goes on."""
        self.jobs.draining = True
        await self.transport.stop()
        await self.jobs.close()
        await asyncio.gather(*(host.close() for host in self.hosts))
        self.lag.stop()
        log.info("the event loop was late by %s", self.lag.read())

    def _connection_changed(self, host: Host) -> None:
        self.transport.set_host(host.name, serving=host.connected and host.listed)
        self.domains.feed.nudge()
        self.jobs.feed.nudge()


def _host(settings: HostSettings, server: Settings, make_driver: DriverFactory, domains: Domains, budgets: Budgets) -> Host:
    driver = make_driver(
        DriverSettings(
            uri=settings.uri,
            read_only=settings.read_only,
            path_roots=server.roots_of(settings),
            process=_process_number(),
            tracing=server.tracing != "none",
            # Migrations has judged every destination before the driver sees it.
            migration_schemes=(),
        )
    )
    config = HostConfig(
        name=settings.name,
        uri=settings.uri,
        read_only=settings.read_only,
        migrations=settings.migrations,
        saves=settings.saves,
        workers=settings.workers,
        audit_seconds=settings.audit_seconds,
        sample_seconds=settings.sample_seconds,
        migration_uri=settings.migration_uri,
    )
    return Host(config, driver, domains, budgets, read_workers=lambda: admin.min_workers(settings.uri, read_only=settings.read_only))


def _process_number() -> int:
    # Stamps of a later server must be newer than those of an earlier one, whose journal may hold them.
    return int(time.time()) * 1000


def build(settings: Settings) -> App:
    """A server with these settings."""
    return App(settings)
