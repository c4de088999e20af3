"""Jobs and snapshots in the contract's words."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from msgspec.structs import replace

from tests.server.fake_driver import reading, uuid
from virtrpc.v1 import types_pb2
from virtrpc_drivers import operations, support
from virtrpc_drivers.migration import Reading
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.values import Outcome, Phase, Snapshot, VerbSupport
from virtrpc_server.convergence import Convergence
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Hosts
from virtrpc_server.messages.common import duration, timestamp
from virtrpc_server.messages.jobs import job_message
from virtrpc_server.messages.snapshots import snapshot_message
from virtrpc_server.messages.verbs import KINDS, RPC_OF
from virtrpc_server.orders.migration import migrate
from virtrpc_server.progress import Progress
from virtrpc_server.records import CancelReason, Holder, Job, JobState, OnDisconnect, Problem, WaitingFor

HOSTS = Hosts([])


def job(operation: AnyOperation | None = None, **changes: object) -> Job:
    """A job that was accepted 100 seconds after the epoch."""
    base = Job(
        id="j1",
        host="a",
        uuid=uuid(1),
        name="web",
        generation=1,
        operation=operation or operations.ManagedSave(uuid=uuid(1)),
        owner="unix",
        request_id="r",
        fingerprint="f",
        on_disconnect=OnDisconnect.WITHDRAW,
        wait_limit=30.0,
        run_limit=None,
        created=100.0,
        support=VerbSupport(verb="ManagedSave"),
        updated=110.5,
    )
    return replace(base, **changes)


def test_every_verb_has_its_kind_and_its_rpc() -> None:
    """All of the operations, each under a kind of its own; all kinds of the contract; and the reads that some hypervisor lacks."""
    assert set(KINDS) == set(operations.VERBS)
    assert set(RPC_OF) == set(support.NAMES)
    assert sorted(KINDS.values()) == sorted(set(types_pb2.JobKind.values()) - {types_pb2.JOB_KIND_UNSPECIFIED})
    assert RPC_OF["Suspend"] == "virtrpc.v1.JobService/SuspendDomain"
    assert RPC_OF["RemoveManagedSave"] == "virtrpc.v1.SnapshotService/RemoveManagedSave"


def test_a_queued_job_says_who_is_in_the_way() -> None:
    """The holder by job, and since when; a foreign one by libvirt's words; one whose call never returned as a ghost; and what a holder waits for."""
    holders = (
        Holder(job_id="j0", verb="Suspend", owner="tcp", since=100.5),
        Holder(text="held by monitor=remoteDispatchDomainCoreDump"),
        Holder(job_id="j9", verb="Start", ghost=True),
        Holder(job_id="j8", verb="Start", waiting_for=WaitingFor.DAEMON_BUDGET),
    )
    message = job_message(job(waiting_for=WaitingFor.CONDITION, holders=holders, queue_position=2), HOSTS)
    assert (message.state, message.waiting_for, message.queue_position) == (
        types_pb2.JOB_STATE_QUEUED,
        types_pb2.JOB_WAITING_FOR_CONDITION,
        2,
    )
    first, foreign, ghost, waiting = message.holders
    assert (first.kind, first.owner, first.age.seconds, first.foreign_text, first.ghost) == (
        types_pb2.JOB_KIND_SUSPEND_DOMAIN,
        "tcp",
        10,
        "",
        False,
    )
    assert (foreign.job_id, foreign.foreign_text, foreign.ghost) == ("", "held by monitor=remoteDispatchDomainCoreDump", False)
    assert (ghost.job_id, ghost.ghost, ghost.waiting_for) == ("j9", True, types_pb2.JOB_WAITING_FOR_UNSPECIFIED)
    assert (waiting.ghost, waiting.waiting_for) == (False, types_pb2.JOB_WAITING_FOR_DAEMON_BUDGET)


def test_a_running_job_shows_what_is_known_of_its_progress() -> None:
    """And leaves unset what is not; times that have not come are unset as well."""
    progress = Progress(processed_bytes=5, total_bytes=10, remaining_seconds=1.5, percent=50.0, observed=110.0)
    message = job_message(job(state=JobState.RUNNING, phase=Phase.WAITING_GUEST, started=101.0, progress=progress), HOSTS)
    assert (message.phase, message.progress.processed_bytes, message.progress.eta.nanos) == (types_pb2.JOB_PHASE_WAITING_GUEST, 5, 500_000_000)
    assert not message.progress.HasField("rate_bytes_per_second")
    assert message.HasField("start_time")
    assert not message.HasField("end_time")
    assert not message.HasField("run_timeout")
    assert message.wait_timeout.seconds == 30
    assert message.abortable


