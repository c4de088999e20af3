"""What every table of the configuration has in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class ConfigurationError(Exception):
    """The configuration cannot be used; each line names a key and says what was expected."""


class Strict(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_list(value: Any) -> Any:
    """A list; as one text (the environment) JSON, or items separated by blanks."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return value.split()
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON list, or items separated by blanks: {error}") from None


def absolute(roots: tuple[Path, ...]) -> tuple[Path, ...]:
    """These directories. Raises ValueError where one is relative or has `..` in it."""
    for root in roots:
        if not root.is_absolute() or ".." in root.parts:
            raise ValueError(f"expected absolute directories without .., not {root}")
    return roots
