"""The composition root: a whole server is its core and its transport."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_server.audit import make_audit
from virtrpc_server.core import Core, DriverFactory
from virtrpc_server.guard import Guard
from virtrpc_server.hosts import Host, Hosts
from virtrpc_server.identity import Identities
from virtrpc_server.journal import Journal
from virtrpc_server.lag import Lag
from virtrpc_server.limits import Limits
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.engine import Policy
from virtrpc_server.policy.file import PolicyFile
from virtrpc_server.settings import Settings
from virtrpc_server.store import Store
from virtrpc_server.telemetry.collecting import Collector
from virtrpc_server.telemetry.endpoint import Endpoint
from virtrpc_server.telemetry.rpcs import RpcDurations
from virtrpc_server.telemetry.state import View
from virtrpc_server.tls import Tls
from virtrpc_server.transport import Transport
from virtrpc_server.unix_socket import Access

if TYPE_CHECKING:
    from virtrpc_server.telemetry.otlp import MetricsExport

log = logging.getLogger(__name__)


class App:
    """A server: its core, and where it listens. Made inside the running loop. Raises ConfigurationError, PolicyError."""

    def __init__(self, settings: Settings, make_driver: DriverFactory = ProcessDriver, store: Store | None = None) -> None:
        self.settings = settings
        self.lag = Lag(settings.lag_warning)
        self.audit = make_audit(settings)
        self.decisions = Decisions(Policy.load(settings.policy) if settings.policy is not None else None)
        self.core = Core(settings, make_driver, store, ends=self.audit, decisions=self.decisions)
        self._policy = PolicyFile(settings.policy, self.decisions, self._rules_changed) if settings.policy is not None else None
        audits = () if self.audit is None else (self.audit,)
        names = [host.name for host in self.hosts]
        measured = settings.metrics_listen is not None or settings.metrics == "otlp"
        observers = [RpcDurations(self.core.jobs.recorded)] if measured else []
        self.tls = None if settings.tls is None else Tls(settings.tls)
        self.identities = Identities(settings)
        self.transport = Transport(
            settings.socket,
            settings.listen,
            insecure=settings.anonymous,
            tls=self.tls,
            access=Access(int(settings.socket_mode, 8), settings.socket_group),
            hosts=names,
            guard=Guard(self.identities, gates=(Limits(settings.limits), self.decisions, *audits), observers=(*audits, *observers)),
            limits=settings.limits,
        )
        self.core.add_to(self.transport.server)
        view = View(self.core, self.lag, lambda: self.transport.calls, lambda: None if self.tls is None else self.tls.remaining)
        collector = Collector(view)
        self.metrics = Endpoint(settings.metrics_listen, collector) if settings.metrics_listen else None
        self.sent = _metrics_export(settings, collector) if settings.metrics == "otlp" else None

    @property
    def hosts(self) -> Hosts:
        """The configured hosts."""
        return self.core.hosts

    @property
    def status(self) -> str:
        """How it is, in a line for people."""
        running, queued = self.core.jobs.counts
        connected = [host.connected for host in self.hosts]
        rules = "; the policy file cannot be used, its former rules are in force" if self.decisions.fault else ""
        return f"{sum(connected)} of {len(connected)} hosts connected, {running} jobs running, {queued} queued{rules}"

    async def start(self) -> None:
        """Begin to reach the hosts, take up the jobs of an earlier life, and listen. Raises ListenError, InUse, AuditError."""
        self.lag.start()
        if self.audit is not None:
            await self.audit.start()
        if self._policy is not None:
            self._policy.start()
            self._rules_changed()
        await self.core.start(self._connection_changed)
        self.identities.start()
        await self.transport.start()
        if self.metrics is not None:
            await self.metrics.start()
        if self.sent is not None:
            self.sent.start()

    async def drain(self) -> None:
        """Take nothing new, let running jobs end for `drain_timeout` seconds, then end the streams; cancels nothing."""
        self.transport.set_draining()
        await self.core.jobs.drain(self.settings.drain_timeout)
        await self.transport.drain(1.0)

    async def stop(self) -> None:
        """End at once; what runs at the hypervisors goes on."""
        self.core.jobs.draining = True
        await self.transport.stop()
        await self.identities.stop()
        if self.metrics is not None:
            await self.metrics.stop()
        if self.sent is not None:
            await self.sent.stop()
        if self._policy is not None:
            await self._policy.stop()
        await self.core.close()
        if self.audit is not None:
            await self.audit.close()
        self.lag.stop()
        log.info("the event loop was late by %s", self.lag.read())

    def _rules_changed(self) -> None:
        self.transport.set_policy(serving=not self.decisions.fault)
        self.core.look_anew()

    def _connection_changed(self, host: Host) -> None:
        self.transport.set_host(host.name, serving=host.connected and host.listed)


def _metrics_export(settings: Settings, collector: Collector) -> MetricsExport:
    # Imported where it is asked for: it takes a third of a second.
    from virtrpc_server.telemetry.otlp import MetricsExport, make_exporter

    return MetricsExport(collector, make_exporter(settings.otlp_endpoint), settings.metrics_seconds)


def build(settings: Settings) -> App:
    """A server with these settings."""
    return App(settings, store=Journal(settings.state_dir, sync=settings.journal_sync) if settings.journal else None)
