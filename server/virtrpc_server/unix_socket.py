"""A Unix socket that a server listens on: whose it is, and how it comes and goes."""

from __future__ import annotations

import grp
import logging
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

log = logging.getLogger(__name__)

SOCKET_PATH_BYTES = 107


class ListenError(Exception):
    """The server cannot listen where it should; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect, besides the server's own user: that is all that says who a caller on a Unix socket is."""

    mode: int = 0o600
    group: str | None = None


class UnixSocket:
    """One of them; it takes the place of one that nobody answers on."""

    def __init__(self, path: Path, access: Access) -> None:
        self._path, self._access = path.absolute(), access
        self._id: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """As a gRPC client takes it."""
        return f"unix:{self._path}"

    def open(self, bind: Callable[[str], object]) -> None:
        """Have `bind` listen on it. Raises ListenError."""
        path = self._path
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            raise ListenError(f"{path} is too long for a Unix socket: at most {SOCKET_PATH_BYTES} bytes")
        group = self._group()
        try:
            self._make_directory(group)
            _clear(path)
            # The mask and not chmod alone: nobody may connect between the two.
            mask = os.umask(0o177)
            try:
                bind(f"unix:{quote(str(path))}")
            finally:
                os.umask(mask)
            self._id = _file_id(path)
            if group is not None:
                os.chown(path, -1, group)
            path.chmod(self._access.mode)
        except OSError as error:
            raise ListenError(f"cannot listen on {path}: {error}") from error

    def remove(self) -> None:
        """Take it away, so that nobody tries it."""
        # Only ours: another server may have taken the path meanwhile.
        if self._id is not None and _file_id(self._path) == self._id:
            self._path.unlink(missing_ok=True)
        self._id = None

    def _group(self) -> int | None:
        name = self._access.group
        if name is None:
            return None
        try:
            return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
        except KeyError:
            raise ListenError(f"socket_group: there is no group {name!r} on this machine") from None

    def _make_directory(self, group: int | None) -> None:
        directory = self._path.parent
        if directory.exists():
            return
        directory.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        if group is not None and os.geteuid() != 0:
            os.chown(directory, -1, group)
            directory.chmod(0o710)


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _clear(path: Path) -> None:
    """Remove a socket that nobody answers on: gRPC itself would take away one that is in use."""
    if _file_id(path) is None:
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ListenError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            log.info("removing %s: its server is gone", path)
            path.unlink()
            return
        except TimeoutError:
            pass  # it has an owner, who is busy
    raise ListenError(f"another server answers on {path}")
