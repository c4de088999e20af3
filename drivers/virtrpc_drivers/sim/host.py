"""What a simulated host says of itself."""

from __future__ import annotations

from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.sim.options import SimOptions
from virtrpc_drivers.sim.shapes import verbs
from virtrpc_drivers.support import PUSHES_EVENTS
from virtrpc_drivers.values import HostInfo

CPUS = 8
MEMORY_BYTES = 256 << 30


def host_info(settings: DriverSettings, options: SimOptions) -> HostInfo:
    """A host of eight processors and 256 GiB; "sim-daemon" where its workers are limited, since the server sets no limit to "sim"."""
    return HostInfo(
        uri=settings.uri,
        hypervisor="sim-daemon" if options.workers else "sim",
        hostname=options.host,
        hypervisor_version="1.0.0",
        cpu_model="sim",
        cpus=CPUS,
        cpu_mhz=2000,
        numa_nodes=1,
        sockets=1,
        cores=CPUS,
        threads=1,
        memory_bytes=MEMORY_BYTES,
        capabilities_xml="<capabilities><host><cpu><arch>x86_64</arch></cpu></host></capabilities>",
        verbs=verbs(options.shape),
        pushes_events=options.events and options.shape in PUSHES_EVENTS,
        daemon=f"sim:{options.host}" if options.workers else None,
        min_workers=options.workers or None,
        read_only=settings.read_only,
    )
