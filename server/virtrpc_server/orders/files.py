"""Orders: memory that goes to a file, and comes back. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.lookup import uuid_of
from virtrpc_server.orders.common import MAX_NAME_LENGTH, RESUME_STATES, invalid

MAX_PATH = 4096
CORE_FORMATS = {
    job_pb2.CORE_FORMAT_KDUMP_ZLIB: "kdump_zlib",
    job_pb2.CORE_FORMAT_KDUMP_LZO: "kdump_lzo",
    job_pb2.CORE_FORMAT_KDUMP_SNAPPY: "kdump_snappy",
}


def save(request: job_pb2.SaveDomainRequest, uuid: str) -> op.Save:
    """SaveDomain."""
    return op.Save(
        uuid=uuid,
        path=path_of(request.path),
        overwrite=request.overwrite,
        bypass_cache=request.bypass_cache,
        after_restore=RESUME_STATES.get(request.resume_state, ""),
        xml=_definition(request.xml),
    )


def restore(request: job_pb2.RestoreDomainRequest) -> op.Restore:
    """RestoreDomain."""
    if not request.name:
        raise invalid("name", "the name of the domain in the image is required; GetSaveImage tells it")
    if len(request.name) > MAX_NAME_LENGTH:
        raise invalid("name", f"a domain's name has at most {MAX_NAME_LENGTH} characters")
    return op.Restore(
        uuid=uuid_of(request.uuid, "uuid"),
        name=request.name,
        path=path_of(request.path),
        bypass_cache=request.bypass_cache,
        after=RESUME_STATES.get(request.resume_state, ""),
        xml=_definition(request.xml, request.name),
    )


def dump_core(request: job_pb2.DumpCoreRequest, uuid: str) -> op.DumpCore:
    """DumpCore."""
    core_format = CORE_FORMATS.get(request.format, "raw")
    if core_format != "raw" and not request.memory_only:
        raise invalid("format", "kdump formats need memory_only")
    if request.live + request.crash + request.reset > 1:
        raise invalid("live", "live, crash and reset exclude each other")
    return op.DumpCore(
        uuid=uuid,
        path=path_of(request.path),
        overwrite=request.overwrite,
        format=core_format,
        memory_only=request.memory_only,
        live=request.live,
        crash=request.crash,
        reset=request.reset,
        bypass_cache=request.bypass_cache,
    )


def path_of(path: str, field: str = "path") -> str:
    """A file on the host; the driver looks whether it lies inside the configured roots."""
    if not path.startswith("/") or len(path) > MAX_PATH or "\0" in path:
        raise invalid(field, f"an absolute path of at most {MAX_PATH} characters is required, not {path[:64]!r}")
    return path


def _definition(xml: str, name: str = "") -> str:
    if xml:
        try:
            given = xmls.definition(xml) if name else xmls.parse(xml, "domain")
        except DriverError as error:
            raise Refusal(problem_of(error.fault, field="xml")) from None
        if isinstance(given, xmls.Definition) and given.name != name:
            raise invalid("xml", f"it is the definition of {given.name!r}, not of {name!r}")
    return xml
