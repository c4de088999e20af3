"""What proves a backup whose caller was away."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import backups
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, state_text


def _backed_up(domain: Any, operation: ops.Backup) -> Verdict:
    end = backups.completed(domain)
    if end is None:
        return Verdict(False, f"{state_text(domain)}, and its completed statistics are not those of a backup")
    # Whether it is ours its files tell, as `_written` looks at them: these statistics may be those of an earlier one.
    return Verdict(end.whole, f"its backup ended: {end.message or 'whole'}", backups.begun(domain, operation))


PROOFS: dict[str, Proof] = {"Backup": _backed_up}
