"""Which file paths a snapshot may name."""

from __future__ import annotations

from collections.abc import Sequence

from virtrpc_drivers import paths
from virtrpc_drivers.xml import parse


def check_paths(xml: str, roots: Sequence[str]) -> None:
    """Raises DriverError (PATH_NOT_ALLOWED) where a `<domainsnapshot>` names a file that does not resolve below one of the roots."""
    root = parse(xml, "domainsnapshot")
    named = [element.get("file") for element in (*root.iterfind("memory"), *root.iterfind("disks/disk/source"))]
    paths.check(filter(None, named), roots, local=True)
