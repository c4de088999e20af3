"""Every RPC on every hypervisor: it works, or it is refused as what the hypervisor lacks. docs/hypervisors.md is the table of what was found."""

from __future__ import annotations

import pytest

from tests.hypervisors import cases, ledger
from tests.hypervisors.case import CASES, Case
from tests.hypervisors.ledger import Found
from tests.hypervisors.stage import Stage
from tests.test_api_coverage import contract
from virtrpc import Unsupported, VirtrpcError
from virtrpc.v1 import job_pb2 as j

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(180, func_only=True)]  # what starts a hypervisor may build it first
assert cases.__all__


def rpc_id(rpc: str) -> str:
    """A case's name in the list of tests."""
    return rpc.partition("/")[2]


@pytest.mark.parametrize("rpc", CASES, ids=rpc_id)
async def test_rpc(stage: Stage, rpc: str) -> None:
    """What the hypervisor has works, and what it lacks is UNSUPPORTED_BY_HYPERVISOR before there is a job."""
    case = CASES[rpc]
    ledger.note(stage.kind.name, rpc, Found.FAILED)
    if rpc_id(rpc) in stage.kind.refuses:
        with pytest.raises(VirtrpcError) as caught:
            await case.works(stage)
        assert caught.value.reason == stage.kind.refuses[rpc_id(rpc)]
        # What the machine has not is found out by a job; a wrong state is seen before there is one.
        assert (caught.value.job is None) == (caught.value.reason == "WRONG_STATE")
        ledger.note(stage.kind.name, rpc, Found.REFUSES)
    elif stage.has(rpc_id(rpc)):
        await case.works(stage)
        ledger.note(stage.kind.name, rpc, Found.WORKS)
    else:
        await refused(stage, case)
        ledger.note(stage.kind.name, rpc, Found.LACKS)


async def refused(stage: Stage, case: Case) -> None:
    """A well-formed use is refused for the hypervisor's sake, and leaves no job."""
    assert case.call is not None
    before = [job.job_id async for job in stage.client.list_jobs(filter=j.JobFilter(hosts=[stage.host]))]
    with pytest.raises(Unsupported) as caught:
        await case.call(stage)
    assert caught.value.reason == "UNSUPPORTED_BY_HYPERVISOR"
    assert before == [job.job_id async for job in stage.client.list_jobs(filter=j.JobFilter(hosts=[stage.host]))]
    assert caught.value.job is None


def test_every_rpc_has_a_case() -> None:
    """No RPC of the contract is left out of the matrix."""
    assert {rpc.replace(".", "/") for rpc in contract()} == set(CASES)
