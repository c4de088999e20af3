"""What a read of domains, and a listing, answer."""

from __future__ import annotations

from enum import StrEnum

from virtrpc_drivers.values.base import Stamp, Value
from virtrpc_drivers.values.definition import DomainConfig
from virtrpc_drivers.values.state import DomainState


class Group(StrEnum):
    """A part of a cache entry that is read, and replaced, as a whole."""

    STATE = "state"
    CONFIG = "config"


class DomainReading(Value, frozen=True):
    """One domain as one call saw it: the groups that were asked for and could be read."""

    uuid: str
    name: str
    stamp: Stamp
    state: DomainState | None = None
    config: DomainConfig | None = None


class Missing(Value, frozen=True):
    """The hypervisor said, for a call begun at `stamp`, that no domain has this uuid."""

    uuid: str
    stamp: Stamp


class Failed(Value, frozen=True):
    """A domain that is there, and could not be read this time."""

    uuid: str
    message: str


class Readings(Value, frozen=True):
    """The answer to a read: each uuid asked for is in one of the three, unless `rest` names it as not looked at (size limit)."""

    found: tuple[DomainReading, ...] = ()
    missing: tuple[Missing, ...] = ()
    failed: tuple[Failed, ...] = ()
    rest: tuple[str, ...] = ()


class Listed(Value, frozen=True):
    """One row of a listing."""

    uuid: str
    name: str
    id: int | None = None
    """Its number while it runs, -1 while it is off; None where the listing does not say."""


class Listing(Value, frozen=True):
    """All domains of the host, active or not, at `stamp`."""

    stamp: Stamp
    domains: tuple[Listed, ...]
