"""The blocking client: the same names and the same behaviour, without an event loop. What it waits for in silence has a thread for its alarm."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Self

import grpc
from google.protobuf.message import Message

from virtrpc import errors, trace
from virtrpc.address import resolve_address
from virtrpc.core import DEFAULT_TIMEOUT, Core
from virtrpc.credentials import Credentials, Line, Metadata, Tls, Token, reason_metadata
from virtrpc.jobs import AsyncJobHandle
from virtrpc.listing import AsyncListing, Page
from virtrpc.refs import Seconds
from virtrpc.table import Item, Lister, Pieces, Read, Verb, Watcher
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t
from virtrpc.watch import AsyncWatch, Batch
from virtrpc.wire import OnBroken, Req, Resp, Rpc, iterate, run


class Client(Core):
    """A connection to a virtrpc server; `with` closes it. May be shared by threads; each handle, list and watch belongs to one.

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
        super().__init__(SyncWire(self.address, credentials or Credentials(self.address, tls, token)), timeout, listen_timeout)

    def watch_job(self, job_id: str, *, heartbeat: Seconds | None = None) -> JobHandle:
        """A handle on a job that somebody has started. Nothing is asked before it is iterated or waited for; closing it leaves the job alone.

        `heartbeat` is how long its stream may be silent, in seconds or as a timedelta, instead of 15 s.
        """
        return JobHandle(self._attach(job_id, heartbeat))

    def close(self) -> None:
        """Ends all calls and the connection."""
        run(self._wire.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _read(self, row: Read[..., Any], request: Message) -> Any:
        return run(self._ask(row, request))

    def _list(self, row: Lister[..., Page, Item], request: Message) -> Listing[Page, Item]:
        return Listing(self._pages(row, request))

    def _pieces(self, row: Pieces[..., Any], request: Message) -> Any:
        return run(self._gather(row, request))

    def _verb(self, row: Verb[...], request: Message) -> JobHandle:
        return JobHandle(run(self._accept(row, request)))

    def _watch(self, row: Watcher[..., Batch], request: Message) -> Watch[Batch]:
        return Watch(self._follow(row, request))


class JobHandle:
    """One job: AsyncJobHandle for callers that block. `close` and `cancel` may be called from another thread."""

    def __init__(self, handle: AsyncJobHandle) -> None:
        self._handle = handle

    @property
    def job_id(self) -> str:
        """The server's id for the job."""
        return self._handle.job_id

    @property
    def job(self) -> t.Job | None:
        """The job as last seen."""
        return self._handle.job

    @property
    def done(self) -> bool:
        """The final state has been seen."""
        return self._handle.done

    @property
    def on_broken(self) -> OnBroken | None:
        """See AsyncJobHandle.on_broken."""
        return self._handle.on_broken

    @on_broken.setter
    def on_broken(self, call: OnBroken | None) -> None:
        self._handle.on_broken = call

    @property
    def on_mended(self) -> Callable[[], None] | None:
        """See AsyncJobHandle.on_mended."""
        return self._handle.on_mended

    @on_mended.setter
    def on_mended(self, call: Callable[[], None] | None) -> None:
        self._handle.on_mended = call

    def __iter__(self) -> Iterator[t.Job]:
        return iterate(self._handle.updates())

    def wait(self) -> t.Job:
        """Follows the job to its end. The job that SUCCEEDED; raises the typed exception of one that did not, with the job in `error.job`."""
        return run(self._handle.wait())

    def cancel(self) -> j.CancelJobResponse:
        """Asks the job to stop, and is answered at once. The outcome says what could be done; go on waiting to see what becomes of it."""
        return run(self._handle.cancel())

    def close(self) -> None:
        """Stops listening, and ends iterations that are under way. What becomes of the job is up to its on_disconnect."""
        self._handle.close()


class Listing(Generic[Page, Item]):
    """A list that is asked for page by page while it is iterated; every iteration asks anew."""

    def __init__(self, listing: AsyncListing[Page, Item]) -> None:
        self._listing = listing

    @property
    def unreachable(self) -> tuple[t.UnreachableHost, ...]:
        """The hosts that are not LIVE, as the last page named them: their entries are STALE or missing."""
        return self._listing.unreachable

    def __iter__(self) -> Iterator[Item]:
        return iterate(self._listing.entries())

    def pages(self) -> Iterator[Page]:
        """The answers themselves, one for each page."""
        return iterate(self._listing.pages())

    def all(self) -> list[Item]:
        """Every entry of every page."""
        return run(self._listing.all())

    def merged(self) -> Page:
        """One answer with the entries of all pages."""
        return run(self._listing.merged())


class Watch(Generic[Batch]):
    """A watch: AsyncWatch for callers that block. `close` may be called from another thread."""

    def __init__(self, watch: AsyncWatch[Batch]) -> None:
        self._watch: AsyncWatch[Batch] = watch

    @property
    def resume_token(self) -> str:
        """Where to resume after the last batch that was taken."""
        return self._watch.resume_token

    @property
    def on_broken(self) -> OnBroken | None:
        """See AsyncWatch.on_broken."""
        return self._watch.on_broken

    @on_broken.setter
    def on_broken(self, call: OnBroken | None) -> None:
        self._watch.on_broken = call

    def __iter__(self) -> Iterator[Batch]:
        return iterate(self._watch.batches())

    def close(self) -> None:
        """Ends the watch, and iterations that are under way."""
        self._watch.close()


class SyncWire:
    """grpc's blocking channel behind the seam: none of these coroutines ever suspends."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._line: Line[grpc.Channel] = Line(address, credentials, grpc.insecure_channel, grpc.secure_channel)
        self._reason: Metadata = ()

    async def unary(self, rpc: Rpc[Req, Resp], request: Req, timeout: float | None) -> Resp:
        """See Wire."""
        channel = self._line.channel()
        call: Callable[..., Any] = channel.unary_unary(rpc.path, _encode, rpc.answer.FromString)
        try:
            answer: Resp = call(request, timeout=timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise _error(error) from None
        return answer

    def stream(self, rpc: Rpc[Req, Resp], request: Req, timeout: float | None, *, patient: bool = False) -> SyncStream[Resp]:
        """See Wire."""
        channel = self._line.channel()
        call: Callable[..., Any] = channel.unary_stream(rpc.path, _encode, rpc.answer.FromString)
        return SyncStream(call(request, timeout=timeout, wait_for_ready=patient, metadata=self._metadata()), channel)

    def because(self, reason: str) -> Self:
        """See Wire."""
        other = copy.copy(self)
        other._reason = reason_metadata(reason)
        return other

    async def sleep(self, seconds: float) -> None:
        """See Wire."""
        time.sleep(seconds)  # noqa: ASYNC251 # this wire blocks, that is its point

    async def close(self) -> None:
        """See Wire."""
        for channel in list(self._line.opened):
            channel.close()

    def _metadata(self) -> Metadata:
        return (*self._line.metadata(), *self._reason, *trace.headers())


class SyncStream(Generic[Resp]):
    """An open call of grpc's blocking channel."""

    def __init__(self, call: Any, channel: grpc.Channel) -> None:
        self._call = call
        self._channel = channel
        """Kept: a channel that nobody has any more is closed."""
        self._closed = False

    async def initial_metadata(self, timeout: float | None = None) -> Mapping[str, str]:
        """See Stream."""
        with _Alarm(timeout, self._call.cancel) as silence:
            metadata = self._call.initial_metadata() or ()
        if silence.rang and not self._closed:
            raise _unheard(timeout)
        return {key: value for key, value in metadata if isinstance(value, str)}

    async def read(self, timeout: float | None = None) -> Resp | None:
        """See Stream."""
        silence = _Alarm(timeout, self._call.cancel)
        try:
            with silence:
                message: Resp = next(self._call)
        except StopIteration:
            return None
        except grpc.RpcError as error:
            if self._closed:
                return None
            if silence.rang:
                raise _unheard(timeout) from None
            raise _error(error) from None
        return message

    def close(self) -> None:
        """See Stream."""
        self._closed = True
        self._call.cancel()


class _Alarm:
    """Calls `action` from another thread where its block takes longer than `seconds`."""

    def __init__(self, seconds: float | None, action: Callable[[], object]) -> None:
        self.rang = False
        self._action = action
        self._timer = None if seconds is None else threading.Timer(seconds, self._ring)

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self.rang = True
        self._action()


def _encode(message: Message) -> bytes:
    return message.SerializeToString()


def _unheard(seconds: float | None) -> errors.VirtrpcError:
    return errors.make_error(grpc.StatusCode.UNAVAILABLE, message=f"nothing was heard for {seconds:g} s")


def _error(error: grpc.RpcError) -> errors.VirtrpcError:
    # What a channel raises is a call as well; only grpc's types keep the two apart.
    call: Any = error
    return errors.from_status(call.code(), call.details() or "", call.trailing_metadata())
