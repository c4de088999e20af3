"""Who calls, and what: made by the guard for each RPC, before anything of its request is read."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import NamedTuple, Protocol

from virtrpc_server.records import Problem


class Way(StrEnum):
    """How a caller showed who it is."""

    UNIX = "unix"
    """By the permissions of the socket."""
    TCP = "tcp"
    """Not at all."""
    TLS = "tls"
    """By a certificate."""
    PROXY = "proxy"
    """By a certificate, which a trusted proxy has seen."""
    TOKEN = "token"
    """By a token that somebody trusted has signed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls."""

    name: str
    """Who owns its jobs and its request_ids: "unix" and "tcp", or one of `names`."""
    way: Way
    names: tuple[str, ...]
    """All that it is known as, `name` first."""
    via: str = field(default="", compare=False)
    """The trusted proxy that says so."""
    until: float | None = field(default=None, compare=False)
    """When its token or certificate ends, as time.time() tells it. With another one it is the same caller still, and so it is by another way in."""

    @property
    def many_names(self) -> tuple[str, ...]:
        """All names where there is more than the one; else none."""
        return self.names if len(self.names) > 1 else ()


BY_SOCKET = Caller("unix", Way.UNIX, ("unix",))
NOBODY = Caller("tcp", Way.TCP, ("tcp",))


class Identity(NamedTuple):
    """Which domain an RPC is about."""

    host: str
    uuid: str
    name: str


@dataclass(eq=False, slots=True)
class Call:
    """One RPC on its way."""

    service: str
    """Such as virtrpc.v1.JobService."""
    rpc: str
    """Such as SaveDomain."""
    streams: bool = False
    """Whether it answers with a stream."""
    reason: str = ""
    """Why, in the caller's words: the header virtrpc-reason."""
    traceparent: str = ""
    """The caller's trace, as it came."""
    began: float = field(default_factory=perf_counter)
    """On the clock of perf_counter."""
    caller: Caller = NOBODY
    """Known before the first gate; an RPC whose caller could not be told keeps this."""
    peer: str = ""
    """Where it came from, as gRPC writes it: unix:, ipv4:10.0.0.1:40000."""
    request_id: str = ""
    """A verb's, once it was read."""
    job_id: str = ""
    """The job that it is about, or has made."""
    accepted: bool = False
    """Whether it has made a job, or found the one that it made when it was first sent."""
    domain: Identity | None = None
    """Once it is known; None until then, and for what is about none or about many."""


class Gate(Protocol):
    """What every RPC must pass before its request is parsed, in a few microseconds: the loop waits for it."""

    def enter(self, call: Call) -> None:
        """Raises Refusal, which is what the caller gets; this gate is then not left."""

    def leave(self, call: Call) -> None:
        """Once the RPC is over."""


class Observer(Protocol):
    """Who is told of every RPC, also of those that no gate let in."""

    def over(self, call: Call, problem: Problem | None) -> None:
        """It has ended: with what went wrong, if anything did. Quick, and never raises."""


_NONE = Call("", "", caller=BY_SOCKET)
call: ContextVar[Call] = ContextVar("call", default=_NONE)
"""The RPC that this task serves."""


def caller_name() -> str:
    """Who owns what this task begins."""
    return call.get().caller.name


def about_job(job_id: str, host: str, uuid: str, name: str) -> None:
    """Note which job the RPC that this task serves is about."""
    this = call.get()
    if this is not _NONE:
        this.job_id = job_id
        this.domain = Identity(host, uuid, name)


def about(host: str, uuid: str, name: str) -> None:
    """Note which domain the RPC that this task serves is about."""
    this = call.get()
    if this is not _NONE:
        this.domain = Identity(host, uuid, name)
