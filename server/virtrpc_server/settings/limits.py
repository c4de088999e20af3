"""What can be set of how much is let in."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from virtrpc_server.settings.schema import Strict


class LimitSettings(Strict):
    """What one caller may have, and the server take. 0 is no limit."""

    calls_per_second: float = Field(default=2_000.0, ge=0)
    burst: int = Field(default=10_000, ge=1)
    """Calls that may come at once after a silence."""
    streams: int = Field(default=10_000, ge=0)
    jobs: int = Field(default=5_000, ge=0)
    connections: int = Field(default=10_000, ge=0)
    """All callers', on each of the sockets."""
    message_bytes: int = Field(default=4 << 20, ge=2 << 20, le=64 << 20)
    """Of one request, unpacked."""


def read_limits(value: Any) -> Any:
    """A table; as a list (flags) or one text (the environment) NAME=NUMBER, or JSON."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("{") else value.split()
    if isinstance(value, list | tuple):
        pairs = [item.partition("=") for item in value]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("expected NAME=NUMBER, such as jobs=100")
        return {name: number for name, _, number in pairs}
    return value
