"""What a saved image holds."""

from __future__ import annotations

from virtrpc_drivers.values.base import Value


class SaveImage(Value, frozen=True):
    """Whose memory a file holds, and the definition that it comes back with, without secrets."""

    uuid: str
    name: str
    xml: str
