"""A server below its transport: its hosts, its jobs and its services. Everything but the transport is put together here, and nowhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from grpc import aio

from virtrpc.v1 import job_pb2_grpc, query_pb2_grpc, snapshot_pb2_grpc
from virtrpc_drivers.protocol import Driver, DriverSettings
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_server import admin, tracing
from virtrpc_server.acceptance import Acceptance
from virtrpc_server.budgets import Budgets
from virtrpc_server.domains import Domains
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.history import Retention
from virtrpc_server.host_files import HostFiles
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.job import JobService
from virtrpc_server.jobs import Ends, Jobs
from virtrpc_server.lookup import Lookup
from virtrpc_server.migration import Migrations
from virtrpc_server.paging import Pager
from virtrpc_server.planning import Plans
from virtrpc_server.policy.again import Again
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.policy.leave import Leave, nothing_comes
from virtrpc_server.policy.sight import Sight
from virtrpc_server.policy.using import Files
from virtrpc_server.query import QueryService
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings
from virtrpc_server.slow import SlowReads
from virtrpc_server.snapshot import SnapshotService
from virtrpc_server.store import MemoryStore, Store
from virtrpc_server.watching import Watches

DriverFactory = Callable[[DriverSettings], Driver]


class Core:
    """The hosts, the jobs and the services of one server. Made inside the running loop; `clock` gives wall time in seconds."""

    def __init__(
        self,
        settings: Settings,
        make_driver: DriverFactory = ProcessDriver,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
        ends: Ends | None = None,
        decisions: Decisions | None = None,
    ) -> None:
        self._settings = settings
        self._make_driver = make_driver
        self._clock = clock
        # Generations of a later server must not look like those of an earlier one.
        self.domains = Domains(generation=int(clock() * 1_000_000))
        self._budgets = Budgets(clock)
        self.hosts = Hosts([self._host(host) for host in settings.hosts])
        retention = Retention(settings.history_jobs, settings.history_days * 86_400)
        self.jobs = Jobs(self.hosts, self.domains, store or MemoryStore(), clock, retention, settings.limits.jobs, ends)
        self.decisions = decisions or Decisions()
        self.sight = Sight(self.decisions, self.domains)
        self._seen = JobSight(self.sight, self.jobs)
        self.jobs.holders_told = self._seen.problem_holders
        self.domains.on_identity = self._identity_changed

    def add_to(self, server: aio.Server) -> None:
        """Serve the three services there."""
        lookup = Lookup(self.hosts, self.domains, self.sight)
        pager = Pager()
        heartbeats = Heartbeats(self._settings.heartbeat)
        slow = SlowReads(self.hosts)
        files = Files(self.sight, HostFiles(self.hosts))
        acceptance = Acceptance(self.jobs, lookup, self._seen, heartbeats, self._roots_of, files)
        self.jobs.judged_anew = Again(self.jobs, self.sight, Leave(lookup, self._roots_of, files, nothing_comes))
        self.watches = watches = Watches(self.jobs, lookup, self._seen, heartbeats)
        migrations = Migrations(self.hosts, self._settings.migration_schemes)
        query_pb2_grpc.add_QueryServiceServicer_to_server(QueryService(self.hosts, self.domains, lookup, pager, watches), server)
        verbs = JobService(self.jobs, lookup, self._seen, acceptance, migrations, pager, watches)
        job_pb2_grpc.add_JobServiceServicer_to_server(verbs, server)
        plans = Plans(self.jobs, self._seen, migrations, slow)
        snapshots = SnapshotService(self.hosts, lookup, acceptance, slow, pager, plans, files)
        snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(snapshots, server)

    async def start(self, on_connection: Callable[[Host], None]) -> None:
        """Begin to reach the hosts, and take up the jobs of an earlier life; changes of connections go to `on_connection`, and to who watches.

        Raises InUse.
        """

        def changed(host: Host) -> None:
            on_connection(host)
            self.domains.feed.nudge()
            self.jobs.feed.nudge()

        # First of all: a second server must not even connect to the hosts of the one that has the store.
        await self.jobs.store.claim()
        for host in self.hosts:
            await host.start(self.jobs.report, changed, tracing.export)
        await self.jobs.begin()

    def look_anew(self) -> None:
        """The rules have changed: streams look again at what they may show."""
        self.domains.feed.nudge()
        self.jobs.feed.nudge()

    def _identity_changed(self) -> None:
        # Streams of domains hear of it as of any change; a job is shown or not by what its domain is called and labelled.
        if self.decisions.policed:
            self.jobs.feed.nudge()

    def _roots_of(self, host: str) -> tuple[str, ...]:
        return next((self._settings.roots_of(each) for each in self._settings.hosts if each.name == host), ())

    async def close(self) -> None:
        """End at once; what runs at the hypervisors goes on."""
        self.jobs.draining = True
        await self.jobs.close()
        await asyncio.gather(*(host.close() for host in self.hosts))

    def _host(self, host: HostSettings) -> Host:
        driver = self._make_driver(
            DriverSettings(
                uri=host.uri,
                read_only=host.read_only,
                path_roots=self._settings.roots_of(host),
                # Stamps of a later server must be newer than those of an earlier one, whose journal may hold them.
                process=int(self._clock() * 1000),
                host=host.name,
                tracing=self._settings.tracing != "none",
                # Migrations has judged every destination before the driver sees it.
                migration_schemes=(),
            )
        )
        config = HostConfig(
            name=host.name,
            uri=host.uri,
            read_only=host.read_only,
            migrations=host.migrations,
            saves=host.saves,
            workers=host.workers,
            audit_seconds=host.audit_seconds,
            sample_seconds=host.sample_seconds,
            migration_uri=host.migration_uri,
        )

        async def workers() -> int | None:
            return await admin.min_workers(host.uri, read_only=host.read_only)

        return Host(config, driver, self.domains, self._budgets, self._clock, read_workers=workers)
