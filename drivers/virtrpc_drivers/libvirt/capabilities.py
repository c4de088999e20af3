"""What a host says of itself, and how its URI is to be understood."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit
from xml.etree import ElementTree

import libvirt
import msgspec

from virtrpc_drivers import support
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.values import HostInfo

_ALWAYS_ALIVE = frozenset({"esx", "vpx", "gsx", "hyperv"})
_PORTS = {"tcp": 16509, "tls": 16514, "ssh": 22, "libssh": 22, "libssh2": 22}


def hypervisor_of(connection: Any) -> str:
    """virConnectGetType in lower case."""
    kind: str = connection.getType().lower()
    return "xen" if kind in ("xen", "libxl") else kind


def host_info(connection: Any, uri: str, read_only: bool, pushes_events: bool) -> HostInfo:
    """What a host says of itself at once; what it does not say is None. `with_description` adds the rest."""
    hypervisor = hypervisor_of(connection)
    library = optional(connection.getLibVersion)
    node = optional(connection.getInfo) or [None] * 8
    model, memory_mib, cpus, mhz, nodes, sockets, cores, threads = node
    return HostInfo(
        uri=without_credentials(uri),
        hypervisor=hypervisor,
        hostname=optional(connection.getHostname),
        libvirt_version=_dotted(library),
        cpu_model=model,
        cpus=cpus,
        cpu_mhz=mhz,
        numa_nodes=nodes,
        sockets=sockets,
        cores=cores,
        threads=threads,
        memory_bytes=memory_mib << 20 if memory_mib is not None else None,
        verbs=support.table(hypervisor, library or 0),
        pushes_events=pushes_events,
        daemon=daemon_of(uri),
        local=is_local(uri),
        read_only=read_only,
    )


def with_description(connection: Any, info: HostInfo) -> HostInfo:
    """The same with version, capabilities and firmware: QEMU's driver probes every emulator for them, which takes seconds the first time."""
    described = optional(connection.getCapabilities)
    model = ElementTree.fromstring(described).findtext("host/cpu/model") if described else None
    firmware = optional(lambda: connection.getSysinfo(0))
    return msgspec.structs.replace(
        info,
        hypervisor_version=_dotted(optional(connection.getVersion)),
        capabilities_xml=described,
        sysinfo_xml=firmware,
        cpu_model=model or info.cpu_model,
    )


def of_domains(connection: Any, emulator: str, arch: str, machine: str, virt_type: str) -> str:
    """virConnectGetDomainCapabilities. INVALID_ARGUMENT for an emulator that is none of the host's: libvirt would run whatever file it is told of."""
    if emulator and emulator not in _emulators(connection):
        raise failure(Reason.INVALID_ARGUMENT, f"{emulator[:256]!r} is none of this host's emulators: its capabilities list them")
    return str(connection.getDomainCapabilities(*(word or None for word in (emulator, arch, machine, virt_type)), 0))


def _emulators(connection: Any) -> set[str | None]:
    return {element.text for element in ElementTree.fromstring(connection.getCapabilities()).iter("emulator")}


def _dotted(version: int | None) -> str | None:
    if not version:
        return None
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


def without_credentials(uri: str) -> str:
    """The URI without a user's name or password before the host, and without its query's secrets."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(pair for pair in parts.query.split("&") if not pair.lower().startswith(("keyfile=", "password=", "pkipath=")))
    text = urlunsplit(parts._replace(netloc=host, query=query))
    # urlunsplit drops an empty authority for schemes that it does not know: qemu:///system.
    return text if "://" in text or "://" not in uri else text.replace(":/", ":///", 1)


def is_local(uri: str) -> bool:
    """Whether the hypervisor's files are this machine's files: no server's name, and no transport over a network."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return not parts.hostname and transport in ("", "unix")


def daemon_of(uri: str) -> str | None:
    """What names the daemon behind a URI: its socket's path or its address; None where the driver lives in this process."""
    parts = urlsplit(uri)
    hypervisor, _, transport = parts.scheme.partition("+")
    query = parse_qs(parts.query)
    if (
        parts.path == "/embed"
        or hypervisor == "test"
        or (hypervisor in support.IN_CLIENT_LIBRARY | {"vpx", "gsx", "hyperv", "vmwarews", "vmwarefusion"} and not transport)
    ):
        return None
    if parts.hostname or transport in _PORTS:
        transport = transport or "tls"
        return f"{transport}:{parts.hostname or 'localhost'}:{parts.port or _PORTS.get(transport, 0)}"
    if "socket" in query:
        return query["socket"][0]
    return "libvirt session socket" if parts.path == "/session" else "/run/libvirt/libvirt-sock"


def is_always_alive(uri: str) -> bool:
    """Whether virConnectIsAlive says nothing: these drivers make a new HTTP request for each call, and have no connection that could be lost."""
    return urlsplit(uri).scheme in _ALWAYS_ALIVE


def supports_keepalive(connection: Any) -> bool:
    """Turn keepalive on (every 5 s, five misses). Whether the connection has it: drivers in this process do not."""
    try:
        return bool(connection.setKeepAlive(5, 5) == 0)
    except libvirt.libvirtError:
        return False
