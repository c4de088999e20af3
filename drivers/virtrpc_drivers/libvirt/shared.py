"""One connection for all lanes, where a libvirt driver cannot do with several: VMware on a desktop, OpenVZ, and QEMU in this process.

The first two keep their domains with the connection: what is defined on one does not exist on another. libvirt loads what the hypervisor lists when
a connection is opened: for VMware the machines that run, for OpenVZ all containers. An embedded driver is registered anew with each connection, in a
table from which nothing is ever removed: libvirt 9.0 opens 16 in a process, closed ones included, and then none any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

SCHEMES = frozenset({"vmwarews", "vmwareplayer", "vmwarefusion", "openvz"})
_LISTS_ALL = frozenset({"openvz"})
"""Those who load all their domains when they are opened."""


def is_needed(uri: str) -> bool:
    """Whether all lanes of this host must have the same connection."""
    return urlsplit(uri).scheme in SCHEMES or _is_embedded(uri)


def _is_embedded(uri: str) -> bool:
    return urlsplit(uri).path == "/embed"


class Shared:
    """Lends one connection out; it is closed when the last who has it has closed it, an embedded driver's never."""

    def __init__(self, uri: str, opener: Callable[[], Any]) -> None:
        self._opener = opener
        self._lists_all = urlsplit(uri).scheme in _LISTS_ALL
        self._kept = _is_embedded(uri)
        self._lock = threading.Lock()
        self._users = 0
        self.connection: Any = None

    def open(self) -> Lent:
        """The connection, opened where it is not."""
        with self._lock:
            if self.connection is None:
                self.connection = self._opener()
            self._users += 1
        return Lent(self)

    def leave(self) -> None:
        """One who had it has it no more."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and not self._kept:
                connection, self.connection = self.connection, None
                connection.close()

    def look_again(self) -> None:
        """Open another one in its place where the hypervisor has other domains by now. That they are paused is not known any more then."""
        if not self._lists_all:
            return
        another = self._opener()
        with self._lock:
            if _uuids(another) != _uuids(self.connection):
                # The one before is closed by its last reference, which a call that is out may have.
                self.connection = another


class Lent:
    """The shared connection, for one who opened it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared.connection, name)

    def look_again(self) -> None:
        """As `Shared.look_again`."""
        self._shared.look_again()

    def close(self) -> None:
        """Give it back."""
        if not self._closed:
            self._closed = True
            self._shared.leave()


def _uuids(connection: Any) -> set[str]:
    return {domain.UUIDString() for domain in connection.listAllDomains(0)}
