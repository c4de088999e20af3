"""Who did what: one line for each call that changes something, once it is known what became of it, and for each denial."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.server.world import World, virtual
from virtrpc_drivers.operations import ManagedSave, Suspend
from virtrpc_server.audit import MAX_SORTS, REPEAT_SECONDS, Audit
from virtrpc_server.caller import Call, Caller, Identity, Way
from virtrpc_server.contract import CHANGING, METHODS, role_of
from virtrpc_server.errors import Refusal
from virtrpc_server.guard import MAX_REASON, REASON_METADATA, reason_of
from virtrpc_server.records import Origin, Problem

ALICE = Caller("spiffe://lab/alice", Way.TLS, ("spiffe://lab/alice", "alice.example"))
DENIED = Problem("PERMISSION_DENIED", "the policy says no", {"action": "SaveDomain", "rule": "only-admins"})


class Lines:
    """A sink that a test can read, and break."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.failing = False

    def start(self) -> bytes:
        """Nothing was before."""
        return b""

    def close(self) -> None:
        """Nothing to do."""

    def write(self, line: bytes) -> None:
        """Keep it."""
        self.raw.append(line)

    @property
    def all(self) -> list[dict[str, Any]]:
        """The lines."""
        return [json.loads(line) for line in self.raw]


class Bed:
    """An audit on a clock that stands."""

    def __init__(self, *, required: bool = False) -> None:
        self.lines, self.now = Lines(), 1_700_000_000.0
        self.audit = Audit(self.lines, required=required, clock=lambda: self.now)


def call(rpc: str, **more: Any) -> Call:
    """A call of Alice's."""
    return Call("virtrpc.v1.JobService", rpc, **{"caller": ALICE, "peer": "ipv4:10.0.0.1:40000", **more})


def test_what_changes_something_is_what_the_contract_says() -> None:
    """Every verb, and what acts at once on a job, changes something; no read and no watch does. Roles agree: a viewer may call none of them."""
    verbs = {method.name for method in METHODS if method.output_type.name == "JobUpdate"} - {"WatchJob"}
    assert verbs | {"CancelJob", "TuneMigration", "FinishBlockJob", "SetJobSpeed"} == CHANGING
    assert not [method.name for method in METHODS if method.name in CHANGING and role_of(method) == "viewer"]


def test_a_call_that_changes_something_at_once() -> None:
    """A line has who, from where, by which way, as what, which RPC, about which job and domain, why, and what came of it."""
    bed = Bed()
    this = call("CancelJob", reason="it hangs", job_id="0001-ab", domain=Identity("kvm", "u-1", "web"))
    bed.audit.over(this, None)
    bed.audit.over(this, Problem("JOB_NOT_FOUND", "no such job"))
    common = {
        "time": "2023-11-14T22:13:20.000000+00:00", "event": "call", "rpc": "CancelJob", "caller": "spiffe://lab/alice", "way": "tls",
        "names": ["spiffe://lab/alice", "alice.example"], "peer": "ipv4:10.0.0.1:40000", "host": "kvm", "uuid": "u-1", "domain": "web",
        "job_id": "0001-ab", "reason": "it hangs",
    }  # fmt: skip
    assert bed.lines.all == [{**common, "outcome": "OK"}, {**common, "outcome": "JOB_NOT_FOUND"}]


def test_what_changes_nothing_is_no_line() -> None:
    """Reads and watches leave none, whether or not they fail; nor does a verb whose job is to have one."""
    bed = Bed()
    bed.audit.over(call("GetDomain"), None)
    bed.audit.over(call("GetDomain"), Problem("DOMAIN_NOT_FOUND", "none"))
    bed.audit.over(call("SaveDomain", accepted=True), Problem("OPERATION_FAILED", "no"))
    bed.audit.over(call("GetGuestInfo"), Problem("HYPERVISOR_PERMISSION_DENIED", "the hypervisor's own"))
    assert bed.lines.raw == []


def test_a_verb_that_was_refused() -> None:
    """A verb of which no job was made leaves a line at once, with its request_id."""
    bed = Bed()
    bed.audit.over(call("SaveDomain", request_id="r-1"), Problem("WRONG_STATE", "it is off"))
    (line,) = bed.lines.all
    assert (line["event"], line["outcome"], line["request_id"]) == ("call", "WRONG_STATE", "r-1")


def test_a_flood_of_denials_is_two_lines() -> None:
    """The first denial is told at once, with the policy's rule; the same again only as a number; another caller, RPC or domain has its own."""
    bed = Bed()
    for _ in range(500):
        bed.audit.over(call("GetDomain"), DENIED)
    bed.audit.over(call("ListJobs"), DENIED)
    assert [(line["event"], line["rpc"], line["details"]["rule"]) for line in bed.lines.all] == [
        ("denied", "GetDomain", "only-admins"), ("denied", "ListJobs", "only-admins"),
    ]  # fmt: skip
    bed.now += REPEAT_SECONDS
    bed.audit._tell_repeats()
    assert [line.get("repeats") for line in bed.lines.all] == [None, None, 499]
    bed.audit.over(call("GetDomain"), DENIED)
    assert len(bed.lines.raw) == 4


