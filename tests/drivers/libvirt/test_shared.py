"""One connection for all lanes of a host whose driver cannot do with several."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from virtrpc_drivers.libvirt import shared


@dataclass
class Domain:
    """A domain of libvirt's, as far as it is looked at."""

    uuid: str

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return self.uuid


@dataclass
class Connection:
    """A connection of libvirt's, as far as it is used."""

    domains: list[str] = field(default_factory=list)
    closed: bool = False

    def listAllDomains(self, _flags: int) -> list[Domain]:  # noqa: N802 - libvirt's name
        return [Domain(uuid) for uuid in self.domains]

    def close(self) -> None:
        self.closed = True


@dataclass
class Opener:
    """Opens connections to a hypervisor that has these domains."""

    domains: list[str] = field(default_factory=list)
    opened: list[Connection] = field(default_factory=list)

    def __call__(self) -> Connection:
        self.opened.append(Connection(list(self.domains)))
        return self.opened[-1]


@pytest.mark.parametrize(
    ("uri", "needed"),
    [
        ("vmwarews:///session", True),
        ("openvz:///system", True),
        ("qemu:///embed?root=/root", True),
        ("qemu:///system", False),
        ("vmwarews+tls://far/session", False),
    ],
)
def test_who_needs_it(uri: str, needed: bool) -> None:
    """Drivers in this process that keep their domains with a connection, or are registered with each; a daemon has the one connection itself."""
    assert shared.is_needed(uri) is needed


def test_it_is_opened_once_and_closed_by_the_last() -> None:
    """All get the same; giving it back twice counts once."""
    opener = Opener(["a"])
    one = shared.Shared("vmwarews:///session", opener)
    first, second = one.open(), one.open()
    assert len(opener.opened) == 1
    first.close()
    first.close()
    assert [connection.closed for connection in opener.opened] == [False]
    second.close()
    assert [connection.closed for connection in opener.opened] == [True]
    one.open()
    assert len(opener.opened) == 2


def test_an_embedded_driver_is_opened_once_in_a_process() -> None:
    """Its connection stays when all have given it back, and whoever comes later gets the same: each opening uses up a place for good."""
    opener = Opener()
    embedded = shared.Shared("qemu:///embed?root=/root", opener)
    embedded.open().close()
    embedded.open().close()
    assert [connection.closed for connection in opener.opened] == [False]


def test_what_others_made_is_seen_where_all_is_loaded() -> None:
    """A container that is new to the connection has it replaced, for all who have it; nothing new, and it stays."""
    opener = Opener(["a"])
    lent = shared.Shared("openvz:///system", opener).open()
    lent.look_again()
    assert lent.listAllDomains(0) == [Domain("a")]
    opener.domains.append("b")
    lent.look_again()
    assert lent.listAllDomains(0) == [Domain("a"), Domain("b")]


def test_what_is_off_is_not_given_up() -> None:
    """VMware's driver loads what runs: another connection would have lost the rest."""
    opener = Opener(["off"])
    lent = shared.Shared("vmwarews:///session", opener).open()
    opener.domains.clear()
    lent.look_again()
    assert lent.listAllDomains(0) == [Domain("off")]
