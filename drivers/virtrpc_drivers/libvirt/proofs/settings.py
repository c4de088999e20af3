"""What proves operations: sizes and settings."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, definitions
from virtrpc_drivers.libvirt.readings import KIB


def _memory_set(domain: Any, operation: ops.SetMemory) -> Verdict:
    wanted = -(-operation.memory_bytes // KIB) * KIB
    found = [domain_xml.sizes(xml) for xml in definitions(domain, operation.scope)]
    sizes = [size.max_memory_bytes if operation.maximum else size.memory_bytes for size in found]
    return Verdict(all(size == wanted for size in sizes), f"its memory is {' and '.join(str(size) for size in sizes)} bytes, {wanted} were asked for")


PROOFS: dict[str, Proof] = {
    "SetMemory": _memory_set,
}
