"""Errors: each reason of the contract becomes an exception, whatever else a status carries."""

from __future__ import annotations

import grpc
import pytest

from tests.clients.fake import Fake, error_info, refuse
from virtrpc import AsyncClient, errors
from virtrpc.advice import ADVICE
from virtrpc.v1 import types_pb2 as t

REASONS = [name.removeprefix("ERROR_REASON_") for name, number in t.ErrorReason.items() if number]


def test_every_reason_has_a_class_and_an_advice() -> None:
    """The tables name all reasons of the contract, and no others."""
    assert set(errors.BY_REASON) == set(REASONS)
    assert set(ADVICE) == set(REASONS)


def test_every_class_is_one_of_ours() -> None:
    """Whoever catches VirtrpcError catches everything."""
    kinds = {*errors.BY_REASON.values(), *errors.BY_CODE.values()}
    assert all(issubclass(kind, errors.VirtrpcError) for kind in kinds)


async def test_an_error_info_becomes_an_exception(fake: Fake, client: AsyncClient) -> None:
    """Code, reason, message and metadata of a refused call are those that the server sent."""
    fake.on["GetDomain"] = lambda _, context: refuse(
        context, grpc.StatusCode.FAILED_PRECONDITION, "AMBIGUOUS_NAME", "two fit", {"matches": "a/1, b/2"}
    )
    with pytest.raises(errors.AmbiguousName, match="two fit") as caught:
        await client.get_domain("web")
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "AMBIGUOUS_NAME")
    assert error.metadata == {"matches": "a/1, b/2"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
        (grpc.StatusCode.ABORTED, errors.Aborted),
        (grpc.StatusCode.UNKNOWN, errors.OutcomeUnknown),
        (grpc.StatusCode.DATA_LOSS, errors.Internal),
    ],
)
def test_a_newer_server_s_reason_falls_back_to_its_code(code: grpc.StatusCode, kind: type[errors.VirtrpcError]) -> None:
    """A reason that this client does not know gives the class of the status code, and keeps its text."""
    error = errors.from_status(code, "new", error_info("BRAND_NEW"))
    assert type(error) is kind
    assert error.reason == "BRAND_NEW"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServerUnavailable),
        (grpc.StatusCode.CANCELLED, errors.ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unimplemented),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
    ],
)
def test_statuses_that_no_server_of_ours_made(code: grpc.StatusCode, kind: type[errors.VirtrpcError]) -> None:
    """Without an ErrorInfo the code alone decides, and the reason is empty."""
    error = errors.from_status(code, "", None)
    assert type(error) is kind
    assert error.reason == ""


def test_garbage_in_the_details_does_not_hide_the_status() -> None:
    """Details that cannot be read are ignored."""
    error = errors.from_status(grpc.StatusCode.NOT_FOUND, "no", [("grpc-status-details-bin", b"\xff\xff"), ("other", "x")])
    assert type(error) is errors.NotFound


def test_a_job_s_error() -> None:
    """A job's error gives the same exception as the same error of a call, with the job at hand."""
    job = t.Job(job_id="j", error=t.JobError(code=10, reason="PREEMPTED", message="destroyed", metadata={"job_id": "k"}))
    error = errors.from_job(job)
    assert isinstance(error, errors.Preempted)
    assert (error.code, error.message, error.metadata, error.job) == (grpc.StatusCode.ABORTED, "destroyed", {"job_id": "k"}, job)


def test_a_refusal_to_wait_and_a_wait_in_vain_are_both_busy() -> None:
    """Busy catches every error that means: nothing was changed, something is in the way."""
    for reason in ("BUSY", "WAIT_TIMEOUT", "DAEMON_BUDGET_FULL"):
        assert isinstance(errors.make_error(grpc.StatusCode.ABORTED, reason), errors.Busy)
