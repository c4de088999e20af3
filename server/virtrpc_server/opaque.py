"""Bytes that a caller keeps for us, as a text that fits a URL."""

from __future__ import annotations

import base64


def text_of(body: bytes) -> str:
    """Base64 for URLs, without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def bytes_of(text: str) -> bytes:
    """What such a text holds. Raises ValueError for one that `text_of` does not make: the last character has spare bits, which a decoder ignores."""
    body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if text_of(body) != text:
        raise ValueError("another spelling of the same bytes")
    return body
