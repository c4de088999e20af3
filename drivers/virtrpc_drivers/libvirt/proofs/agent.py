"""What proves operations: the guest's agent."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.guest import authorized_ssh_keys, guest_vcpus
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict


def _vcpus_set(domain: Any, operation: ops.SetGuestVcpus) -> Verdict:
    online = {vcpu.number: vcpu.online for vcpu in guest_vcpus(domain)}
    shown = all(online.get(number) is operation.online for number in operation.vcpus)
    return Verdict(shown, f"the guest's agent tells of {'' if shown else 'not all of '}them as they were asked for")


def _keys_set(domain: Any, operation: ops.SetAuthorizedSshKeys) -> Verdict:
    there, asked = set(authorized_ssh_keys(domain, operation.user)), set(operation.keys)
    shown = {"add": asked <= there, "remove": not asked & there, "replace": asked == there}[operation.change]
    return Verdict(shown, f"the guest's agent tells {'the' if shown else 'other'} keys that were asked for")


PROOFS: dict[str, Proof] = {
    "SetGuestVcpus": _vcpus_set,
    "SetAuthorizedSshKeys": _keys_set,
}
