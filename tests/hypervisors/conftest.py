"""Fixtures of the matrix: each hypervisor is started once, with a server in front of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.server import Server
from tests.hypervisors import ledger
from tests.hypervisors.inside import InsideServer
from tests.hypervisors.kind import Kind
from tests.hypervisors.kinds import KINDS, Simulated
from tests.hypervisors.stage import Column, Stage, live, rows_of


def chosen() -> list[type[Kind]]:
    """The hypervisors that HYPERVISORS names, or all."""
    names = os.environ.get("HYPERVISORS", "").split()
    unknown = set(names) - {kind.name for kind in KINDS}
    if unknown:
        raise pytest.UsageError(f"HYPERVISORS names {', '.join(sorted(unknown))}; there are {', '.join(kind.name for kind in KINDS)}")
    return [kind for kind in KINDS if not names or kind.name in names]


@dataclass
class Served:
    """A hypervisor with a server in front of it."""

    column: Column
    server: Server | InsideServer


@pytest.fixture(scope="module", params=chosen(), ids=lambda kind: kind.name)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A column, up and LIVE. Skipped, with the reason, where the hypervisor cannot be started on this machine."""
    kind: type[Kind] = request.param
    reason = kind.missing()
    if reason is not None:
        pytest.skip(f"{kind.title}: {reason}")
    if not request.config.getoption("keyword"):
        # A run of some cases alone adds to what was found of the others.
        ledger.forget(kind.name)
    with kind() as bed:
        if isinstance(bed, Simulated):
            with InsideServer(str(bed.path / "s"), bed.hosts, (str(bed.path),)) as inside:
                yield Served(Column(bed), inside)
        else:
            with Server(bed.hosts, **bed.settings) as server:
                server.wait_live()
                yield Served(Column(bed), server)
                server.assert_no_fault_of_its_own()


@pytest.fixture
async def stage(served: Served) -> AsyncIterator[Stage]:
    """A case's view of it."""
    here, *others = served.column.kind.hosts
    async with served.server.client() as client:
        if not served.column.table:
            await live(client, *served.column.kind.hosts)
            served.column.table = await rows_of(client, here)
        stage = Stage(served.column, client, here, others[0] if others else None)
        await stage.there()
        yield stage
