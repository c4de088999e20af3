"""Pages of long lists. A token names the last entry of a page, is bound to the request that it came from, and is good for one life of the server."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from google.protobuf.message import Message

from virtrpc_server import opaque
from virtrpc_server.caller import caller_name
from virtrpc_server.errors import Refusal, refuse
from virtrpc_server.slices import ROWS, breathe

DEFAULT_SIZE = 100
MAX_SIZE = 1000
MAX_BYTES = 1 << 20
MAX_LOOKED_AT = 10_000
"""Entries that one page may pass over in search of those that fit: then it ends short, so that the loop is free again."""
CLOCKWORK = frozenset({"page_size", "page_token", "resume_token", "heartbeat"})

M = TypeVar("M", bound=Message)
Key = tuple[str | int, ...]
Row = tuple[Key, M | None]
"""An entry's key, and its message where it fits."""


class Paged(Protocol):
    """A request for a page."""

    page_size: int
    page_token: str


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """The messages of one page, and the token of the next; empty at the end."""

    messages: list[M]
    next_page_token: str


class Pager:
    """Opens and makes page tokens."""

    def __init__(self, secret: bytes | None = None) -> None:
        # The same text for the same place, and nobody can read in it what the caller was not shown.
        self._cipher = AESSIV(secret or AESSIV.generate_key(256))

    def open(self, request: Message) -> Place:
        """Where the page begins that a request asks for, and how long it may be. Raises INVALID_ARGUMENT, PAGE_TOKEN_INVALID."""
        paged: Paged = request  # type: ignore[assignment] # every list's request has the two fields; tests/test_contract.py holds it
        if paged.page_size < 0:
            raise refuse("INVALID_ARGUMENT", f"page_size {paged.page_size} is negative", field="page_size")
        bound_to = fingerprint(request) + caller_name().encode()
        after = self._open(paged.page_token, bound_to) if paged.page_token else None
        return Place(self, bound_to, after, min(paged.page_size or DEFAULT_SIZE, MAX_SIZE))

    def token(self, bound_to: bytes, key: Key) -> str:
        """The token of the page after this key."""
        return opaque.text_of(self._cipher.encrypt(msgspec.json.encode(key), [bound_to]))

    def _open(self, token: str, bound_to: bytes) -> Key:
        try:
            return msgspec.json.decode(self._cipher.decrypt(opaque.bytes_of(token), [bound_to]), type=Key)
        except (ValueError, InvalidTag):
            raise _foreign() from None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: the page of at most `size` entries that begins after the key `after`."""

    pager: Pager
    bound_to: bytes
    after: Key | None
    size: int

    def cut(self, rows: Iterable[Row[M]]) -> Page[M]:
        """The page that these rows make. They come in the list's order and begin after `after`; one without a message does not fit the filter.

        Ends at `size` entries, at 1 MiB of messages (one is always sent), or after many rows that do not fit.
        """
        draft: _Draft[M] = _Draft(self.size)
        for row in rows:
            if not draft.takes(row):
                return Page(draft.messages, self._token(draft))
        return Page(draft.messages, "")

    async def cut_long(self, rows: Callable[[Key | None], Iterable[Row[M]]], ready: Callable[[Key | None], Awaitable[None]]) -> Page[M]:
        """The same of a list that may be long and may change while others have their turn: `rows` are those after a key, at that moment.

        `ready` is waited for before each slice of ROWS of them: what is to be known of those may take long to find out.
        """
        draft: _Draft[M] = _Draft(self.size, last=self.after)
        while True:
            await ready(draft.last)
            before = draft.looked_at
            for row in islice(rows(draft.last), ROWS):
                if not draft.takes(row):
                    return Page(draft.messages, self._token(draft))
            if draft.looked_at < before + ROWS:
                return Page(draft.messages, "")
            await breathe()

    def _token(self, draft: _Draft[M]) -> str:
        assert draft.last is not None
        return self.pager.token(self.bound_to, draft.last)


@dataclass(slots=True)
class _Draft(Generic[M]):
    """A page in the making."""

    size: int
    last: Key | None = None
    messages: list[M] = field(default_factory=list)
    room: int = MAX_BYTES
    looked_at: int = 0

    def takes(self, row: Row[M]) -> bool:
        """Put a row in, or pass it over where it does not fit the filter; False where the page ends before it."""
        key, message = row
        bytes_ = message.ByteSize() if message is not None else 0
        full = len(self.messages) == self.size or (self.messages and bytes_ > self.room)
        if self.looked_at and (full or self.looked_at >= MAX_LOOKED_AT):
            return False
        if message is not None:
            self.messages.append(message)
            self.room -= bytes_
        self.last = key
        self.looked_at += 1
        return True


def fingerprint(request: Message) -> bytes:
    """A hash of what a request asks for, whichever page or batch of it: its kind and all fields but those."""
    asked: Any = type(request)()
    asked.CopyFrom(request)
    for name in CLOCKWORK & set(request.DESCRIPTOR.fields_by_name):
        asked.ClearField(name)
    text = request.DESCRIPTOR.full_name.encode() + b"\0" + asked.SerializeToString(deterministic=True)
    return hashlib.blake2b(text, digest_size=16).digest()


def _foreign() -> Refusal:
    return refuse(
        "PAGE_TOKEN_INVALID", "the page token is not of this list and filter, or is too old: start again from the first page", field="page_token"
    )
