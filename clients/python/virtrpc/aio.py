"""The asynchronous client."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Generic, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from virtrpc import errors, trace
from virtrpc.address import resolve_address
from virtrpc.core import DEFAULT_TIMEOUT, Core
from virtrpc.credentials import Credentials, Line, Metadata, Tls, Token, reason_metadata
from virtrpc.jobs import AsyncJobHandle
from virtrpc.listing import AsyncListing, Page
from virtrpc.refs import Seconds
from virtrpc.table import Item, Lister, Pieces, Read, Verb, Watcher
from virtrpc.watch import AsyncWatch, Batch
from virtrpc.wire import Req, Resp, Rpc


class AsyncClient(Core):
    """A connection to a virtrpc server, to be used on one event loop; `async with` closes it.

    `address` is a Unix socket (`unix:///path`, or the path alone) or `host:port`; without one, $VIRTRPC_ADDRESS or the default socket. `timeout`
    and `listen_timeout` are the clocks of `within`. Nothing is connected before the first call.

    `tls` is for HOST:PORT: a `Tls`, or True for what $VIRTRPC_CA, $VIRTRPC_CERTIFICATE, $VIRTRPC_KEY and $VIRTRPC_SERVER_NAME say, which is also
    what None means where one of them is set; False is without. `token` is a token's text, a Path to its file, or a function that gives it; without
    it $VIRTRPC_TOKEN or $VIRTRPC_TOKEN_FILE. `credentials` stands for both. Raises ValueError for what cannot be used, as a token without TLS.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: Tls | bool | None = None,
        token: Token | None = None,
        credentials: Credentials | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        listen_timeout: float | None = None,
    ) -> None:
        self.address = resolve_address(address)
        super().__init__(AioWire(self.address, credentials or Credentials(self.address, tls, token)), timeout, listen_timeout)

    def watch_job(self, job_id: str, *, heartbeat: Seconds | None = None) -> AsyncJobHandle:
        """A handle on a job that somebody has started. Nothing is asked before it is iterated or waited for; closing it leaves the job alone.

        `heartbeat` is how long its stream may be silent, in seconds or as a timedelta, instead of 15 s.
        """
        return self._attach(job_id, heartbeat)

    async def close(self) -> None:
        """Ends all calls and the connection."""
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    def _read(self, row: Read[..., Any], request: Message) -> Coroutine[Any, Any, Any]:
        return self._ask(row, request)

    def _list(self, row: Lister[..., Page, Item], request: Message) -> AsyncListing[Page, Item]:
        return self._pages(row, request)

    def _pieces(self, row: Pieces[..., Any], request: Message) -> Coroutine[Any, Any, Any]:
        return self._gather(row, request)

    def _verb(self, row: Verb[...], request: Message) -> Coroutine[Any, Any, AsyncJobHandle]:
        return self._accept(row, request)

    def _watch(self, row: Watcher[..., Batch], request: Message) -> AsyncWatch[Batch]:
        return self._follow(row, request)


class AioWire:
    """grpc.aio behind the seam."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        # Its channel is not made here: one belongs to the loop that is running then.
        self._line: Line[grpc.aio.Channel] = Line(address, credentials, grpc.aio.insecure_channel, grpc.aio.secure_channel)
        self._reason: Metadata = ()

    async def unary(self, rpc: Rpc[Req, Resp], request: Req, timeout: float | None) -> Resp:
        """See Wire."""
        channel = self._line.channel()
        call: Callable[..., Any] = channel.unary_unary(rpc.path, _encode, rpc.answer.FromString)
        try:
            answer: Resp = await call(request, timeout=timeout, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None
        return answer

    def stream(self, rpc: Rpc[Req, Resp], request: Req, timeout: float | None, *, patient: bool = False) -> AioStream[Resp]:
        """See Wire."""
        channel = self._line.channel()
        call: Callable[..., Any] = channel.unary_stream(rpc.path, _encode, rpc.answer.FromString)
        return AioStream(call(request, timeout=timeout, wait_for_ready=patient, metadata=self._metadata()), channel)

    def because(self, reason: str) -> Self:
        """See Wire."""
        other = copy.copy(self)
        other._reason = reason_metadata(reason)
        return other

    async def sleep(self, seconds: float) -> None:
        """See Wire."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """See Wire."""
        for channel in list(self._line.opened):
            await channel.close()

    def _metadata(self) -> Metadata:
        return (*self._line.metadata(), *self._reason, *trace.headers())


class AioStream(Generic[Resp]):
    """An open call of grpc.aio."""

    def __init__(self, call: Any, channel: grpc.aio.Channel) -> None:
        self._call = call
        self._channel = channel
        """Kept: a channel that nobody has any more is closed."""
        self._closed = False

    async def initial_metadata(self, timeout: float | None = None) -> Mapping[str, str]:
        """See Stream."""
        try:
            async with asyncio.timeout(timeout):
                return {key: value for key, value in await self._call.initial_metadata() or () if isinstance(value, str)}
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None
        except TimeoutError:
            raise self._unheard(timeout) from None
        except asyncio.CancelledError:
            if not self._is_our_doing():
                raise
            return {}

    async def read(self, timeout: float | None = None) -> Resp | None:
        """See Stream."""
        try:
            async with asyncio.timeout(timeout):
                message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _error(error) from None
        except TimeoutError:
            raise self._unheard(timeout) from None
        except asyncio.CancelledError:
            if not self._is_our_doing():
                raise
            return None
        return None if message is grpc.aio.EOF else message

    def close(self) -> None:
        """See Stream."""
        self._closed = True
        self._call.cancel()

    def _unheard(self, seconds: float | None) -> errors.VirtrpcError:
        self.close()
        return errors.make_error(grpc.StatusCode.UNAVAILABLE, message=f"nothing was heard for {seconds:g} s")

    def _is_our_doing(self) -> bool:
        # grpc.aio raises CancelledError in readers of a call that was closed here, though nobody cancelled their task.
        task = asyncio.current_task()
        return self._closed and not (task is not None and task.cancelling())


def _encode(message: Message) -> bytes:
    return message.SerializeToString()


def _error(error: grpc.aio.AioRpcError) -> errors.VirtrpcError:
    return errors.from_status(error.code(), error.details() or "", error.trailing_metadata())
