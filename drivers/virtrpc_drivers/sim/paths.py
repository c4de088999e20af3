"""Which file paths a snapshot may name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.xml import parse


def check_paths(xml: str, roots: Sequence[str]) -> None:
    """Raises DriverError (PATH_NOT_ALLOWED) where a `<domainsnapshot>` names a file that does not resolve below one of the roots."""
    root = parse(xml, "domainsnapshot")
    named = [element.get("file") for element in (*root.iterfind("memory"), *root.iterfind("disks/disk/source"))]
    for path in filter(None, named):
        if not any(Path(path).resolve().is_relative_to(Path(allowed).resolve()) for allowed in roots):
            raise failure(Reason.PATH_NOT_ALLOWED, f"{path!r} is not below a directory that this host allows")
