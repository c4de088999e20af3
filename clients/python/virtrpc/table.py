"""What a row of the table of methods is made of: one description of an RPC, typed for both clients.

The arguments of a method are those of its request message as the stubs declare them, so that no signature is written twice. Where the request
names a domain, it comes first and may be anything that `domain_ref` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from google.protobuf.message import Message

from virtrpc.jobs import AsyncJobHandle
from virtrpc.listing import AsyncListing, Page
from virtrpc.refs import DomainLike, domain_ref
from virtrpc.v1 import types_pb2 as t
from virtrpc.watch import AsyncWatch, Batch
from virtrpc.wire import Req, Resp, Rpc

if TYPE_CHECKING:
    from virtrpc.aio import AsyncClient
    from virtrpc.sync import Client, JobHandle, Listing, Watch

P = ParamSpec("P")
R = TypeVar("R")
Item = TypeVar("Item")


def for_domain(make: Callable[P, Req]) -> Callable[Concatenate[DomainLike, P], Req]:
    """A request's maker that takes its domain first."""

    def build(domain: DomainLike, /, *args: P.args, **kwargs: P.kwargs) -> Req:
        request = make(*args, **kwargs)
        request.domain.CopyFrom(domain_ref(domain))  # type: ignore[attr-defined] # the table uses it for such requests alone, and a test calls each
        return request

    return build


class _Row:
    """A name of the table, which a client turns into a method."""

    name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class Read(_Row, Generic[P, R]):
    """An RPC with one answer."""

    def __init__(self, rpc: str, make: Callable[P, Req], answer: type[Resp], pick: Callable[[Resp], R]) -> None:
        self.rpc: Rpc[Any, Any] = Rpc(rpc, answer)
        self.make: Callable[P, Message] = make
        self.pick: Callable[[Any], R] = pick

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, R]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The row itself on the class, a method on a client."""
        if client is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._read(self, self.make(*args, **kwargs))

        return _named(call, self)


class Lister(_Row, Generic[P, Page, Item]):
    """An RPC whose answer comes in pages."""

    def __init__(self, rpc: str, make: Callable[P, Req], answer: type[Page], items: Callable[[Page], Iterable[Item]]) -> None:
        self.rpc: Rpc[Any, Page] = Rpc(rpc, answer)
        self.make: Callable[P, Message] = make
        self.items = items

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncListing[Page, Item]]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Listing[Page, Item]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The row itself on the class, a method on a client."""
        if client is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._list(self, self.make(*args, **kwargs))

        return _named(call, self)


class Verb(_Row, Generic[P]):
    """An RPC that makes a job."""

    def __init__(self, rpc: str, make: Callable[P, Req]) -> None:
        self.rpc: Rpc[Any, t.JobUpdate] = Rpc(rpc, t.JobUpdate)
        self.make: Callable[P, Message] = make

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, AsyncJobHandle]]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, JobHandle]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The row itself on the class, a method on a client."""
        if client is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._verb(self, self.make(*args, **kwargs))

        return _named(call, self)


class Pieces(_Row, Generic[P, R]):
    """An RPC whose one answer comes in pieces."""

    def __init__(self, rpc: str, make: Callable[P, Req], answer: type[Resp], joined: Callable[[list[Resp]], R]) -> None:
        self.rpc: Rpc[Any, Any] = Rpc(rpc, answer)
        self.make: Callable[P, Message] = make
        self.joined: Callable[[list[Any]], R] = joined

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, R]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The row itself on the class, a method on a client."""
        if client is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._pieces(self, self.make(*args, **kwargs))

        return _named(call, self)


class Watcher(_Row, Generic[P, Batch]):
    """An RPC that streams batches until the caller leaves."""

    def __init__(self, rpc: str, make: Callable[P, Req], answer: type[Batch]) -> None:
        self.rpc: Rpc[Any, Batch] = Rpc(rpc, answer)
        self.make: Callable[P, Message] = make

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, AsyncWatch[Batch]]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, Watch[Batch]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The row itself on the class, a method on a client."""
        if client is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._watch(self, self.make(*args, **kwargs))

        return _named(call, self)


def _named(call: Callable[..., Any], row: Any) -> Callable[..., Any]:
    call.__name__ = call.__qualname__ = row.name
    call.__doc__ = f"{row.rpc.name} of the contract; its arguments are the fields of the request."
    return call
