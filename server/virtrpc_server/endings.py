"""How jobs end: each ending with its state and its problem, in the contract's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from virtrpc_drivers.values import Outcome, State
from virtrpc_server.records import CancelReason, Holder, Job, JobState, Problem, WaitingFor


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends. With `ghost` its call is still out, and keeps what the job held."""

    state: JobState
    problem: Problem | None = None
    outcome: Outcome | None = None
    evidence: str = ""
    ghost: bool = False
    unheard: bool = False
    """Its call is over, and nobody heard how: what is seen does not prove that it succeeded, nor perhaps that it did not."""
    waited_for: WaitingFor | None = None
    """What it waited for in vain, and who held it."""
    holders: tuple[Holder, ...] = ()
    cancel_reason: CancelReason | None = None
    """Where the end itself says why: somebody else aborted it."""


class Over(Exception):  # noqa: N818  # not an error: the job's end, found while it waited
    """Carries the ending out of nested waits."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.state)
        self.ending = ending


def failed(reason: str, message: str, **metadata: str) -> Ending:
    """FAILED, with this problem."""
    return Ending(JobState.FAILED, Problem(reason, message, metadata))


def stopped(job: Job, message: str = "") -> Ending:
    """The end of a job that was stopped, by the reason for which it was asked to; without one, somebody else aborted it."""
    match job.cancel_reason:
        case CancelReason.RUN_TIMEOUT:
            words = f"it had not finished after {job.run_limit:g} s"
            return failed("RUN_TIMEOUT", f"{words}: {message}" if message else words, domain=job.uuid)
        case CancelReason.DRAIN:
            return Ending(JobState.INTERRUPTED, Problem("INTERRUPTED", "the server went down before the job began; nothing was sent"))
        case reason:
            why = reason or CancelReason.FOREIGN
            problem = Problem("CANCELLED", message or "the job was cancelled", {"cancel_reason": why.value})
            return Ending(JobState.CANCELLED, problem, cancel_reason=why)


def cut_off(job: Job, now: float) -> Ending | None:
    """The end of a queued job whose server ended; None where it may wait on."""
    if not job.detached:
        return _not_begun("it was not begun with DETACH")
    if job.secret:
        return _not_begun("it carried a secret, which is not stored")
    if job.created + job.wait_limit <= now:
        return _not_begun(f"its wait_timeout of {job.wait_limit:g} s has passed")
    return None


def preempted(job: Job, by: str) -> Ending:
    """PREEMPTED by the destroy with this job id."""
    return Ending(JobState.PREEMPTED, Problem("PREEMPTED", f"domain {job.name} was destroyed", {"job_id": by}))


def stated(ending: Ending, state: State) -> Ending:
    """The same, with the state that was read after the call: where the hypervisor judged, its words do not say it."""
    if ending.problem is None or ending.problem.reason != "WRONG_STATE":
        return ending
    return replace(ending, problem=replace(ending.problem, metadata={"state": state.value, **ending.problem.metadata}))


def in_vain(limit: float, waiting_for: WaitingFor, holders: Sequence[Holder], now: float, about: dict[str, str]) -> Problem:
    """The problem of having waited for `limit` seconds for what these hold; refused at once where the limit is 0."""
    metadata = {**about, "waiting_for": waiting_for.value}
    if holders:
        metadata |= _described(holders[0], now)
    who = ", ".join(_named(holder, now) for holder in holders) or "others"
    what = waiting_for.value.replace("_", " ")
    if limit == 0:
        return Problem("BUSY", f"the {what} is held by {who}, and wait_timeout is 0; nothing was changed", metadata)
    return Problem("WAIT_TIMEOUT", f"waited {limit:g} s for {what}, held by {who}; nothing was changed", metadata)


def _named(holder: Holder, now: float) -> str:
    age = f" for {now - holder.since:.0f} s" if holder.since is not None else ""
    if not holder.job_id:
        return holder.text + age
    state = ""
    if holder.ghost:
        state = "; its call has not returned"
    elif holder.waiting_for is not None:
        state = f"; itself waiting for {_words(holder.waiting_for)}"
    return f"job {holder.job_id} ({holder.verb} by {holder.owner or 'unknown'}{age}{state})"


def _words(waiting_for: WaitingFor) -> str:
    return {
        WaitingFor.CONDITION: "a domain",
        WaitingFor.HOST_LIMIT: "the host's limit",
        WaitingFor.DAEMON_BUDGET: "the daemon's budget",
        WaitingFor.BLOCKED_BY_OTHER: "a job of somebody else's",
    }[waiting_for]


def _described(holder: Holder, now: float) -> dict[str, str]:
    age = "" if holder.since is None else f"{max(0.0, now - holder.since):.1f}"
    pairs = {
        "holder_job_id": holder.job_id,
        "holder_kind": holder.verb,
        "holder_owner": holder.owner,
        "holder_age_seconds": age,
        "holder_foreign_text": holder.text,
    }
    return {key: value for key, value in pairs.items() if value}


def interrupted(words: str) -> Ending:
    """INTERRUPTED, with this evidence."""
    return Ending(JobState.INTERRUPTED, Problem("INTERRUPTED", words), evidence=words)


def _not_begun(why: str) -> Ending:
    return interrupted(f"the server ended while the job was queued, and {why}; nothing was sent")
