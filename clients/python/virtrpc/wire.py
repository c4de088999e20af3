"""The seam between what this client does and how it waits: one core, written once, runs over an asynchronous and over a blocking wire.

The core awaits nothing but these methods. The blocking wire never suspends, so that `run` can drive the core without an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from google.protobuf.message import Message

from virtrpc.errors import VirtrpcError

T = TypeVar("T")
Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)
Resp_co = TypeVar("Resp_co", bound=Message, covariant=True)

OnBroken: TypeAlias = Callable[[VirtrpcError | None], None]
"""Told what broke a call that is tried again; None where a stream ended that should not have."""


@dataclass(frozen=True)
class Rpc(Generic[Req, Resp]):
    """An RPC of the contract: its name ("QueryService/GetDomain") and the type of its answer."""

    name: str
    answer: type[Resp]

    @property
    def path(self) -> str:
        """As it stands in the HTTP/2 request."""
        return f"/virtrpc.v1.{self.name}"


class Stream(Protocol[Resp_co]):
    """The answers of one open call."""

    async def initial_metadata(self, timeout: float | None = None) -> Mapping[str, str]:
        """Waits for the server's first sign of life; empty where the call failed before it gave any.

        Raises ServerUnavailable where nothing came in `timeout` seconds. The call is over then.
        """
        ...

    async def read(self, timeout: float | None = None) -> Resp_co | None:
        """The next answer; None where the call ended with OK, or was closed here.

        Raises VirtrpcError for every other end, and ServerUnavailable where nothing came in `timeout` seconds. The call is over then.
        """
        ...

    def close(self) -> None:
        """Ends the call: to the server, the caller leaves. Harmless after its end."""
        ...


class Wire(Protocol):
    """A channel to a server."""

    async def unary(self, rpc: Rpc[Req, Resp], request: Req, timeout: float | None) -> Resp:
        """One answer, within `timeout` seconds; raises VirtrpcError."""
        ...

    def stream(self, rpc: Rpc[Req, Resp], request: Req, timeout: float | None, *, patient: bool = False) -> Stream[Resp]:
        """Opens a call that gives many answers for at most `timeout` seconds. A `patient` one waits for a server that is away, at no cost."""
        ...

    def because(self, reason: str) -> Self:
        """The same channel, with another reason for its calls."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Pauses."""
        ...

    async def close(self) -> None:
        """Ends all calls and the channel."""
        ...


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs over a blocking wire."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("the blocking wire was asked to wait for an event loop")


def iterate(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """What an asynchronous generator over a blocking wire gives, one by one; closed when the caller stops."""

    async def step() -> T | _End:
        return await anext(source, _END)

    try:
        while not isinstance(item := run(step()), _End):
            yield item
    finally:
        run(source.aclose())


class _End:
    """What comes after the last item."""


_END = _End()
