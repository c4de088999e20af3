"""The table of errors is whole: every reason of the contract and every reason of a driver has its row."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import StatusCode

from virtrpc.v1 import types_pb2
from virtrpc_drivers.errors import Fault, Reason
from virtrpc_server.errors import FROM_DRIVER, MESSAGE_BYTES, STATUS, code_of, not_yet, problem_of, refuse, rich_status, status_of
from virtrpc_server.records import Problem

TYPES = Path(__file__).resolve().parent.parent / "proto/virtrpc/v1/types.proto"


def promised() -> dict[str, str]:
    """Reason → status name, as the comments of ErrorReason begin."""
    enum = TYPES.read_text().partition("enum ErrorReason {")[2]
    found = re.findall(r"^  // ([A-Z_]+): (?:.*\n)*?  ERROR_REASON_([A-Z_]+) =", enum, re.MULTILINE)
    return {reason: status for status, reason in found}


def details(problem: Problem) -> status_pb2.Status:
    """The google.rpc.Status that travels in the trailers."""
    return status_pb2.Status.FromString(dict(rich_status(problem).trailing_metadata)["grpc-status-details-bin"])


def test_every_reason_of_the_contract_has_the_status_that_its_comment_promises() -> None:
    """STATUS has a row for each ErrorReason and for nothing else, and it is the one that types.proto says."""
    contract = {name.removeprefix("ERROR_REASON_") for name in types_pb2.ErrorReason.keys()}  # noqa: SIM118 # an enum wrapper is no mapping
    assert set(STATUS) == contract
    assert promised() == {reason: status.name for reason, status in STATUS.items() if reason != "UNSPECIFIED"}


def test_every_reason_of_a_driver_has_a_row() -> None:
    """FROM_DRIVER leads from each driver Reason to a reason of the contract."""
    assert set(FROM_DRIVER) == set(Reason)
    assert set(FROM_DRIVER.values()) <= set(STATUS)


@pytest.mark.parametrize("reason", STATUS)
def test_a_status_says_the_same_in_all_its_parts(reason: str) -> None:
    """Code, google.rpc.Code and ErrorInfo of a problem agree, and the metadata travels with it."""
    problem = Problem(reason, "what happened", {"host": "a"})
    status = rich_status(problem)
    rich = details(problem)
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert status.code == status_of(problem) == STATUS[reason]
    assert rich.code == code_of(problem) == code_pb2.Code.Value(status.code.name)
    assert (info.domain, info.reason, dict(info.metadata)) == ("virtrpc", reason, {"host": "a"})
    assert rich.message == status.details == "what happened"


def test_what_is_over_soon_says_when_to_come_back() -> None:
    """RetryInfo goes with DRAINING, with a host that is only just being reached, and with nothing else."""
    retry = error_details_pb2.RetryInfo()
    assert details(Problem("DRAINING", "going down")).details[1].Unpack(retry)
    assert retry.retry_delay.seconds > 0
    assert details(not_yet("coming").problem).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 500
    assert len(details(Problem("BUSY", "later")).details) == 1


def test_long_texts_are_cut_to_what_trailers_carry() -> None:
    """A message or metadata of any length leaves trailers under 8 KiB, cut at a whole character, with an ellipsis."""
    status = rich_status(Problem("OPERATION_FAILED", "ä" * 100_000, {"matches": "h/" * 50_000, "more": "x"}))
    rich = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    assert len(status.details.encode()) <= MESSAGE_BYTES
    assert status.details.endswith("ä…")
    assert 3 * len(status.details.encode()) + 4 * rich.ByteSize() / 3 < 8192


def test_a_fault_keeps_what_libvirt_said() -> None:
    """Message and libvirt's numbers pass through problem_of; the caller's metadata is added."""
    problem = problem_of(Fault(reason=Reason.WRONG_STATE, message="domain is not running", libvirt_code=55, libvirt_domain=10), domain="web")
    assert problem == Problem("WRONG_STATE", "domain is not running", {"domain": "web"}, 55, 10)


def test_an_internal_fault_keeps_its_text_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What a driver did not expect reaches the caller as an error_id only."""
    with caplog.at_level(logging.ERROR):
        problem = problem_of(Fault(reason=Reason.INTERNAL, message="secret detail"), host="a")
    assert "secret" not in str(problem)
    assert problem.metadata["host"] == "a"
    assert problem.metadata["error_id"] in caplog.text
    assert "secret detail" in caplog.text


def test_an_unknown_reason_is_a_mistake_of_ours() -> None:
    """refuse() takes reasons of the contract only; a stored one that is not known has the status UNKNOWN."""
    with pytest.raises(KeyError):
        refuse("NO_SUCH_REASON", "")
    assert status_of(Problem("FROM_A_NEWER_SERVER", "")) is StatusCode.UNKNOWN
    assert refuse("BUSY", "later", host="a").problem == Problem("BUSY", "later", {"host": "a"})
