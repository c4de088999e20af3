"""What proves operations: where threads run, what devices may carry, what becomes of a domain. Nearly all of it stands in the definition."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, definitions, shown_by_definition

_SAID = {"poll_max_ns": ("poll", "max"), "poll_grow": ("poll", "grow"), "poll_shrink": ("poll", "shrink")}
"""Where a thread's element says them, where libvirt keeps them there (since 9.4)."""


def _io_thread_set(domain: Any, operation: ops.SetIoThreadParameters) -> Verdict:
    found = [_stored(xml, operation) for xml in definitions(domain, operation.scope)]
    if operation.scope is not ops.Scope.CONFIG and domain.isActive():
        found[0] = found[0] | _measured(domain, operation.number)
    shown = all(operation.parameters.items() <= parameters.items() for parameters in found)
    return Verdict(shown, f"its thread {operation.number} works {'' if shown else 'not '}as was asked for")


def _stored(xml: str, operation: ops.SetIoThreadParameters) -> dict[str, int]:
    thread = domain_xml.element(xml).find(f"iothreadids/iothread[@id='{operation.number}']")
    if thread is None:
        return {}
    places = {name: _SAID.get(name, (".", name)) for name in operation.parameters}
    said = {name: part.get(attribute) for name, (tag, attribute) in places.items() if (part := thread.find(tag)) is not None}
    return {name: int(number) for name, number in said.items() if number is not None}


def _measured(domain: Any, number: int) -> dict[str, int]:
    """virConnectGetAllDomainStats: what QEMU says of a thread that polls."""
    ((_, fields),) = domain.connect().domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_IOTHREAD, 0)
    prefix = f"iothread.{number}."
    return {name.removeprefix(prefix).replace("-", "_"): value for name, value in fields.items() if name.startswith(prefix)}


PROOFS: dict[str, Proof] = {
    "SetIoThreadParameters": _io_thread_set,
    **{
        verb: shown_by_definition(verb)
        for verb in (
            "PinVcpu",
            "PinEmulator",
            "AddIoThread",
            "DeleteIoThread",
            "PinIoThread",
            "SetBlockIoTune",
            "SetInterfaceParameters",
            "SetLifecycleAction",
            "SetVcpu",
            "SetPerfEvents",
        )
    },
}
