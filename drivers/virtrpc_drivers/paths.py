"""Which files on a host a request may name: those below the configured directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from virtrpc_drivers.errors import Reason, failure


def check(paths: Iterable[str], roots: Sequence[str], *, local: bool) -> None:
    """Refuse a file outside the allowed directories, before the hypervisor hears of it.

    On this machine the real path counts, links resolved; on another one only the path's text can be looked at. Raises PATH_NOT_ALLOWED.
    """
    for path in paths:
        if not _allowed(path, roots, local=local):
            allowed = ", ".join(roots) or "none"
            raise failure(Reason.PATH_NOT_ALLOWED, f"the path {path!r} is not below a directory that this server allows (path_roots: {allowed})")


def check_absent(path: str, *, overwrite: bool, local: bool) -> None:
    """Raises ALREADY_EXISTS where a file would be replaced that nobody said may be."""
    if local and not overwrite and os.path.lexists(path):
        raise failure(Reason.ALREADY_EXISTS, f"the file {path!r} exists already, and the request does not say that it may be written to")


def check_socket(path: str, *, local: bool) -> None:
    """Raises ALREADY_EXISTS where something else than a socket would be removed, so that somebody can listen there."""
    if local and os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise failure(Reason.ALREADY_EXISTS, f"{path!r} is there already, and is no socket")


def place(path: str, roots: Sequence[str], *, local: bool) -> tuple[str, bool]:
    """Where an absolute path leads, and whether that is below one of the directories: by the directory's own name then, whatever it leads to."""
    real = Path(os.path.realpath(path)) if local else PurePosixPath(path)
    named = [(Path(os.path.realpath(root)) if local else PurePosixPath(root), PurePosixPath(root)) for root in roots]
    around = [(root, name) for root, name in named if real != root and real.is_relative_to(root)]
    if not around:
        return str(real), False
    root, name = max(around, key=lambda each: len(each[0].parts))
    return str(name / real.relative_to(root)), True


def _allowed(path: str, roots: Sequence[str], *, local: bool) -> bool:
    plain = PurePosixPath(path)
    return plain.is_absolute() and ".." not in plain.parts and "\0" not in path and place(path, roots, local=local)[1]
