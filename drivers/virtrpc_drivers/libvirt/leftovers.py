"""Files that a call which did not succeed has left behind: nobody else will remove them, and virtrpc does not unasked, so its error names them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Call

_WRITES = (ops.CreateSnapshot, ops.CopyBlock, ops.Backup, ops.Save, ops.DumpCore)
_TOLD_OF = frozenset({Reason.ABORTED, Reason.FAILED, Reason.RESOURCE_LACKING, Reason.INTERRUPTED, Reason.OUTCOME_UNKNOWN})
"""After all else the call was refused before it wrote anything, or is not over."""


def named(error: DriverError, call: Call, *, local: bool) -> DriverError:
    """The error of a call, with the files that it may have left behind. `local`: the host is this machine, so that they can be seen."""
    if not local or error.reason not in _TOLD_OF or not isinstance(call.operation, _WRITES):
        return error
    left = [path for path in call.operation.files if is_new(path, call.began)]
    if not left:
        return error
    message = f"{error.fault.message}; left behind, and perhaps incomplete: {', '.join(left)}"
    return DriverError(msgspec.structs.replace(error.fault, message=message))


def is_new(path: str, began: float) -> bool:
    """Whether a file is there and no older than a call that began then (wall time in seconds). File systems may count whole seconds."""
    try:
        return Path(path).stat().st_mtime >= int(began)
    except OSError:
        return False
