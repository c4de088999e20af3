"""What can be set of each host."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from pydantic import Field, field_validator

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.settings.schema import Strict, absolute, read_list

DEFAULT_HOST = "local"
DEFAULT_URI = "qemu:///system"

_NAMED_HOST = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class HostSettings(Strict):
    """One host. `migrations` and `saves` run at once; `workers` overrides what the daemon says it guarantees."""

    name: str = DEFAULT_HOST
    uri: str
    read_only: bool = False
    path_roots: tuple[Path, ...] | None = None
    """Directories below which file paths in requests must resolve; None means the server's."""
    migration_uri: str = ""
    """How other hosts' daemons reach this one, where that is not `uri`."""
    migrations: int = Field(default=4, ge=1)
    saves: int = Field(default=4, ge=1)
    workers: int | None = Field(default=None, ge=1)
    audit_seconds: float = Field(default=60.0, gt=0)
    sample_seconds: float = Field(default=1.0, gt=0)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"expected up to 64 letters, digits, dots, dashes and underscores, not {name!r}")
        return name

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: str) -> str:
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri) or re.search(r"\s", uri):
            raise ValueError("expected a libvirt URI, such as qemu:///system")
        if uri.startswith("sim:"):
            try:
                from_uri(uri)
            except DriverError as error:
                raise ValueError(error.fault.message) from None
        return uri

    @field_validator("path_roots")
    @classmethod
    def _check_roots(cls, roots: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        return roots if roots is None else absolute(roots)


def parse_host(text: str) -> dict[str, str]:
    """NAME=URI, or a URI alone for the host "local". A URI may hold an = of its own."""
    named = _NAMED_HOST.fullmatch(text)
    return {"name": named[1], "uri": named[2]} if named else {"name": DEFAULT_HOST, "uri": text}


def read_hosts(value: Any) -> Any:
    """A list of tables or of NAME=URI; as one text (the environment) JSON, or NAME=URI separated by blanks."""
    if isinstance(value, str):
        value = read_list(value)
    if isinstance(value, list | tuple):
        return [parse_host(item) if isinstance(item, str) else item for item in value]
    return value


def shown(uri: str) -> str:
    """A URI without its password, for people and logs."""
    parts = urlsplit(uri)
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{place}")) if ":" in user else uri


def embed_root(uri: str) -> str | None:
    """Where a URI embeds a hypervisor in the driver process; None where it does not."""
    parts = urlsplit(uri)
    if parts.path != "/embed":
        return None
    return os.path.normpath((parse_qs(parts.query).get("root") or [""])[0])
