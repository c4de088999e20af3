"""What must be known of the domains, by one rule: of two readings the one that began later is right."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtrpc_drivers.values import DomainReading, Group, Listing, Readings, Stamp

Key = tuple[str, str]
"""(host, uuid)."""


@dataclass(slots=True)
class Known:
    """One domain, as all answers so far tell of it."""

    name: str
    life: int
    """Another number for another domain under the same uuid."""
    shown: Stamp
    """The last reading or listing that showed it."""
    named: Stamp
    """The reading that the name is of."""
    groups: dict[Group, DomainReading] = field(default_factory=dict)


class Expected:
    """The domains of all hosts. Answers may come in any order."""

    def __init__(self) -> None:
        self.domains: dict[Key, Known] = {}
        self._lacked: dict[Key, Stamp] = {}
        self._listings: dict[str, tuple[Stamp, frozenset[str]]] = {}
        self._lives = 0
        self._made: dict[Key, Stamp] = {}

    def begin_again(self) -> None:
        """Another life of the server knows nothing yet."""
        for known in (self.domains, self._lacked, self._listings, self._made):
            known.clear()

    def listed(self, host: str, listing: Listing) -> None:
        """All domains of a host, as of the listing's beginning."""
        present = frozenset(row.uuid for row in listing.domains)
        if host not in self._listings or self._listings[host][0] < listing.stamp:
            self._listings[host] = (listing.stamp, present)
        for key in [key for key in self.domains if key[0] == host and key[1] not in present]:
            self._lack(key, listing.stamp)
        for row in listing.domains:
            _ = self._show((host, row.uuid), row.name, listing.stamp)

    def read(self, host: str, readings: Readings) -> None:
        """Domains, or that they are not there."""
        for gone in readings.missing:
            self._lack((host, gone.uuid), gone.stamp)
        for reading in readings.found:
            known = self._show((host, reading.uuid), reading.name, reading.stamp)
            if known is not None:
                if reading.stamp >= known.named:
                    known.name, known.named = reading.name, reading.stamp
                group = Group.STATE if reading.state is not None else Group.CONFIG
                held = known.groups.get(group)
                if held is None or held.stamp < reading.stamp:
                    known.groups[group] = reading

    def made(self, key: Key, stamp: Stamp) -> None:
        """A call that had returned then made this domain, or gave it its name."""
        self._made[key] = stamp

    def may_be_told(self, key: Key) -> bool:
        """Whether a domain that no answer shows may be told, for it was made after the newest look that lacks it."""
        stamp, listing = self._made.get(key), self._listings.get(key[0])
        if stamp is None or (key in self._lacked and self._lacked[key] >= stamp):
            return False
        return listing is None or listing[0] < stamp or key[1] in listing[1]

    def shown_off(self, key: Key) -> bool:
        """Whether any answer shows that a domain is off, or gone."""
        known = self.domains.get(key)
        if known is None:
            return key in self._lacked or (key[0] in self._listings and key[1] not in self._listings[key[0]][1])
        state = known.groups.get(Group.STATE)
        return state is not None and state.state is not None and not state.state.active

    def _show(self, key: Key, name: str, stamp: Stamp) -> Known | None:
        if key in self._lacked and self._lacked[key] >= stamp:
            return None
        known = self.domains.get(key)
        if known is None:
            listing = self._listings.get(key[0])
            if listing is not None and listing[0] > stamp and key[1] not in listing[1]:
                return None
            self._lives += 1
            known = self.domains[key] = Known(name, self._lives, stamp, stamp)
        known.shown = max(known.shown, stamp)
        return known

    def _lack(self, key: Key, stamp: Stamp) -> None:
        known = self.domains.get(key)
        if known is not None and known.shown >= stamp:
            # Which of the two looked later, nobody knows: a reading has a beginning, and the look may be long after it.
            return
        self.domains.pop(key, None)
        self._lacked[key] = max(stamp, self._lacked.get(key, stamp))
