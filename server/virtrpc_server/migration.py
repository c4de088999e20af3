"""Where a guest may be moved to: a configured host, or a URI on the allow-list."""

from __future__ import annotations

from collections.abc import Collection

from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.operations import Migrate
from virtrpc_server.destinations import connection_uri, same_daemon
from virtrpc_server.domains import Entry
from virtrpc_server.errors import refuse
from virtrpc_server.hosts import Hosts
from virtrpc_server.orders import migration
from virtrpc_server.orders.common import invalid


class Migrations:
    """Makes migrate operations; `schemes` are the URI schemes, with their transports, that a destination may have."""

    def __init__(self, hosts: Hosts, schemes: Collection[str]) -> None:
        self._hosts = hosts
        self._schemes = frozenset(schemes)

    def order(self, request: job_pb2.MigrateDomainRequest, entry: Entry) -> tuple[Migrate, str]:
        """The operation, and the destination's name where it is a configured host. Raises Refusal."""
        return self.of(request.settings, entry)

    def of(self, settings: types_pb2.MigrationSettings, entry: Entry) -> tuple[Migrate, str]:
        """As `order`, of settings alone."""
        uri, host = self._destination(settings, entry.host)
        return migration.migrate(settings, entry.uuid, uri), host

    def _destination(self, settings: types_pb2.MigrationSettings, source: str) -> tuple[str, str]:
        match settings.WhichOneof("destination"):
            case "host":
                return self._host(settings.host, source)
            case "uri":
                uri = connection_uri(settings.uri, self._schemes)
                # One of ours by another word: what holds of that host, limits and rules among it, holds then too.
                known = next((host.name for host in self._hosts if same_daemon(uri, host.config.migration_uri or host.config.uri)), "")
                return (uri, self._host(known, source)[1]) if known else (uri, "")
            case _:
                raise invalid("settings.destination", "a host or a URI is required")

    def _host(self, name: str, source: str) -> tuple[str, str]:
        host = self._hosts.get(name)
        if host is None:
            raise refuse("HOST_NOT_CONFIGURED", f"no host is called {name!r}", host=name)
        if host.name == source:
            raise invalid("settings.host", "the domain is on that host already")
        if host.config.read_only:
            raise refuse("HOST_READ_ONLY", f"host {host.name} is configured read-only", host=host.name)
        host.require("Migrate")
        return host.config.migration_uri or host.config.uri, host.name
