"""Messages that are put together of bytes."""

from __future__ import annotations

import pytest

from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_server.serialised import Serialised, field


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000, 3_000_000])
def test_a_field_is_what_protobuf_writes(size: int) -> None:
    """Whatever its length, and in front of other fields of the same message."""
    job = types_pb2.Job(job_id="x" * size, abort_reason="no")
    update = field(types_pb2.JobUpdate.JOB_FIELD_NUMBER, job.SerializeToString())
    assert update == types_pb2.JobUpdate(job=job).SerializeToString()
    change = field(job_pb2.WatchJobsResponse.CHANGES_FIELD_NUMBER, field(job_pb2.JobChange.CURRENT_FIELD_NUMBER, job.SerializeToString()))
    rest = job_pb2.WatchJobsResponse(resume_token="t", caught_up=True)
    joined = job_pb2.WatchJobsResponse.FromString(change * 2 + rest.SerializeToString())
    assert [each.current for each in joined.changes] == [job, job]
    assert (joined.resume_token, joined.caught_up) == ("t", True)


def test_a_high_field_number_takes_two_bytes() -> None:
    """Numbers above 15 do not fit into one with the wire type."""
    chosen = next(number for number in query_pb2.Host.DESCRIPTOR.fields_by_number if number > 15)
    assert field(chosen, b"")[0] & 0x80


def test_bytes_are_made_once_for_each_version() -> None:
    """The same parts give the held bytes; an equal part that is another object does not."""
    held: Serialised[str, bytes] = Serialised()
    first, second = [1], [1]
    made: list[object] = []

    def make() -> bytes:
        made.append(None)
        return bytes(len(made))

    assert [held.get("k", (first, None), make) for _ in range(3)] == [b"\0"] * 3
    assert held.get("k", (second, None), make) == b"\0\0"
    assert len(made) == 2


def test_the_oldest_is_forgotten_beyond_the_limit() -> None:
    """It is made again when it is asked for."""
    held: Serialised[int, bytes] = Serialised(limit=2)
    for number in range(3):
        held.get(number, (held,), lambda: b"old")
    assert held.get(0, (held,), lambda: b"new") == b"new"
    assert held.get(2, (held,), lambda: b"new") == b"old"
