"""What a repeated request_id is known again by: a hash of its request, slow where the request carries a secret.

A journal file may be read by more than the server, and a weak password could be guessed from a fast hash of the request that held it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from google.protobuf.message import Message

_SEALED = "scrypt:"
_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 1
"""scrypt's n, r and p: 16 MiB and some 50 ms for each guess. Journals hold what they gave: other ones need another prefix."""


def fingerprint(request: Any) -> str:  # any verb's request message
    """A hash of the request without its clocks, request_id and on_disconnect."""
    copy: Message = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("options")
    return hashlib.sha256(type(request).__name__.encode() + copy.SerializeToString(deterministic=True)).hexdigest()


def sealed(digest: str, owner: str, request_id: str) -> str:
    """A fingerprint as it is kept of a request with a secret: slow, so not on the loop.

    The salt is the request_id's own, not random: two calls that come at once must get the same.
    """
    salt = f"{owner}\0{request_id}".encode()
    return _SEALED + hashlib.scrypt(digest.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL).hex()


def is_sealed(kept: str) -> bool:
    """Whether a fingerprint is that of a request with a secret. Those that older journals hold are not."""
    return kept.startswith(_SEALED)
