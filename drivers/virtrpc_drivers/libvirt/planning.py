"""What stands in the way of a migration, as far as it can be read at either end: nothing here changes anything.

libvirt has no such call. These are the checks that qemuMigrationSrcIsAllowed and qemuMigrationSrcIsSafe make at the source and Prepare at the
destination, in so far as a client can see what they look at. What cannot be looked at is said, and not fatal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

import libvirt

from virtrpc_drivers.libvirt import capabilities
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.readings import optional, state_of
from virtrpc_drivers.migration import Arrival, Departure, Facts, Obstacle
from virtrpc_drivers.operations import Migrate
from virtrpc_drivers.values import ACTIVE_STATES
from virtrpc_drivers.xml import memory_bytes, parse

KIB = 1024
_SHARED = frozenset({"nfs", "nfs4", "gfs2", "ocfs2", "afs", "smb3", "cifs", "ceph", "gpfs", "fuse.glusterfs", "fuse.quobyte", "beegfs"})
_SAFE_CACHES = frozenset({"none", "directsync"})


def departure(connection: Any, operation: Migrate) -> Departure:
    """The source's side, on a connection to it. Raises libvirt's error where the domain is not there or the host does not answer."""
    domain = connection.lookupByUUIDString(operation.uuid)
    state, _ = state_of(domain)
    active = state in ACTIVE_STATES
    found: list[Obstacle] = []
    if not active and not operation.offline:
        found.append(Obstacle(reason="WRONG_STATE", message=f"the domain is {state.value}: it can only be moved offline"))
    if snapshots := optional(lambda: domain.snapshotNum(0)):
        found.append(Obstacle(reason="OPERATION_FAILED", message=f"it has {snapshots} snapshots, which a migration would lose: libvirt refuses that"))
    facts = None
    try:
        root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE), "domain")
    except libvirt.libvirtError as error:
        found.append(Obstacle(reason="OPERATION_FAILED", message=f"libvirt gives no migratable definition of it: {fault_of(error).message}"))
    else:
        found += _in_the_way(connection, root, operation) if active else ()
        facts = _facts(connection, operation, root, active=active)
    if operation.tls:
        found.append(Obstacle(reason="OPERATION_FAILED", message="TLS needs certificates at both hosts, which cannot be seen from here", fatal=False))
    return Departure(facts=facts, obstacles=tuple(found))


def _in_the_way(connection: Any, root: Element, operation: Migrate) -> Iterator[Obstacle]:
    yield from _devices(root)
    if connection.getType() == "QEMU":
        # No other driver of libvirt looks at where the disks are.
        yield from _storage(root, operation, local=capabilities.is_local(connection.getURI()))


def _facts(connection: Any, operation: Migrate, root: Element, *, active: bool) -> Facts:
    cpu = root.find("cpu")
    return Facts(
        uuid=operation.uuid,
        name=operation.new_name or root.findtext("name") or "",
        hypervisor=connection.getType().lower(),
        running=active,
        memory_bytes=memory_bytes(root.find("memory")),
        arch=_attribute(root, "os/type", "arch"),
        machine=_attribute(root, "os/type", "machine"),
        virt_type=root.get("type", ""),
        emulator=root.findtext("devices/emulator") or "",
        cpu_xml=tostring(cpu, encoding="unicode") if cpu is not None else "",
    )


def _attribute(root: Element, path: str, name: str) -> str:
    element = root.find(path)
    return element.get(name, "") if element is not None else ""


def _devices(root: Element) -> Iterator[Obstacle]:
    for device in root.findall("devices/hostdev"):
        kind = device.get("type", device.get("mode", ""))
        # What USB carries is unplugged from the guest's view, and may be plugged in again.
        yield _stays(f"a device of the host is passed through (<hostdev>, {kind})", fatal=kind != "usb" and device.find("teaming") is None)
    for interface in root.findall("devices/interface[@type='hostdev']"):
        yield _stays("an interface of the host is passed through (<interface type='hostdev'>)", fatal=interface.find("teaming") is None)
    for shared in root.findall("devices/filesystem"):
        # QEMU refuses a 9p directory while the guest has it mounted, which nobody sees from here; virtiofs always.
        fatal = _attribute(shared, "driver", "type") == "virtiofs"
        yield _stays("a directory of the host is shared with the guest (<filesystem>)", fatal=fatal, when="" if fatal else " while it is mounted")
    for memory in root.findall("devices/shmem"):
        if memory.get("role") != "master":
            yield _stays("memory is shared with other guests (<shmem>)")


def _stays(what: str, *, fatal: bool = True, when: str = "") -> Obstacle:
    return Obstacle(reason="OPERATION_FAILED", message=f"{what}, and cannot go along{when}: detach it first", fatal=fatal)


def _storage(root: Element, operation: Migrate, *, local: bool) -> Iterator[Obstacle]:
    for disk in root.findall("devices/disk"):
        target = _attribute(disk, "target", "dev")
        if disk.get("device", "disk") != "disk" or disk.find("readonly") is not None or disk.find("source") is None:
            continue
        if operation.storage and (target in operation.disks if operation.disks else disk.find("shareable") is None):
            continue
        if why := _unsafe(disk, local=local):
            yield Obstacle(reason="MIGRATION_UNSAFE", message=f"disk {target}: {why}", fatal=not operation.unsafe)


def _unsafe(disk: Element, *, local: bool) -> str:
    """Why libvirt would call it unsafe to leave this disk where it is; empty where it would not."""
    if disk.get("type") != "file":
        return ""
    path = _attribute(disk, "source", "file")
    kind = _filesystem(path) if local else ""
    if kind and kind not in _SHARED:
        return f"{path} lies on a file system of this host alone ({kind}): share it, or copy it along (storage)"
    cache = _attribute(disk, "driver", "cache") or "default"
    if cache not in _SAFE_CACHES:
        return f"its cache mode is {cache}: only none and directsync are safe on storage that two hosts write to"
    return ""


def _filesystem(path: str) -> str:
    """The type of the file system below a path; empty where that cannot be told."""
    path, best, kind = os.path.realpath(path), "", ""
    try:
        rows = [line.split(" ")[1:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    for point, name in rows:
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, name
    return kind


def arrival(connection: Any, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
    """The destination's side, on a connection to it; where a `uri` is given, on one that is opened for it, read-only."""
    if not uri:
        return Arrival(obstacles=tuple(_at_destination(connection, operation, facts)))
    try:
        there = libvirt.openReadOnly(uri)
    except libvirt.libvirtError as error:
        return Arrival(obstacles=(Obstacle(reason="HOST_UNREACHABLE", message=f"the destination cannot be reached: {fault_of(error).message}"),))
    try:
        return Arrival(obstacles=tuple(_at_destination(there, operation, facts)))
    finally:
        there.close()


