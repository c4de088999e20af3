"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from google.protobuf.message import Message

from virtrpc.v1 import types_pb2 as t

Page = TypeVar("Page", bound=Message)
Item = TypeVar("Item")


class AsyncListing(Generic[Page, Item]):
    """A list that is asked for page by page while it is iterated; every iteration asks anew."""

    def __init__(self, fetch: Callable[[str], Awaitable[Page]], items: Callable[[Page], Iterable[Item]]) -> None:
        self._fetch = fetch
        self._items = items
        self.unreachable: tuple[t.UnreachableHost, ...] = ()
        """The hosts that are not LIVE, as the last page named them: their entries are STALE or missing."""

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return self.entries()

    async def entries(self) -> AsyncGenerator[Item, None]:
        """What iterating gives."""
        async for page in self.pages():
            for item in self._items(page):
                yield item

    async def pages(self) -> AsyncGenerator[Page, None]:
        """The answers themselves, one for each page."""
        token = ""
        while True:
            page = await self._fetch(token)
            self.unreachable = tuple(getattr(page, "unreachable", ()))
            yield page
            token = getattr(page, "next_page_token", "")
            if not token:
                return

    async def all(self) -> list[Item]:
        """Every entry of every page."""
        return [item async for item in self.entries()]

    async def merged(self) -> Page:
        """One answer with the entries of all pages."""
        whole: Page | None = None
        async for page in self.pages():
            if whole is None:
                whole = page
            else:
                # Told anew by each page, where MergeFrom would add them up.
                if "unreachable" in whole.DESCRIPTOR.fields_by_name:
                    whole.ClearField("unreachable")
                whole.MergeFrom(page)
        assert whole is not None, "a listing has at least one page"
        if "next_page_token" in whole.DESCRIPTOR.fields_by_name:
            whole.ClearField("next_page_token")
        return whole
