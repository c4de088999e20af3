"""What a call left behind is named in its error."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import leftovers
from virtrpc_drivers.protocol import Call


def copy(path: Path) -> Call:
    """A copy to this file, begun now."""
    xml = f"<disk type='file'><source file='{path}'/></disk>"
    return Call(id="1", operation=ops.CopyBlock(uuid="u", disk="vda", xml=xml), began=time.time())


@pytest.mark.parametrize("reason", [Reason.ABORTED, Reason.FAILED, Reason.INTERRUPTED])
def test_a_new_file_is_named(tmp_path: Path, reason: Reason) -> None:
    """A file that was written since the call began stands in the error's message; the reason stays, and so does the file."""
    call, path = copy(tmp_path / "copy"), tmp_path / "copy"
    path.write_text("half")
    named = leftovers.named(failure(reason, "it is over"), call, local=True)
    assert named.fault.message == f"it is over; left behind, and perhaps incomplete: {path}"
    assert (named.reason, path.exists()) == (reason, True)


def test_what_is_not_this_calls_doing_is_not_named(tmp_path: Path) -> None:
    """Neither an older file, nor one that is not there, nor one on another machine, nor what a refused call never wrote."""
    call, path = copy(tmp_path / "copy"), tmp_path / "copy"
    error, refused = failure(Reason.ABORTED, "it is over"), failure(Reason.FOREIGN_JOB, "busy")
    assert leftovers.named(error, call, local=True) is error
    path.write_text("old")
    assert leftovers.named(error, call, local=False) is error
    assert leftovers.named(refused, call, local=True) is refused
    os.utime(path, (call.began - 10, call.began - 10))
    assert leftovers.named(error, call, local=True) is error
