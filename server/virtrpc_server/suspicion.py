"""Which guests may be asked for statistics while calls for them hang.

A guest that was wedged while idle hangs the first call that asks its monitor, and nothing tells beforehand. So after a hang no
guest is trusted before it has given a sign of life: its process used CPU since then, or it answered when it was tried alone.
One whose monitor is occupied is not asked at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from virtrpc_drivers.values import Control, Pulse

log = logging.getLogger(__name__)

OCCUPIED = (Control.OCCUPIED, Control.ERROR)
STILL_SECONDS = 2.0
"""A guest that gave no sign of life for so long is left out, and may be tried alone: an idle one wakes about once a second."""


class Suspicion:
    """What is known of one host's running guests since the last hang. `name_of` gives a guest's name, for the log."""

    def __init__(self, host: str, name_of: Callable[[str], str]) -> None:
        self._host = host
        self._name_of = name_of
        self._since: float | None = None
        self._baseline: dict[str, int | None] = {}
        self._noted: tuple[float, dict[str, int | None]] | None = None
        self._trusted: set[str] = set()
        self._stuck: set[str] = set()
        self._tried: dict[str, float] = {}
        self.occupied: set[str] = set()
        """Those whose monitors were occupied when they were last looked at."""
        self.left_out: set[str] = set()
        """Those that are not sampled until they give a sign of life."""

    def note(self, pulses: Iterable[Pulse], now: float) -> None:
        """Keep these pulses to compare with, should what is late now turn out to hang."""
        self._noted = (now, {pulse.uuid: pulse.cpu_time_ns for pulse in pulses})

    def begin(self) -> None:
        """A call hangs: every guest has to show that it lives since the pulses that were noted, or else since the next ones."""
        self._trusted.clear()
        self._since, self._baseline = self._noted or (None, {})
        self._noted = None

    def forget(self) -> None:
        """Nothing hangs any more: all are trusted again, and nobody is left out."""
        self._since = None
        self._trusted.clear()
        self._tried.clear()
        self.occupied = set()
        self._leave_out(set())

    def weigh(self, running: Collection[str], pulses: Sequence[Pulse], stuck: Collection[str], now: float) -> list[str]:
        """Those of the running guests that may be sampled; `stuck` are those that a call for them alone hangs on."""
        if self._since is None:
            self.note(pulses, now)
            self.begin()
        self.occupied = {pulse.uuid for pulse in pulses if pulse.control in OCCUPIED}
        self._stuck = {*stuck}
        # Any difference is a sign of life: a process's total shrinks when one of its threads ends.
        self._trusted |= {pulse.uuid for pulse in pulses if pulse.cpu_time_ns != self._baseline.get(pulse.uuid)}
        good = [uuid for uuid in running if uuid in self._trusted and not self._barred(uuid)]
        still = {uuid for uuid in running if uuid not in self._trusted} if self._is_long_since(now) else set()
        self._leave_out({uuid for uuid in running if self._barred(uuid)} | still)
        return good

    def to_try(self, now: float) -> list[str]:
        """Those that stand still and may yet be well (paused, or just idle), in the order in which to try them alone."""
        if not self._is_long_since(now):
            return []
        return sorted((uuid for uuid in self.left_out if not self._barred(uuid)), key=lambda uuid: self._tried.get(uuid, 0.0))

    def tried(self, uuid: str, now: float, *, answered: bool) -> None:
        """One was tried alone."""
        self._tried[uuid] = now
        if answered:
            self._trusted.add(uuid)
            self._leave_out(self.left_out - {uuid})

    def _barred(self, uuid: str) -> bool:
        return uuid in self.occupied or uuid in self._stuck

    def _is_long_since(self, now: float) -> bool:
        return self._since is not None and now - self._since >= STILL_SECONDS

    def _leave_out(self, uuids: set[str]) -> None:
        for uuid in sorted(uuids - self.left_out):
            log.warning("host %s: guest %s gives no sign of life: its statistics are not asked for until it does", self._host, self._name_of(uuid))
        for uuid in sorted(self.left_out - uuids):
            log.info("host %s: guest %s lives: its statistics are asked for again", self._host, self._name_of(uuid))
        self.left_out = uuids
