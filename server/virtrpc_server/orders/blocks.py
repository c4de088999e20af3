"""Orders: block jobs. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from xml.etree import ElementTree

from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.values import Steering
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import invalid
from virtrpc_server.orders.files import path_of

FINISHES = {
    types_pb2.BLOCK_JOB_FINISH_PIVOT: "pivot",
    types_pb2.BLOCK_JOB_FINISH_STOP: "stop",
    types_pb2.BLOCK_JOB_FINISH_WAIT: "wait",
}


def pull_block(request: job_pb2.PullBlockRequest, uuid: str) -> op.PullBlock:
    """PullBlock."""
    return op.PullBlock(
        uuid=uuid, disk=_disk(request.disk), base=request.base, bandwidth_bytes_per_second=_bandwidth(request.bandwidth_bytes_per_second)
    )


def copy_block(request: job_pb2.CopyBlockRequest, uuid: str) -> op.CopyBlock:
    """CopyBlock."""
    granularity = _positive("granularity_bytes", request.granularity_bytes)
    if granularity & (granularity - 1):
        raise invalid("granularity_bytes", f"must be a power of two, not {granularity}")
    return op.CopyBlock(
        uuid=uuid,
        disk=_disk(request.disk),
        xml=_destination(request),
        finish=FINISHES.get(request.finish, "wait"),
        bandwidth_bytes_per_second=_bandwidth(request.bandwidth_bytes_per_second),
        shallow=request.shallow,
        reuse_external=request.reuse_external,
        transient_job=request.transient_job,
        granularity_bytes=granularity,
        buffer_bytes=_positive("buffer_bytes", request.buffer_bytes),
    )


def commit_block(request: job_pb2.CommitBlockRequest, uuid: str) -> op.CommitBlock:
    """CommitBlock."""
    if request.finish == types_pb2.BLOCK_JOB_FINISH_STOP:
        raise invalid("finish", "a commit is finished by PIVOT; CancelJob breaks it off")
    return op.CommitBlock(
        uuid=uuid,
        disk=_disk(request.disk),
        base=request.base,
        top=request.top,
        finish=FINISHES.get(request.finish, "pivot"),
        bandwidth_bytes_per_second=_bandwidth(request.bandwidth_bytes_per_second),
        delete=request.delete_committed,
    )


def finish(request: job_pb2.FinishBlockJobRequest) -> Steering:
    """FinishBlockJob."""
    how = FINISHES.get(request.finish, "pivot")
    if how == "wait":
        raise invalid("finish", "PIVOT or STOP")
    return Steering(finish=how)


def speed(request: job_pb2.SetJobSpeedRequest) -> Steering:
    """SetJobSpeed."""
    return Steering(bandwidth_bytes_per_second=_bandwidth(request.bandwidth_bytes_per_second))


def _disk(target: str) -> str:
    if not target or "/" in target:
        raise invalid("disk", "a disk's target is required, such as vda")
    return target


def _bandwidth(value: int) -> int:
    return _positive("bandwidth_bytes_per_second", value)


def _positive(field: str, value: int) -> int:
    if value < 0:
        raise invalid(field, f"must not be negative: {value}")
    return value


def _destination(request: job_pb2.CopyBlockRequest) -> str:
    match request.WhichOneof("destination"):
        case "file":
            return _file(path_of(request.file.path), request.file.format)
        case "xml":
            try:
                xmls.parse(request.xml, "disk")
            except DriverError as error:
                raise Refusal(problem_of(error.fault, field="xml")) from None
            return request.xml
    raise invalid("file", "a destination is required: file or xml")


def _file(path: str, image_format: str) -> str:
    disk = ElementTree.Element("disk", type="file")
    ElementTree.SubElement(disk, "source", file=path)
    if image_format:
        ElementTree.SubElement(disk, "driver", type=image_format)
    return ElementTree.tostring(disk, encoding="unicode")
