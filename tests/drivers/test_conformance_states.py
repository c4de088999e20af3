"""What every driver says of a domain that went off a moment ago: the server's own look at its state cannot have seen that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.bed import KINDS, Bed
from tests.drivers.conftest import HYPERVISORS
from tests.drivers.test_conformance import example
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError
from virtrpc_server.verbs import NEEDS_ACTIVE

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAKEN = {"test": {"SendProcessSignal"}}
"""What a hypervisor takes for a domain that is off: libvirt's mock forgets what it is given."""


@pytest_asyncio.fixture(params=HYPERVISORS, scope="module", loop_scope="module")
async def shared_bed(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[Bed]:
    """A connected driver of each kind, which may write into one directory."""
    bed = await Bed.open(KINDS[request.param](), path_roots=(str(root),))
    yield bed
    await bed.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That directory."""
    return tmp_path_factory.mktemp("roots")


def an_operation(verb: str, uuid: str, root: Path) -> ops.AnyOperation:
    """One of that verb, whose files may be written."""
    path = str(root / "x")
    match verb:
        case "Save":
            return ops.Save(uuid=uuid, path=path)
        case "DumpCore":
            return ops.DumpCore(uuid=uuid, path=path)
        case "Backup":
            return ops.Backup(uuid=uuid, xml=f"<domainbackup><disks><disk name='vda'><target file='{path}'/></disk></disks></domainbackup>")
        case _:
            return example(verb, uuid)


async def test_what_needs_a_running_domain_says_so(bed: Bed, root: Path) -> None:
    """Each verb that the server asks for running domains only is refused with WRONG_STATE: that it is lacking, or failed, would be untrue."""
    uuid = await bed.defined()
    verbs = {row.verb for row in bed.info.verbs if row.supported} & NEEDS_ACTIVE - TAKEN.get(bed.kind.name, set())
    told = {verb: await _refusal(bed, an_operation(verb, uuid, root)) for verb in sorted(verbs)}
    assert told == dict.fromkeys(told, "WRONG_STATE")
    assert list(root.iterdir()) == []


async def test_a_snapshot_of_memory_needs_a_running_domain(bed: Bed, root: Path) -> None:
    """The memory of a domain that is off cannot go to a file: that is a matter of its state, and not of the XML."""
    xml = f"<domainsnapshot><name>s</name><memory snapshot='external' file='{root / 'memory'}'/></domainsnapshot>"
    assert await _refusal(bed, ops.CreateSnapshot(uuid=await bed.defined(), name="s", xml=xml)) == "WRONG_STATE"
    assert list(root.iterdir()) == []


async def _refusal(bed: Bed, operation: ops.AnyOperation) -> str:
    try:
        await bed.run(operation)
    except DriverError as error:
        return error.reason if error.reason == "WRONG_STATE" else f"{error.reason}: {error.fault.message}"
    return "done"
