"""Messages as bytes: what many streams send is serialised once for each of its versions.

The bytes of two messages of one type, joined, are the message that merging them gives, so a batch is put together from its changes
without being built: protobuf promises that, and the transport sends bytes as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import is_
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
B = TypeVar("B")

MAX_HELD = 2048
LENGTH_DELIMITED = 2


class Serialised(Generic[K, B]):
    """The newest bytes of each of at most `limit` keys; beyond that the one that was put in first is forgotten."""

    def __init__(self, limit: int = MAX_HELD) -> None:
        self._limit = limit
        self._held: dict[K, tuple[tuple[object, ...], B]] = {}

    def get(self, key: K, version: tuple[object, ...], make: Callable[[], B]) -> B:
        """The bytes of this version, made now unless they are held. Versions are compared by identity: their parts are replaced, never changed."""
        held = self._held.get(key)
        if held is not None and all(map(is_, held[0], version)):
            return held[1]
        body = make()
        self._held[key] = (version, body)
        if len(self._held) > self._limit:
            del self._held[next(iter(self._held))]
        return body


def field(number: int, body: bytes) -> bytes:
    """A field of a message type (or one more element of it, where it is repeated) that holds the message with these bytes."""
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
