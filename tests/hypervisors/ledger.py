"""What a run of the matrix found: one JSON file a hypervisor, of which the table in docs/hypervisors.md is made."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "build" / "hypervisors"


class Found(StrEnum):
    """What is known of one RPC on one hypervisor."""

    WORKS = "works"
    LACKS = "lacks"
    REFUSES = "refuses"
    FAILED = "failed"


def note(kind: str, rpc: str, found: Found) -> None:
    """Write down what was found of an RPC ("Service/Rpc")."""
    known = read(kind)
    known[rpc] = found
    FOLDER.mkdir(parents=True, exist_ok=True)
    _file(kind).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def forget(kind: str) -> None:
    """Begin a hypervisor's column anew."""
    _file(kind).unlink(missing_ok=True)


def read(kind: str) -> dict[str, Found]:
    """What was found of a hypervisor; empty where it was not run."""
    file = _file(kind)
    return {rpc: Found(found) for rpc, found in json.loads(file.read_text()).items()} if file.exists() else {}


def _file(kind: str) -> Path:
    return FOLDER / f"{kind}.json"
