"""How much one caller may have: calls a second, and streams that are open. How many jobs, `jobs.py` asks.

Who may have more is nobody's right but everybody's loss: one loop serves all, in the order in which they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from grpc_health.v1 import health

from virtrpc_server.caller import Call
from virtrpc_server.errors import too_much
from virtrpc_server.settings.limits import LimitSettings

HEALTH = health.SERVICE_NAME
"""Never refused: a mesh that hears no answer from it throws the server out, and with it every other caller."""
MAX_ACCOUNTS = 10_000
"""Callers that are remembered at once."""
STREAM_RETRY_SECONDS = 1.0
LEAST_RETRY_SECONDS = 0.1


class Account:
    """What one caller has."""

    __slots__ = ("calls", "seen", "streams")

    def __init__(self, calls: float, seen: float) -> None:
        self.calls = calls
        """Calls that it may make at once."""
        self.seen = seen
        self.streams = 0


class Limits:
    """A gate. Callers are told apart by their names: all that come by the Unix socket are one, and so are all that nobody has identified."""

    def __init__(self, settings: LimitSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst = settings.calls_per_second, float(settings.burst)
        self._streams = settings.streams or float("inf")
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def enter(self, call: Call) -> None:
        """Count a call. Raises Refusal (RATE_LIMITED, TOO_MANY_STREAMS), and then it is not counted."""
        if call.service == HEALTH:
            return
        account = self._account(call.caller.name)
        if self._rate:
            self._fill(account)
        if call.streams:
            if account.streams >= self._streams:
                raise too_much(
                    "TOO_MANY_STREAMS", f"{call.caller.name} has {account.streams} streams open already", self._streams, STREAM_RETRY_SECONDS
                )
            account.streams += 1
        account.calls -= 1

    def leave(self, call: Call) -> None:
        """A stream is over."""
        if call.streams and call.service != HEALTH:
            self._accounts[call.caller.name].streams -= 1

    def _account(self, name: str) -> Account:
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= MAX_ACCOUNTS:
                self._forget()
            account = self._accounts[name] = Account(self._burst, self._clock())
        return account

    def _fill(self, account: Account) -> None:
        now = self._clock()
        account.calls = min(self._burst, account.calls + (now - account.seen) * self._rate)
        account.seen = now
        if account.calls < 1:
            wait = max(LEAST_RETRY_SECONDS, (1 - account.calls) / self._rate)
            raise too_much("RATE_LIMITED", f"more than {self._rate:g} calls a second", self._rate, wait)

    def _forget(self) -> None:
        """Forget who has no stream open: whoever could have filled its account, or, where that leaves no room, everybody."""
        now = self._clock()
        for idle in (self._burst / self._rate if self._rate else 0.0, 0.0):
            self._accounts = {name: account for name, account in self._accounts.items() if account.streams or now - account.seen < idle}
            if len(self._accounts) < MAX_ACCOUNTS:
                return