def _at_destination(connection: Any, operation: Migrate, facts: Facts) -> Iterator[Obstacle]:
    hypervisor = connection.getType().lower()
    if hypervisor != facts.hypervisor:
        yield Obstacle(reason="UNSUPPORTED_BY_HYPERVISOR", message=f"the destination is {hypervisor}, the source {facts.hypervisor}")
        return
    yield from _identity(connection, facts)
    if facts.running:
        yield from _memory(connection, facts)
        yield from _machine(connection, facts)
        yield from _processor(connection, facts)


def _identity(connection: Any, facts: Facts) -> Iterator[Obstacle]:
    namesake = _found(lambda: connection.lookupByName(facts.name))
    if namesake is not None and namesake.UUIDString() != facts.uuid:
        yield Obstacle(reason="ALREADY_EXISTS", message=f"the destination has another domain called {facts.name} (uuid {namesake.UUIDString()})")
    same = _found(lambda: connection.lookupByUUIDString(facts.uuid))
    if same is not None and same.isActive():
        yield Obstacle(reason="ALREADY_EXISTS", message="a domain with this uuid runs at the destination already")
    elif same is not None and same.name() != facts.name:
        yield Obstacle(reason="ALREADY_EXISTS", message=f"the destination has a domain with this uuid under the name {same.name()}")


def _found(look: Any) -> Any | None:
    try:
        return look()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _memory(connection: Any, facts: Facts) -> Iterator[Obstacle]:
    stats = optional(lambda: connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS))
    if not stats or facts.memory_bytes is None or "total" not in stats:
        return
    total = stats["total"] * KIB
    free = sum(stats.get(name, 0) for name in ("free", "buffers", "cached")) * KIB
    if facts.memory_bytes > total:
        message = f"the guest's memory of {facts.memory_bytes} bytes is more than the destination has ({total})"
        yield Obstacle(reason="RESOURCE_LACKING", message=message)
    elif facts.memory_bytes > free:
        message = f"the guest's memory of {facts.memory_bytes} bytes is more than the destination has free ({free})"
        yield Obstacle(reason="RESOURCE_LACKING", message=message, fatal=False)


def _machine(connection: Any, facts: Facts) -> Iterator[Obstacle]:
    wanted = (facts.emulator or None, facts.arch or None, facts.machine or None, facts.virt_type or None)
    try:
        connection.getDomainCapabilities(*wanted, 0)
    except libvirt.libvirtError as error:
        yield from _cannot(error, f"machine type {facts.machine} with {facts.emulator or 'the usual emulator'}")


def _processor(connection: Any, facts: Facts) -> Iterator[Obstacle]:
    if not facts.cpu_xml:
        return
    if 'mode="host-passthrough"' in facts.cpu_xml:
        message = "the guest sees the source's own processor: the destination's must be the very same"
        yield Obstacle(reason="OPERATION_FAILED", message=message, fatal=False)
        return
    wanted = (facts.emulator or None, facts.arch or None, facts.machine or None, facts.virt_type or None)
    try:
        verdict = connection.compareHypervisorCPU(*wanted, facts.cpu_xml, 0)
    except libvirt.libvirtError as error:
        yield from _cannot(error, "the guest's processor", unsure=True)
        return
    if verdict == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        yield Obstacle(reason="OPERATION_FAILED", message="the destination's hypervisor cannot provide the guest's processor")


def _cannot(error: libvirt.libvirtError, what: str, *, unsure: bool = False) -> Iterator[Obstacle]:
    """Refused for want of rights or support is no verdict."""
    message = fault_of(error).message
    if unsure or error.get_error_code() in (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
        yield Obstacle(reason="OPERATION_FAILED", message=f"whether the destination has {what} cannot be asked there: {message}", fatal=False)
    else:
        yield Obstacle(reason="OPERATION_FAILED", message=f"the destination does not have {what}: {message}")