def test_denials_of_very_many_callers_are_bounded() -> None:
    """However many names and addresses a flood has, few sorts of it are kept, and all are counted."""
    bed = Bed()
    for number in range(5 * MAX_SORTS):
        bed.audit.over(call("GetDomain", caller=Caller(f"c{number}", Way.TLS, (f"c{number}",))), DENIED)
    assert len(bed.audit._denied) <= MAX_SORTS + 1
    bed.audit._tell_repeats(0.0)
    assert sum(1 + line.get("repeats", 0) for line in bed.lines.all if "repeats" not in line or line["repeats"]) >= 5 * MAX_SORTS
    assert len(bed.lines.raw) <= MAX_SORTS + 2


def test_where_audit_is_required() -> None:
    """While no line can be written what changes something is refused, and reads are not; where it is not required, nothing is."""
    bed, lenient = Bed(required=True), Bed()
    bed.audit.enter(call("SaveDomain"))
    bed.lines.failing = lenient.lines.failing = True
    for rpc in ("SaveDomain", "CancelJob", "DestroyDomain"):
        with pytest.raises(Refusal, match="AUDIT_UNAVAILABLE"):
            bed.audit.enter(call(rpc))
        lenient.audit.enter(call(rpc))
    bed.audit.enter(call("GetDomain"))


def test_a_reason_is_short_and_harmless() -> None:
    """The header is cut, and what a terminal would obey is written out."""
    assert reason_of({REASON_METADATA: "because"}) == "because"
    assert reason_of({REASON_METADATA: "red \x1b[31m\n alert"}) == "red \\x1b[31m\\n alert"
    assert len(reason_of({REASON_METADATA: "x" * 10_000})) == MAX_REASON
    assert reason_of({}) == ""


@virtual
async def test_a_job_has_one_line_at_its_end() -> None:
    """A job's line is written when it is over, also where nobody listens: with who began it, why, and what became of it."""
    async with World("sim://a/?domains=4&running=4&save_seconds=5") as world:
        lines = Lines()
        world.jobs.ends = Audit(lines)
        origin = Origin("ManagedSaveDomain", "tls", ALICE.names, "ipv4:10.0.0.1:40000", "maintenance")
        save = world.accept(ManagedSave(uuid=world.guest(1).uuid), owner=ALICE.name, request_id="r", origin=origin)
        await save.stored()
        assert lines.raw == []
        job = await world.run(Suspend(uuid=world.guest(1).uuid), owner="bob", wait_limit=1.0)
        with save:
            pass
        await world.jobs.over(save.job.id)
        assert job.problem is not None
        told = lines.all[::-1]
        assert [(line["rpc"], line["outcome"], line["job_state"]) for line in told] == [
            ("ManagedSaveDomain", "OK", "succeeded"), (job.verb, job.problem.reason, "failed"),
        ]  # fmt: skip
        assert (told[0]["caller"], told[0]["names"], told[0]["reason"], told[0]["domain"]) == (
            ALICE.name, list(ALICE.names), "maintenance", "guest-1",
        )  # fmt: skip


@virtual
async def test_what_a_killed_server_has_not_written() -> None:
    """A job that ended just before the server was killed is told by the next one, unless its line is there; older ones are not told again."""
    async with World("sim://a/?domains=4&running=4") as world:
        jobs = [await world.run(Suspend(uuid=world.guest(number).uuid), owner="alice") for number in (1, 2)]
        first = Lines()
        Audit(first).ended(jobs[0])

        def told(tail: bytes, change: Callable[[Any], Any] = lambda job: job) -> list[str]:
            lines = Lines()
            audit = Audit(lines)
            audit.begin(tail)
            for job in map(change, jobs):
                audit.remembered(job)
            return [line["job_id"] for line in lines.all]

        tail = b"torn line\n" + first.raw[0] + b"\n"
        assert told(tail) == [jobs[1].id]
        assert told(b"") == []
        assert told(tail, lambda job: msgspec.structs.replace(job, ended=job.ended - 3600)) == []


ODD = "a\nb\x1b[31m\x7f\x9b31m\u202e\U000e0041é"


def test_what_somebody_called_something_is_one_line_that_no_terminal_obeys() -> None:
    """Names, ids and peers as well as reasons: it is all there, as escapes."""
    bed = Bed()
    bed.audit.over(call("CancelJob", domain=Identity("h", "u", ODD), request_id=ODD, job_id=ODD), None)
    (raw,) = bed.lines.raw
    assert raw.decode().isprintable()
    assert "é" in raw.decode()
    (line,) = bed.lines.all
    assert (line["domain"], line["request_id"], line["job_id"]) == (ODD, ODD, ODD)


@virtual
async def test_a_job_that_may_not_begin_any_more_names_its_rule() -> None:
    """Its line has the details of the denial."""
    bed = Bed()
    async with World("sim:") as world:
        uuid = world.guest().uuid

        async def denied(_job: Any, _operation: Any) -> None:
            raise Refusal(DENIED)

        world.jobs.judged_anew = denied
        job = await world.end(world.accept(Suspend(uuid=uuid)))
        bed.audit.ended(job)
    (line,) = bed.lines.all
    assert (line["event"], line["outcome"], line["details"]) == ("job", "PERMISSION_DENIED", DENIED.metadata)
