"""Pages and their tokens."""

from __future__ import annotations

import asyncio
import itertools
import string
from collections.abc import Iterator

import pytest

from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_server.errors import Refusal
from virtrpc_server.order import Order
from virtrpc_server.paging import MAX_BYTES, MAX_LOOKED_AT, Key, Pager

Request = query_pb2.ListDomainsRequest
Rows = Iterator[tuple[Key, types_pb2.Domain | None]]


class Names:
    """An ordered list of names that comes and goes, and a filter by first letter."""

    def __init__(self, *names: str) -> None:
        self.pager = Pager()
        self.order: Order[tuple[str]] = Order()
        for name in names:
            self.order.add((name,))

    def page(self, request: query_pb2.ListDomainsRequest, letter: str = "") -> tuple[list[str], str]:
        """The names of a page, and the next one's token; the same in one go and in slices."""

        def rows(after: Key | None) -> Rows:
            return ((key, types_pb2.Domain(name=key[0]) if key[0].startswith(letter) else None) for key in self.order.after(after))

        place = self.pager.open(request)
        page, sliced = place.cut(rows(place.after)), asyncio.run(place.cut_long(rows, at_once))
        assert page == sliced
        return [message.name for message in page.messages], page.next_page_token


async def at_once(_after: Key | None) -> None:
    """Nothing is to be waited for."""


def reason(request: query_pb2.ListDomainsRequest, pager: Pager) -> str:
    """Why opening this page is refused."""
    with pytest.raises(Refusal) as caught:
        pager.open(request)
    return caught.value.problem.reason


def test_pages_join_into_the_whole_list() -> None:
    """Each entry once and in order; the last page has no token."""
    names = Names(*(f"n{number:03}" for number in range(25)))
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page, token = names.page(Request(page_size=10, page_token=token))
        seen += page
    assert seen == [f"n{number:03}" for number in range(25)]
    assert token == ""


def test_entries_that_come_and_go_do_not_shift_pages() -> None:
    """What stays is seen exactly once, whatever happens between two pages, also to the entry that the token names."""
    names = Names("b", "d", "f", "h")
    first, token = names.page(Request(page_size=2))
    names.order.discard(("d",))
    names.order.add(("a",))
    names.order.add(("e",))
    second, _ = names.page(Request(page_size=10, page_token=token))
    assert (first, second) == (["b", "d"], ["e", "f", "h"])


def test_the_default_and_the_most() -> None:
    """Unset means 100; more than 1,000 is cut to 1,000; negative is refused."""
    names = Names(*(f"n{number:05}" for number in range(1200)))
    assert len(names.page(Request())[0]) == 100
    assert len(names.page(Request(page_size=5000))[0]) == 1000
    assert reason(Request(page_size=-1), names.pager) == "INVALID_ARGUMENT"


def test_a_page_ends_at_one_mebibyte() -> None:
    """Large messages make short pages that still join into the whole; a message larger than that comes alone."""
    names = Names(*(f"{number}" * 300_000 for number in range(5)), "7" * (MAX_BYTES + 1))
    sizes: list[list[int]] = []
    token = ""
    while not sizes or token:
        page, token = names.page(Request(page_token=token))
        sizes.append([len(name) for name in page])
    assert sizes == [[300_000] * 3, [300_000] * 2, [MAX_BYTES + 1]]


def test_a_search_without_end_is_cut() -> None:
    """A page that finds nothing in a very long list ends empty with a token, and the next goes on from there."""
    names = Names(*(f"a{number:06}" for number in range(MAX_LOOKED_AT + 10)), "z")
    page, token = names.page(Request(), "z")
    assert page == []
    assert names.page(Request(page_token=token), "z") == (["z"], "")


@pytest.mark.parametrize(
    "other",
    [Request(filter=types_pb2.DomainFilter(name_glob="x*")), query_pb2.ListDomainStatsRequest(), query_pb2.ListHostsRequest()],
)
def test_a_token_is_bound_to_its_request(other: query_pb2.ListDomainsRequest) -> None:
    """Another filter's or another list's token is refused; another page size is no other request."""
    names = Names("a", "b", "c")
    _, token = names.page(Request(page_size=1))
    other.page_token = token
    assert reason(other, names.pager) == "PAGE_TOKEN_INVALID"
    assert names.page(Request(page_size=2, page_token=token)) == (["b", "c"], "")


def test_a_forged_or_foreign_token_is_refused() -> None:
    """Garbage, a changed token, and one of another server."""
    names = Names("a", "b", "c")
    _, token = names.page(Request(page_size=1))
    flipped = token[:3] + ("A" if token[3] != "A" else "B") + token[4:]
    for bad in ("x", "%%%", "é", flipped, token[:-4], token + "AAAA"):
        assert reason(Request(page_token=bad), names.pager) == "PAGE_TOKEN_INVALID"
    assert reason(Request(page_token=token), Pager()) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("name", ["a", "aa", "aaa"])
def test_a_token_has_one_spelling(name: str) -> None:
    """Whichever character is changed, the token is refused: also the last one, whose spare bits mean nothing, and padding that was left out."""
    names = Names(name, "b")
    _, token = names.page(Request(page_size=1))
    for place, sign in itertools.product(range(len(token)), string.ascii_letters + string.digits + "-_"):
        if token[place] != sign:
            assert reason(Request(page_token=token[:place] + sign + token[place + 1 :]), names.pager) == "PAGE_TOKEN_INVALID"
    for longer in (token + "=", token + "==", token + "\n", "\n" + token):
        assert reason(Request(page_token=longer), names.pager) == "PAGE_TOKEN_INVALID"
