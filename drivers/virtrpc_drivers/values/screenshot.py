"""What a screen shows."""

from __future__ import annotations

from virtrpc_drivers.values.base import Value


class Screenshot(Value, frozen=True):
    """A picture of a screen, in pieces that are small enough to travel."""

    mime_type: str
    pieces: tuple[bytes, ...]
