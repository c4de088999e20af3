"""Where a guest may be moved to: a configured host, or a URI on the allow-list. A libvirt URI can run commands; these cannot."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.operations import Migrate
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal, refuse
from virtrpc_server.hosts import Hosts
from virtrpc_server.orders.common import invalid

MIB = 1 << 20
MIGRATE_SCHEMES = frozenset({"tcp", "rdma"})


class Migrations:
    """Makes migrate operations; `schemes` are the URI schemes, with their transports, that a destination may have."""

    def __init__(self, hosts: Hosts, schemes: Collection[str]) -> None:
        self._hosts = hosts
        self._schemes = frozenset(schemes)

    def order(self, request: job_pb2.MigrateDomainRequest, entry: Entry) -> tuple[Migrate, str]:
        """The operation, and the destination's name where it is a configured host. Raises Refusal."""
        settings = request.settings
        uri, host = self._destination(settings, entry.host)
        live = settings.live if settings.HasField("live") else not settings.offline
        if live and settings.offline:
            raise invalid("settings.offline", "live and offline exclude each other")
        if settings.offline and not settings.persist_destination:
            raise invalid("settings.offline", "an offline migration needs persist_destination")
        return Migrate(
            uuid=entry.uuid,
            destination_uri=uri,
            migrate_uri=self._migrate_uri(settings.migrate_uri),
            new_name=settings.destination_name,
            live=live,
            peer_to_peer=settings.peer_to_peer if settings.HasField("peer_to_peer") else True,
            persist_destination=settings.persist_destination,
            undefine_source=settings.undefine_source,
            unsafe=settings.unsafe,
            offline=settings.offline,
            paused=settings.paused,
            bandwidth_bytes_per_second=_bandwidth(settings.bandwidth_bytes_per_second),
        ), host

    def _destination(self, settings: types_pb2.MigrationSettings, source: str) -> tuple[str, str]:
        if settings.WhichOneof("destination") == "host":
            host = self._hosts.get(settings.host)
            if host is None:
                raise refuse("HOST_NOT_CONFIGURED", f"no host is called {settings.host!r}", host=settings.host)
            if host.name == source:
                raise invalid("settings.host", "the domain is on that host already")
            return host.config.migration_uri or host.config.uri, host.name
        if settings.WhichOneof("destination") == "uri":
            return self._allowed(settings.uri), ""
        raise invalid("settings.destination", "a host or a URI is required")

    def _allowed(self, uri: str) -> str:
        parts = _split(uri)
        if parts.scheme.lower() not in self._schemes:
            allowed = ", ".join(sorted(self._schemes)) or "none"
            raise _not_allowed(f"its scheme {parts.scheme!r} is not one of those allowed ({allowed})", uri)
        if not parts.hostname:
            raise _not_allowed("it names no host", uri)
        return uri

    def _migrate_uri(self, uri: str) -> str:
        if not uri:
            return ""
        # libvirt takes "tcp:host:port" beside "tcp://host:port".
        parts = _split(uri)
        if parts.scheme.lower() not in MIGRATE_SCHEMES:
            raise _not_allowed(f"a migrate_uri's scheme is one of {', '.join(sorted(MIGRATE_SCHEMES))}", uri)
        return uri


def _split(uri: str) -> SplitResult:
    if not uri.isprintable() or any(character.isspace() for character in uri):
        raise _not_allowed("it has characters that no URI has", uri)
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise _not_allowed("it is not a URI", uri) from None
    if "?" in uri or "#" in uri:
        raise _not_allowed("it has a query or a fragment", uri)
    if parts.password is not None:
        raise _not_allowed("it has a password", uri)
    return parts


def _not_allowed(why: str, uri: str) -> Refusal:
    return refuse("MIGRATION_TARGET_NOT_ALLOWED", f"the migration target is not allowed: {why}", uri=_without_credentials(uri)[:256])


def _without_credentials(uri: str) -> str:
    scheme, slashes, rest = uri.partition("?")[0].partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path}"


def _bandwidth(bytes_per_second: int) -> int | None:
    if bytes_per_second == 0:
        return None
    if bytes_per_second < MIB:
        raise invalid("settings.bandwidth_bytes_per_second", f"must be 0 or at least {MIB}")
    return bytes_per_second
