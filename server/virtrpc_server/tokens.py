"""Whom a bearer token names: a JWT that an identity provider has signed."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from virtrpc_server.errors import NotYet, Refusal, refuse
from virtrpc_server.keys import KeyFile, Keys, KeyUrl
from virtrpc_server.settings.identity import JwtSettings

HEADER = "authorization"
MAX_TOKEN = 12 << 10
MAX_NAME = 255
MAX_GROUPS = 256
CACHE = 4096

_REFUSED: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has ended",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for somebody else (aud)",
    jwt.InvalidIssuerError: "it is not of the issuer that this server trusts (iss)",
    jwt.MissingRequiredClaimError: "it lacks one of exp, iss, aud and sub",
    jwt.InvalidSignatureError: "its signature is wrong",
}


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who brings a token."""

    names: tuple[str, ...]
    """jwt:ISSUER#SUBJECT, then group:ISSUER#GROUP for each group or role."""
    until: float
    """When it ends, as time.time() tells it."""


class Tokens:
    """Checks tokens. What it has found holds until a token ends or the keys change."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        source = KeyFile(settings.jwks_file) if settings.jwks_file is not None else KeyUrl(settings.jwks_url or "")
        self.keys = Keys(source, settings.algorithms)
        if settings.jwks_file is not None:
            self.keys.load()
        self._found: OrderedDict[bytes, Bearer] = OrderedDict()
        self._generation = 0

    def bearer_of(self, header: str) -> Bearer:
        """Who brings this header. Raises Refusal (UNAUTHENTICATED)."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise refuse("UNAUTHENTICATED", "the authorization header is not of the form: Bearer TOKEN")
        if self._generation != self.keys.generation:
            self._found.clear()
            self._generation = self.keys.generation
        # Not the token: whoever reads this process's memory should not find those of all callers.
        mark = hashlib.sha256(token.encode(errors="replace")).digest()
        bearer = self._found.get(mark)
        if bearer is None:
            bearer = self._found[mark] = self._checked(token.strip())
            if len(self._found) > CACHE:
                self._found.popitem(last=False)
        elif time.time() > bearer.until:
            del self._found[mark]
            raise _refusal("it has ended")
        return bearer

    def _checked(self, token: str) -> Bearer:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refusal("it is no JWT") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            raise _refusal("it is signed in a way that this server does not take (alg)")
        candidates = list(self.keys.fitting(key_id, algorithm))
        if not candidates:
            self.keys.want()
            raise Refusal(NotYet("UNAUTHENTICATED", "your token was refused: its key is not known (kid); it is being looked for", retry_seconds=1.0))
        others: list[Exception] = []
        for key in candidates:
            try:
                return self._bearer(self._decoded(token, key.key, algorithm))
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError, TypeError) as error:
                others.append(error)  # another key's, perhaps, or this one is of another kind
            except (jwt.PyJWTError, ValueError, OverflowError) as error:
                raise _refused_for(error) from None
        raise _refused_for(next((error for error in others if isinstance(error, jwt.InvalidSignatureError)), others[0]))

    def _decoded(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token, key, algorithms=[algorithm], issuer=settings.issuer, audience=settings.audience, leeway=settings.leeway_seconds,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )  # fmt: skip

    def _bearer(self, claims: dict[str, Any]) -> Bearer:
        issuer, subject = self._settings.issuer, claims["sub"]
        if not _is_name(subject):
            raise _refusal(f"its subject is not a text of 1 to {MAX_NAME} characters that can be shown (sub)")
        groups = dict.fromkeys(group for claim in self._settings.groups_claims for group in _groups(claims, claim))
        if len(groups) > MAX_GROUPS:
            raise _refusal(f"it has more than {MAX_GROUPS} groups")
        names = (f"jwt:{issuer}#{subject}", *(f"group:{issuer}#{group}" for group in groups))
        return Bearer(names, float(claims["exp"]) + self._settings.leeway_seconds)


def _groups(claims: Any, path: str) -> Iterator[str]:
    """The texts at such a path as realm_access.roles."""
    found = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    for group in found if isinstance(found, list) else () if found is None else (found,):
        if not _is_name(group):
            raise _refusal(f"a group is not a text of 1 to {MAX_NAME} characters that can be shown ({path})")
        yield group


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() and value == value.strip()


def _refused_for(error: Exception) -> Refusal:
    return _refusal(next((words for kind, words in _REFUSED.items() if isinstance(error, kind)), "it cannot be read"))


def _refusal(why: str) -> Refusal:
    return refuse("UNAUTHENTICATED", f"your token was refused: {why}")
