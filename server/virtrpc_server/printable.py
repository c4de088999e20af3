"""Texts that somebody else has chosen, as they may be shown and written: on one line, and without what a terminal would obey."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    r"""The same, with \x9b and the like for signs that cannot be shown."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def printable_json(document: bytes) -> bytes:
    r"""The same of a JSON document of one line, which it stays, with \u009b and the like."""
    text = document.decode()
    if text.isprintable():
        return document
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text).encode()
