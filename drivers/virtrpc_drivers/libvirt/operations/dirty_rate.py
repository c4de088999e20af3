"""The libvirt calls of operations: how fast a guest changes its memory; and what was measured."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of, running_domain
from virtrpc_drivers.values import DirtyRate, Outcome

MIB = 1 << 20


def start_dirty_rate_calculation(connection: Any, operation: ops.StartDirtyRateCalculation) -> Outcome:
    """virDomainStartDirtyRateCalc."""
    domain_of(connection, operation).startDirtyRateCalc(operation.seconds, 0)
    return DONE


def dirty_rate(connection: Any, uuid: str) -> DirtyRate:
    """virDomainListGetStats, of this group alone. Raises WRONG_STATE."""
    domain = running_domain(connection, uuid)
    ((_, told),) = connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_DIRTYRATE)
    rate = told.get("dirtyrate.megabytes_per_second")
    status = told.get("dirtyrate.calc_status")
    return DirtyRate(
        measuring=status == libvirt.VIR_DOMAIN_DIRTYRATE_MEASURING,
        seconds=told.get("dirtyrate.calc_period") if status != libvirt.VIR_DOMAIN_DIRTYRATE_UNSTARTED else None,
        bytes_per_second=None if rate is None or status != libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED else rate * MIB,
    )


VERBS: dict[str, Verb] = {"StartDirtyRateCalculation": start_dirty_rate_calculation}
FUNCTIONS: dict[str, str] = {"StartDirtyRateCalculation": "virDomainStartDirtyRateCalc"}
