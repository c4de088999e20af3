"""What a domain may use of its host, read: scheduler, memory, NUMA nodes, block devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import capabilities, domain_xml, flags
from virtrpc_drivers.libvirt.errors import driver_error, fault_of
from virtrpc_drivers.libvirt.scopes import check_one
from virtrpc_drivers.operations import Scope
from virtrpc_drivers.resources import (
    BLKIO_LIMITS,
    MEMORY,
    NUMA_MODES,
    QUOTAS,
    SCHEDULER,
    Blkio,
    BlkioDevice,
    Numa,
    ResourceParameters,
    numbers,
    scheduler,
)
from virtrpc_drivers.xml import LARGEST, integer

T = TypeVar("T")
Numbers = dict[str, Any]

SHARES = {"xen": "weight", "test": "weight", "hyper-v": "weight", "esx": "shares"}
"""What a hypervisor calls `cpu_shares`, where it calls it otherwise."""
_MAY_BE_NONE = QUOTAS | {"cap", "reservation", "limit"}
ONE_SCHEDULER = frozenset({"esx", "hyper-v", "test", "xen"})
"""Whose scheduler has one set of values for a domain, and whose calls take no flags."""
CRASHES_WHEN_OFF = frozenset({"lxc"})
"""Whose daemon dies (libvirt 9.0) when it is asked for the scheduler of a domain that is off. A read would be enough, so the definition is read."""
UNLIMITED_KIB = 9_007_199_254_740_991
"""VIR_DOMAIN_MEMORY_PARAM_UNLIMITED, which libvirt-python leaves out."""
UNLIMITED_US = 17_592_186_044_415
"""VIR_DOMAIN_SCHEDULER_QUOTA_MAX: the longest quota that can be asked for. What the kernel calls more is no limit."""
KIB = 1024


def resource_parameters(connection: Any, uuid: str, scope: Scope) -> ResourceParameters:
    """What libvirt tells of each group; None where the hypervisor or the host lacks it. Raises WRONG_STATE."""
    domain = connection.lookupByUUIDString(uuid)
    if scope is Scope.LIVE and not domain.isActive():
        raise failure(Reason.WRONG_STATE, "the domain is not running")
    return ResourceParameters(
        scheduler_type=_told(lambda: str(domain.schedulerType()[0])) or "",
        scheduler=_told(lambda: _scheduler(connection, domain, scope)),
        memory=_told(lambda: _memory(domain.memoryParameters(flags.scope(scope)))),
        numa=_told(lambda: _numa(domain.numaParameters(flags.scope(scope)))),
        blkio=_told(lambda: _blkio(domain.blkioParameters(flags.scope(scope)))),
    )


def _told(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except libvirt.libvirtError as error:
        if fault_of(error).reason is Reason.UNSUPPORTED:
            return None
        raise driver_error(error) from None
    except DriverError as error:
        if error.reason is Reason.UNSUPPORTED:
            return None
        raise


def _scheduler(connection: Any, domain: Any, scope: Scope) -> dict[str, int]:
    hypervisor = capabilities.hypervisor_of(connection)
    if hypervisor in CRASHES_WHEN_OFF:
        return scheduler(domain_xml.element(domain.XMLDesc(_form(domain, scope))))
    if hypervisor in ONE_SCHEDULER:
        check_one(domain, scope)
        told: Numbers = domain.schedulerParameters()
    else:
        told = domain.schedulerParametersFlags(flags.scope(scope))
    told["cpu_shares"] = told.pop(SHARES.get(hypervisor, "cpu_shares"), None)
    said = {name: number for name in SCHEDULER if (number := told.get(name)) is not None and number <= LARGEST}
    # Of a share or a period 0 is not said: the stored definition leaves it to the next start.
    return {name: _limit(name, number) for name, number in said.items() if number > 0 or name in _MAY_BE_NONE}


def _form(domain: Any, scope: Scope) -> int:
    stored = scope is Scope.CONFIG or not domain.isActive()
    return int(libvirt.VIR_DOMAIN_XML_INACTIVE) if stored else 0


def _limit(name: str, number: int) -> int:
    unlimited = number < 0 or (name in QUOTAS and number >= UNLIMITED_US)
    return 0 if unlimited else number


def _memory(told: Numbers) -> dict[str, int]:
    return {name: 0 if told[name] >= UNLIMITED_KIB else told[name] * KIB for name in MEMORY if name in told}


def _numa(told: Numbers) -> Numa:
    mode = told.get("numa_mode", 0)
    return Numa(mode=NUMA_MODES[mode] if 0 <= mode < len(NUMA_MODES) else "", nodes=tuple(sorted(numbers(told.get("numa_nodeset", "")))))


def _blkio(told: Numbers) -> Blkio:
    devices: dict[str, dict[str, int]] = {}
    for name in BLKIO_LIMITS:
        words = [word for word in str(told.get(f"device_{name}") or "").split(",") if word]
        for path, number in zip(words[::2], words[1::2], strict=True):
            if (limit := integer(number)) is not None:
                devices.setdefault(path, {})[name] = limit
    return Blkio(weight=told.get("weight") or None, devices=tuple(BlkioDevice(path=path, limits=limits) for path, limits in sorted(devices.items())))
