"""What systemd is told of this server, by sd_notify(3): it listens, it is alive, it drains.

The protocol is one datagram for each message. Of the libraries for it, those that bind libsystemd bring a compiler or a copy of it along,
and the one in Python that is still kept (systemd-watchdog) knows neither STOPPING nor EXTEND_TIMEOUT_USEC and blocks while it sends, which
would stop the event loop whose life it is to show.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, MutableMapping

log = logging.getLogger(__name__)

STATUS_SECONDS = 5.0
"""How often the state in words is told, where it has changed."""
EXTENSION_SECONDS = 30
"""For how long systemd is asked to wait on, again and again while the server drains."""


class Notifier:
    """Speaks for the loop on which it is started: a loop that hangs is not alive. Without a NOTIFY_SOCKET nothing happens.

    `status` is the state in words, for `systemctl status`. What systemd has set is taken out of `environment`: it is not meant for children.
    """

    def __init__(self, status: Callable[[], str], environment: MutableMapping[str, str] = os.environ) -> None:
        self._status = status
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""))
        self._watchdog = _watchdog_seconds(environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""))
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = ""
        self._stopping = False

    def ready(self) -> None:
        """The server listens. From here on it gives signs of life."""
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            self._beat("READY=1")

    def stopping(self) -> None:
        """It drains: that takes as long as it takes."""
        self._stopping = True
        self._beat("STOPPING=1")

    def close(self) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _beat(self, *news: str) -> None:
        if self._socket is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        seconds = STATUS_SECONDS if self._watchdog is None else min(STATUS_SECONDS, self._watchdog / 2)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._beat)
        self._send(self._socket, [*news, *self._signs()])

    def _signs(self) -> list[str]:
        signs = ["WATCHDOG=1"] if self._watchdog is not None else []
        if self._stopping:
            signs.append(f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}")
        status = f"{'draining: ' if self._stopping else ''}{self._status()}"
        if status != self._told:
            self._told = status
            signs.append(f"STATUS={status}")
        return signs

    def _send(self, to: socket.socket, lines: list[str]) -> None:
        if not lines:
            return
        assert self._address is not None
        try:
            to.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:  # systemd is being replaced, or has a queue that is full: the next one may arrive
            log.debug("systemd was not told %s: %s", lines, error)


def _address(name: str) -> str | None:
    """Where to send: a path, or a name in the abstract namespace, which is written with an @."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name or None


def _watchdog_seconds(microseconds: str, pid: str) -> float | None:
    """How long systemd bears to hear nothing; None where it does not listen, or not to this process."""
    if not microseconds.isdecimal() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
