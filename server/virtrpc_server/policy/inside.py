"""What a guest may be given without reaching outside of it: an allow-list. What is not here, libvirt's next invention included, reaches outside.

Left out on purpose, beside what is plainly the host's: bridges, and `user` interfaces, from where a guest reaches the host's loopback; storage over
the network and out of pools, whose places this server does not know; sockets that are connected to; <seclabel>, which takes the guest's
confinement away; <vsock>, <shmem> and <lease>, which join it to others; programs that run on the host (<emulator>, <binary>, <script>,
<bootloader>).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """The children that an element may have; None: any, as long as they name no files outside the roots."""

    children: dict[str, Shape] | None = None


ANY = Shape()
NOTHING = Shape({})


def _any(names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), ANY)


SETTINGS = """
    name uuid genid title description memory currentMemory maxMemory vcpu vcpus iothreads iothreadids cputune memtune blkiotune numatune
    memoryBacking cpu clock on_poweroff on_reboot on_crash on_lockfailure pm perf sysinfo defaultiothread throttlegroups
"""
FEATURES = """
    acpi apic pae hap viridian privnet hyperv kvm pvspinlock gic pmu vmport smm ioapic hpt htm nested-hv msrs ccf-assist cfpc sbbc ibs tcg ras ps2
    aia vmcoreinfo xen async-teardown
"""
OS = "type boot bootmenu smbios bios firmware loader nvram kernel initrd cmdline dtb acpi init initarg initenv initdir inituser initgroup"
DOMAIN = Shape({**_any(SETTINGS), "features": Shape(_any(FEATURES)), "os": Shape({**_any(OS), "nvram": NOTHING})})
"""Children of <domain>, but for <metadata>, which is the applications', and <devices>."""

SOURCE = Shape({"slices": Shape({"slice": NOTHING})})
"""What may stand in a disk's <source>."""
_LAYER: dict[str, Shape] = {"source": SOURCE, "format": ANY}
BACKING = _LAYER["backingStore"] = Shape(_LAYER)
_OF_ANY = "address alias boot acpi driver target"
_CHARACTER = Shape({**_any("address alias target acpi"), "source": NOTHING, "log": NOTHING})

DEVICES = Shape(
    {
        "disk": Shape(
            {
                **_any(_OF_ANY),
                **_any("serial wwn vendor product readonly shareable transient iotune blockio geometry throttlefilters"),
                "source": SOURCE,
                "backingStore": BACKING,
            }
        ),
        "interface": Shape(
            {
                **_any(_OF_ANY),
                **_any("mac source model link mtu bandwidth rom filterref guest ip route coalesce tune port"),
            }
        ),
        "controller": Shape(_any("address alias driver model target acpi master")),
        "serial": _CHARACTER,
        "parallel": _CHARACTER,
        "console": _CHARACTER,
        "channel": _CHARACTER,
        "redirdev": Shape(_any("address alias boot source")),
        "graphics": Shape(_any("listen image jpeg zlib playback streaming clipboard filetransfer mouse channel")),
        "video": Shape(_any("address alias model acpi")),
        "audio": Shape(_any("input output")),
        "sound": Shape(_any("address alias codec audio acpi")),
        "input": Shape(_any("address alias driver acpi")),
        "hub": Shape(_any("address alias")),
        "watchdog": Shape(_any("address alias acpi")),
        "memballoon": Shape(_any("address alias stats driver acpi")),
        "panic": Shape(_any("address alias acpi")),
        "iommu": Shape(_any("driver address alias acpi")),
        "memory": Shape(_any("address alias source target uuid acpi")),
        "rng": Shape(_any("address alias backend rate driver acpi")),
        "tpm": Shape({**_any("address alias acpi"), "backend": Shape(_any("active_pcr_banks encryption profile"))}),
        "filesystem": Shape(_any("address alias driver source target readonly space_hard_limit space_soft_limit acpi")),
    }
)
"""Devices, and what each may have."""
IMAGES = {
    "domainsnapshot": Shape(_any("name description memory disks")),
    "domaincheckpoint": Shape(_any("name description disks")),
    "domainbackup": Shape(_any("incremental disks server")),
}
"""What else describes storage; which files it names, drivers check themselves."""

TYPES: dict[str, frozenset[str]] = {
    "disk": frozenset({"file", "block", "dir"}),
    "interface": frozenset({"network", "null"}),
    "redirdev": frozenset({"spicevmc"}),
    "graphics": frozenset({"vnc", "spice"}),
    "audio": frozenset({"none", "spice"}),
    "input": frozenset({"mouse", "tablet", "keyboard"}),
    "filesystem": frozenset({"mount", "file", "block", "ram"}),
    "listen": frozenset({"address", "network", "socket", "none"}),
    **dict.fromkeys(("serial", "parallel", "console", "channel"), frozenset({"pty", "null", "vc", "file", "unix", "spicevmc", "qemu-vdagent"})),
}
"""Values of `type`, where it says what is on the host's side."""
DEFAULT_TYPES = {"disk": "file", "filesystem": "mount", "console": "pty", "serial": "pty", "parallel": "pty", "listen": "address"}
"""What libvirt takes where none is said; where it takes what the hypervisor prefers, or an interface's, one must be said."""
SOURCES: dict[str, frozenset[str]] = {
    "disk": frozenset({"file", "dev", "dir", "startupPolicy", "index"}),
    "interface": frozenset({"network", "portgroup", "portid", "bridge"}),
    "filesystem": frozenset({"dir", "file", "dev", "usage", "units"}),
    **dict.fromkeys(("serial", "parallel", "console", "channel"), frozenset({"path", "mode", "append"})),
}
"""Attributes of a <source>. A live definition's network has the bridge that libvirt chose."""
PATHS = frozenset({"file", "dev", "dir", "path", "socket", "template", "keyfile", "rendernode"})
"""Attributes that name a file: a relative one is no file of the roots."""
PATH_TEXTS = frozenset({"loader", "nvram", "kernel", "initrd", "dtb", "table", "path", "backend"})
"""Elements whose texts do."""
IN_THE_GUEST = frozenset(
    ["target", "boot", "alias", "cmdline", "init", "initarg", "initdir", "initenv", "description", "title", "name", "vendor", "product", "serial"]
)
"""Elements whose texts and attributes mean nothing on the host."""
RANDOM = frozenset({"/dev/random", "/dev/urandom"})
"""Files of the host that any guest may read."""
REFUSED = frozenset({"sgio", "rawio"})
"""Attributes by which a disk's commands reach the host's device itself."""
