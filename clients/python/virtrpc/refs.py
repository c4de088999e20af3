"""How a request names a domain and says how its job is to be run."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Literal, TypeAlias

from google.protobuf.duration_pb2 import Duration

from virtrpc.v1 import types_pb2 as t

DomainLike: TypeAlias = str | t.DomainRef | t.Domain | t.DomainIdentity
Seconds: TypeAlias = float | timedelta

_LEAVING = {"default": t.ON_DISCONNECT_UNSPECIFIED, "detach": t.ON_DISCONNECT_DETACH, "cancel": t.ON_DISCONNECT_CANCEL}


def domain_ref(domain: DomainLike, host: str = "") -> t.DomainRef:
    """The reference for a name, a UUID, HOST/NAME or HOST/UUID, or for a domain out of an earlier answer (by host and UUID).

    `host` stands where the text names none. Raises ValueError where the two name different hosts.
    """
    if isinstance(domain, t.DomainRef):
        return domain
    if isinstance(domain, (t.Domain, t.DomainIdentity)):
        return t.DomainRef(host=domain.host, uuid=domain.uuid)
    before, slash, name = domain.rpartition("/")
    if slash and host and before != host:
        raise ValueError(f"{domain!r} is on host {before!r}, and {host!r} was named as well")
    place = before if slash else host
    return t.DomainRef(host=place, uuid=name) if _is_uuid(name) else t.DomainRef(host=place, name=name)


def job_options(
    *,
    wait_timeout: Seconds | None = None,
    run_timeout: Seconds | None = None,
    on_disconnect: Literal["default", "detach", "cancel"] = "default",
    request_id: str = "",
    heartbeat: Seconds | None = None,
) -> t.JobOptions:
    """How a verb is to be run. Times are seconds or timedeltas; None leaves them to the server (it queues for 30 s and runs without limit).

    Without a `request_id` the client makes one for each call, so that a repeat after a broken connection never runs the verb twice. `heartbeat` is
    how long the job's stream may be silent (15 s unless said, or less where the server is set so); three times that is taken for a dead connection.
    """
    options = t.JobOptions(request_id=request_id, on_disconnect=_LEAVING[on_disconnect])
    if wait_timeout is not None:
        options.wait_timeout.CopyFrom(duration(wait_timeout))
    if run_timeout is not None:
        options.run_timeout.CopyFrom(duration(run_timeout))
    if heartbeat is not None:
        options.heartbeat.CopyFrom(duration(heartbeat))
    return options


def duration(length: Seconds) -> Duration:
    """A length of time, in seconds or as a timedelta, as the contract's Duration."""
    message = Duration()
    message.FromTimedelta(length if isinstance(length, timedelta) else timedelta(seconds=length))
    return message


def _is_uuid(text: str) -> bool:
    # Only the form with hyphens: 32 bare digits are a legal name.
    try:
        return len(text) == 36 and str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
