"""Every RPC of the contract, asked about what its caller may not see: it answers as it does of what does not exist."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from tests.server.policed import Denied, Someone, bed, ref
from tests.server.test_policy import BY_NAME
from virtrpc.v1 import job_pb2, query_pb2
from virtrpc_server.caller import Caller
from virtrpc_server.contract import METHODS
from virtrpc_server.policy.decisions import BATCH
from virtrpc_server.policy.engine import Policy, Resource, Verdict

NOBODY = "5d3f0f0e-0000-4000-8000-00000000dead"


def made(method: MethodDescriptor, **fields: Any) -> Any:
    """A request that says no more than this."""
    return message_factory.GetMessageClass(method.input_type)(**fields)


def having(field: str) -> Iterator[MethodDescriptor]:
    """The RPCs whose requests have this field."""
    return (method for method in METHODS if field in method.input_type.fields_by_name)


async def answered(someone: Someone, rpc: str, request: Any) -> str:
    """How an RPC ends."""
    try:
        return str(await someone.ask(rpc, request))
    except Denied as denied:
        return f"{denied.code} {denied.message} {denied.info}"


async def test_a_domain_that_is_not_seen_is_one_that_does_not_exist(tmp_path: Path) -> None:
    """By name and by uuid, of every RPC about a domain, in the very words."""
    async with bed(tmp_path, BY_NAME) as server:
        web, hidden = server.who("web"), server.core.domains.by_name("guest-2")[0].uuid
        asked = list(having("domain"))
        assert len(asked) > 60
        for method in asked:
            for unseen, nothing in (({"name": "guest-2"}, {"name": "guest-9"}), ({"uuid": hidden}, {"uuid": NOBODY})):
                told = await answered(web, method.name, made(method, domain=unseen))
                (value,), (other,) = unseen.values(), nothing.values()
                assert told.replace(value, other) == await answered(web, method.name, made(method, domain=nothing)), method.name
                assert "NOT_FOUND" in told, method.name


async def test_a_job_that_is_not_seen_is_one_that_does_not_exist(tmp_path: Path) -> None:
    """Of every RPC about a job, in the very words."""
    async with bed(tmp_path, BY_NAME, "sim://a/?domains=4&running=4&save_seconds=1000") as server:
        save = server.who("operator").call("ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref("guest-2")))
        job_id = (await save.read()).job.job_id
        other = f"{int(job_id[0], 16) ^ 1:x}{job_id[1:]}"
        asked = list(having("job_id"))
        assert len(asked) > 5
        for method in asked:
            told = await answered(server.who("web"), method.name, made(method, job_id=job_id))
            assert told.replace(job_id, other) == await answered(server.who("web"), method.name, made(method, job_id=other)), method.name
            assert "NOT_FOUND" in told or "INVALID_ARGUMENT" in told, method.name
        assert job_id not in str(await server.who("web").ask("ListJobs", job_pb2.ListJobsRequest()))
        save.cancel()


async def test_no_list_names_a_domain_that_is_not_seen(tmp_path: Path) -> None:
    """With no filter, and with one that names it."""
    async with bed(tmp_path, BY_NAME) as server:
        (hidden,) = server.core.domains.by_name("guest-2")
        for rpc in ("ListDomains", "ListDomainStats"):
            for wanted in ({}, {"uuids": [hidden.uuid]}, {"name_glob": "guest-2"}):
                request = getattr(query_pb2, f"{rpc}Request")(filter=wanted)
                told = await answered(server.who("web"), rpc, request)
                assert "guest-2" not in told
                assert hidden.uuid not in told


async def test_a_long_list_lets_others_have_their_turn_between_a_few_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after the rules have changed, too, when none is known: a thousand rules make each of them slow."""
    async with bed(tmp_path, BY_NAME, "sim://a/?domains=300") as server:
        turn, taken, decide = 0, Counter[int](), Policy.decide

        async def count() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        def decided(self: Policy, caller: Caller, asked: Sequence[tuple[str, Resource]]) -> list[Verdict]:
            taken[turn] += len(asked)
            return decide(self, caller, asked)

        monkeypatch.setattr(Policy, "decide", decided)
        turns = asyncio.create_task(count())
        assert len(await server.who("web").names()) == 100
        assert taken.total() >= 300
        assert max(taken.values()) <= BATCH
        turns.cancel()
