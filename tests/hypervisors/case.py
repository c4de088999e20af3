"""The cases of the matrix by RPC: what it does where the hypervisor has it, and a use of it that is well formed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.hypervisors.stage import Call, Stage


@dataclass(frozen=True)
class Case:
    """One RPC."""

    rpc: str
    works: Call
    """Uses it, and looks at what came of it."""
    call: Call | None
    """Uses it, with whatever domain is there; None for those that every hypervisor has."""


CASES: dict[str, Case] = {}
"""By RPC, as "Service/Rpc"."""


def case(rpc: str, call: Call | None = None) -> Callable[[Call], Call]:
    """Registers what an RPC does. `call` is a well-formed use of it, which must be refused where the hypervisor lacks it."""

    def register(works: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
        assert rpc not in CASES, rpc
        CASES[rpc] = Case(rpc, works, call)
        return works

    return register