def test_a_failed_job_carries_its_error_and_no_result() -> None:
    """The code, the reason and the pairs that the verb's status has."""
    problem = Problem("WAIT_TIMEOUT", "too long", {"holder_job_id": "j0"}, libvirt_code=68, libvirt_domain=10)
    message = job_message(job(state=JobState.FAILED, problem=problem, ended=130.0, cancel_reason=CancelReason.RUN_TIMEOUT), HOSTS)
    assert (message.error.code, message.error.reason, message.error.libvirt_code) == (10, "WAIT_TIMEOUT", 68)
    assert dict(message.error.metadata) == {"holder_job_id": "j0"}
    assert message.WhichOneof("result") is None
    assert (message.cancel_requested, message.cancel_reason, message.abortable) == (True, types_pb2.CANCEL_REASON_RUN_TIMEOUT, False)


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        (operations.Start(uuid=uuid(1)), "domain_result"),
        (operations.Create(uuid=uuid(1), xml="<x/>", name="web"), "domain_result"),
        (operations.Define(uuid=uuid(1), xml="<x/>", name="web"), "define_domain_result"),
        (operations.CreateSnapshot(uuid=uuid(1), name="s", xml="<x/>"), "create_snapshot_result"),
        (operations.Migrate(uuid=uuid(1), destination_uri="qemu+tls://b/system"), "migrate_domain_result"),
    ],
)
def test_each_verb_has_its_result(operation: AnyOperation, result: str) -> None:
    """The typed result of its kind, also where the hypervisor told nothing to put into it."""
    message = job_message(job(operation, state=JobState.SUCCEEDED, ended=130.0), HOSTS)
    assert message.WhichOneof("result") == result


async def test_results_hold_what_the_job_brought() -> None:
    """The domain as read after it, the new snapshot, the place that a guest moved to."""
    domains = Domains()
    entry = domains.read("a", reading(1, 1.0, "web"))
    done = {"state": JobState.SUCCEEDED, "ended": 130.0}
    defined = job_message(job(operations.Define(uuid=uuid(1), xml="<x/>", name="web"), domain=entry, created_domain=True, **done), HOSTS)
    assert (defined.define_domain_result.created, defined.define_domain_result.domain.name) == (True, "web")
    outcome = Outcome(snapshot=Snapshot(name="s", state="running"))
    taken = job_message(job(operations.CreateSnapshot(uuid=uuid(1), name="s", xml="<x/>"), outcome=outcome, **done), HOSTS)
    assert taken.create_snapshot_result.snapshot.domain.name == "web"
    move = operations.Migrate(uuid=uuid(1), destination_uri="", new_name="web2")
    outcome = Outcome(destination_uri="qemu+tls://b/system")
    moved = job_message(job(move, outcome=outcome, destination_host="b", **done), HOSTS).migrate_domain_result
    assert (moved.host, moved.uri, moved.uuid, moved.name) == ("b", "qemu+tls://b/system", uuid(1), "web2")


@pytest.mark.parametrize(
    ("snapshot", "kind", "state"),
    [
        (Snapshot(name="s", state="running"), types_pb2.SNAPSHOT_KIND_ACTIVE, types_pb2.DOMAIN_STATE_RUNNING),
        (Snapshot(name="s", state="shutoff"), types_pb2.SNAPSHOT_KIND_INACTIVE, types_pb2.DOMAIN_STATE_SHUTOFF),
        (Snapshot(name="s", state="disk-snapshot"), types_pb2.SNAPSHOT_KIND_DISK_ONLY, types_pb2.DOMAIN_STATE_SHUTOFF),
        (Snapshot(name="s"), types_pb2.SNAPSHOT_KIND_UNSPECIFIED, types_pb2.DOMAIN_STATE_UNSPECIFIED),
    ],
)
def test_what_a_snapshot_holds(snapshot: Snapshot, kind: int, state: int) -> None:
    """By libvirt's word for its state."""
    message = snapshot_message(snapshot, types_pb2.DomainIdentity(), 1.0)
    assert (message.kind, message.state) == (kind, state)


@pytest.mark.parametrize(
    "step",
    [
        types_pb2.MigrationStep(after=Duration(seconds=1), max_downtime=Duration(nanos=500_000_000)),
        types_pb2.MigrationStep(after=Duration(seconds=1), bandwidth_bytes_per_second=1 << 30),
        types_pb2.MigrationStep(after=Duration(seconds=1), pause=True),
        types_pb2.MigrationStep(after=Duration(seconds=1), post_copy=True),
        types_pb2.MigrationStep(after=Duration(nanos=1_000_000), abort=True),
    ],
)
def test_a_migration(step: types_pb2.MigrationStep) -> None:
    """Its last step is told as it was asked for, its readings with their units, and what was not read is unset."""
    settings = types_pb2.MigrationSettings(host="b", post_copy=types_pb2.MigrationPostCopy(), schedule=[step])
    move = migrate(settings, uuid(1), "qemu+tls://b/system")
    state = Convergence(stalled=2.5).took(200.0).in_vain("refused")
    told = job_message(job(move, migration=Reading(downtime_seconds=0.25, memory_iteration=3), convergence=state), HOSTS).migration
    assert (told.last_step, told.steps_taken, told.last_step_error, told.last_step_time.seconds) == (step, 1, "refused", 200)
    assert (told.downtime, told.stalled) == (Duration(nanos=250_000_000), Duration(seconds=2, nanos=500_000_000))
    assert (told.memory_iteration, told.HasField("expected_downtime"), told.HasField("disk_total_bytes")) == (3, False, False)
    assert not job_message(job(), HOSTS).HasField("migration")


def test_times_keep_their_fractions() -> None:
    """To the nanosecond that a float has; lengths below zero have one sign."""
    moment = timestamp(1.25)
    assert moment is not None
    assert (moment.seconds, moment.nanos) == (1, 250_000_000)
    length = duration(-1.5)
    assert length is not None
    assert (length.seconds, length.nanos) == (-1, -500_000_000)
    assert timestamp(None) is None
