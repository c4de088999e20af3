"""Which domain a reference means, and which domains a filter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.server.fake_driver import FakeDriver, listing, reading, uuid
from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_drivers.errors import Fault, Reason
from virtrpc_drivers.values import State
from virtrpc_server.caller import Call, call
from virtrpc_server.domains import Domains
from virtrpc_server.errors import NotYet, Refusal
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.lookup import Lookup
from virtrpc_server.records import Problem

Ref = types_pb2.DomainRef
Filter = types_pb2.DomainFilter


class Cache:
    """Two hosts, listed; the lookup over them."""

    def __init__(self, *names: str) -> None:
        self.domains = Domains()
        self.hosts = Hosts([Host(HostConfig(name, "fake:"), FakeDriver(), self.domains) for name in names or ("a", "b")])
        self.lookup = Lookup(self.hosts, self.domains)
        for host in self.hosts:
            host.known.set()

    def fitting(self, wanted: types_pb2.DomainFilter) -> list[str]:
        """host/name of what fits."""
        fits = self.lookup.filter(wanted)
        return sorted(f"{entry.host}/{entry.name}" for entry in self.domains.all() if fits(entry))


@contextmanager
def refused(reason: str) -> Iterator[Problem]:
    """The block is refused for this reason; what it says is filled in afterwards."""
    problem = Problem(reason, "", {})
    with pytest.raises(Refusal) as caught:
        yield problem
    assert caught.value.problem.reason == reason
    problem.metadata.update(caught.value.problem.metadata, message=caught.value.problem.message)


async def test_by_uuid_in_either_case_and_by_name() -> None:
    """The same domain, with its host named or not."""
    cache = Cache()
    cache.domains.read("a", reading(171, 1.0, "web"))
    for ref in (Ref(uuid=uuid(171).upper()), Ref(name="web"), Ref(host="a", name="web"), Ref(host="a", uuid=uuid(171))):
        assert cache.lookup.domain(ref).name == "web"


async def test_an_rpc_knows_which_domain_it_is_about() -> None:
    """As soon as its reference is bound to one: for whoever tells of it later."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0, "web"))
    this = Call("virtrpc.v1.QueryService", "GetDomain")
    call.set(this)
    cache.lookup.domain(Ref(name="web"))
    assert this.domain == ("a", uuid(1), "web")


async def test_what_is_there_on_no_host_is_not_found() -> None:
    """The message and the metadata say which name, also where it is on another host than the one named."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0, "web"))
    with refused("DOMAIN_NOT_FOUND") as problem:
        cache.lookup.domain(Ref(name="nope"))
    assert "nope" in problem.metadata["message"]
    assert problem.metadata["domain"] == "nope"
    with refused("DOMAIN_NOT_FOUND"):
        cache.lookup.domain(Ref(host="b", name="web"))
    with refused("DOMAIN_NOT_FOUND"):
        cache.lookup.domain(Ref(name="WEB"))


async def test_unknown_is_never_gone() -> None:
    """What is not found while a host that could have it is not listed yet is HOST_UNREACHABLE; elsewhere it is NOT_FOUND."""
    cache = Cache()
    cache.hosts["b"].known.clear()
    with refused("HOST_UNREACHABLE") as problem:
        cache.lookup.domain(Ref(name="web"))
    assert problem.metadata["host"] == "b"
    with refused("HOST_UNREACHABLE"):
        cache.lookup.domain(Ref(host="b", uuid=uuid(1)))
    with refused("DOMAIN_NOT_FOUND"):
        cache.lookup.domain(Ref(host="a", name="web"))
    cache.domains.read("a", reading(1, 1.0, "web"))
    assert cache.lookup.domain(Ref(name="web")).host == "a"


async def test_a_host_that_is_on_its_way_is_worth_a_retry() -> None:
    """While a host was neither listed nor found to be unreachable, callers are told when to try again; afterwards they are not."""
    cache = Cache()
    cache.hosts["b"].known.clear()
    with pytest.raises(Refusal) as caught:
        cache.lookup.domain(Ref(name="web"))
    assert isinstance(caught.value.problem, NotYet)
    cache.hosts["b"].fault = Fault(reason=Reason.HOST_UNREACHABLE, message="connection refused")
    with pytest.raises(Refusal) as caught:
        cache.lookup.domain(Ref(name="web"))
    assert not isinstance(caught.value.problem, NotYet)


@pytest.mark.parametrize("ref", [Ref(), Ref(host="a"), Ref(name=""), Ref(uuid=""), Ref(uuid="web"), Ref(uuid=uuid(1)[:-1]), Ref(uuid=uuid(1) + "\n")])
async def test_an_empty_or_malformed_reference_is_refused(ref: types_pb2.DomainRef) -> None:
    """It is the request that is wrong, whatever there is."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0))
    with refused("INVALID_ARGUMENT"):
        cache.lookup.domain(ref)


async def test_a_host_that_is_not_configured_is_not_found() -> None:
    """Before anything is said about the domain."""
    cache = Cache()
    with refused("HOST_NOT_CONFIGURED") as problem:
        cache.lookup.domain(Ref(host="mars", name="web"))
    assert problem.metadata["host"] == "mars"
    with refused("HOST_NOT_CONFIGURED"):
        cache.lookup.filter(Filter(hosts=["a", "mars"]))


async def test_a_name_on_two_hosts_is_ambiguous() -> None:
    """The refusal lists them; naming the host decides."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0, "web"))
    cache.domains.read("b", reading(2, 1.0, "web"))
    with refused("AMBIGUOUS_NAME") as problem:
        cache.lookup.domain(Ref(name="web"))
    assert problem.metadata["matches"] == f"a/{uuid(1)}, b/{uuid(2)}"
    assert cache.lookup.domain(Ref(host="b", name="web")).uuid == uuid(2)


@pytest.mark.parametrize(("on_a", "on_b", "meant"), [("shutoff", "running", "b"), ("running", "paused", "a"), ("paused", "shutoff", "a")])
async def test_a_domain_on_two_hosts_means_the_active_one(on_a: str, on_b: str, meant: str) -> None:
    """By uuid and by name, during a migration the half that runs, and after it where it went; the incoming one waits paused."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0, state=State(on_a)))
    cache.domains.read("b", reading(1, 1.0, state=State(on_b)))
    assert cache.lookup.domain(Ref(uuid=uuid(1))).host == meant
    assert cache.lookup.domain(Ref(name=cache.domains.by_uuid(uuid(1))[0].name)).host == meant


async def test_a_uuid_off_on_two_hosts_is_ambiguous() -> None:
    """Nothing tells which is meant."""
    cache = Cache()
    for host in ("a", "b"):
        cache.domains.read(host, reading(1, 1.0, state=State.SHUTOFF))
    with refused("AMBIGUOUS_NAME"):
        cache.lookup.domain(Ref(uuid=uuid(1)))


async def test_by_id_finds_only_what_runs() -> None:
    """Ids are of running domains; the same id on two hosts needs the host."""
    cache = Cache()
    cache.domains.read("a", reading(7, 1.0, "web"))
    cache.domains.read("a", reading(8, 1.0, state=State.SHUTOFF))
    by_id = query_pb2.HostDomainId
    assert cache.lookup.by_id(by_id(id=7)).name == "web"
    with refused("DOMAIN_NOT_FOUND"):
        cache.lookup.by_id(by_id(id=8))
    with refused("INVALID_ARGUMENT"):
        cache.lookup.by_id(by_id(id=-1))
    cache.domains.read("b", reading(7, 1.0))
    with refused("AMBIGUOUS_NAME"):
        cache.lookup.by_id(by_id(id=7))
    assert cache.lookup.by_id(by_id(host="a", id=7)).name == "web"


async def test_no_host_means_the_only_one() -> None:
    """With several the refusal names them."""
    assert Cache("x").lookup.host("").name == "x"
    with refused("INVALID_ARGUMENT") as problem:
        Cache().lookup.host("")
    assert "a, b" in problem.metadata["message"]


async def test_a_filter_takes_all_its_fields_together() -> None:
    """Hosts, names, states and flags: each narrows what the others leave."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0, "web-1", autostart=True))
    cache.domains.read("a", reading(2, 1.0, "web-2", state=State.PAUSED, persistent=False))
    cache.domains.read("b", reading(3, 1.0, "web-10", state=State.SHUTOFF, has_managed_save=True))
    assert cache.fitting(Filter()) == ["a/web-1", "a/web-2", "b/web-10"]
    assert cache.fitting(Filter(name_glob="web-?")) == ["a/web-1", "a/web-2"]
    assert cache.fitting(Filter(name_glob="*1*", hosts=["b"])) == ["b/web-10"]
    assert cache.fitting(Filter(uuids=[uuid(2).upper(), uuid(3)])) == ["a/web-2", "b/web-10"]
    assert cache.fitting(Filter(states=[types_pb2.DOMAIN_STATE_PAUSED, types_pb2.DOMAIN_STATE_SHUTOFF])) == ["a/web-2", "b/web-10"]
    assert cache.fitting(Filter(active=False)) == ["b/web-10"]
    assert cache.fitting(Filter(persistent=False)) == ["a/web-2"]
    assert cache.fitting(Filter(autostart=True)) == ["a/web-1"]
    assert cache.fitting(Filter(has_managed_save=True)) == ["b/web-10"]


async def test_what_was_not_read_fits_no_filter_on_it() -> None:
    """Neither yes nor no: unknown."""
    cache = Cache()
    cache.domains.listed("a", listing(1.0, [1]))
    for wanted in (Filter(active=True), Filter(active=False), Filter(autostart=False), Filter(states=[types_pb2.DOMAIN_STATE_UNSPECIFIED])):
        assert cache.fitting(wanted) == []
    assert cache.fitting(Filter(name_glob="*")) == ["a/guest-1"]


async def test_a_glob_knows_stars_and_question_marks_only() -> None:
    """Brackets and backslashes stand for themselves."""
    cache = Cache()
    cache.domains.read("a", reading(1, 1.0, "w[eb]"))
    cache.domains.read("a", reading(2, 1.0, "we"))
    assert cache.fitting(Filter(name_glob="w[eb]")) == ["a/w[eb]"]
    assert cache.fitting(Filter(name_glob="w[*")) == ["a/w[eb]"]
    assert cache.fitting(Filter(name_glob="W*")) == []


@pytest.mark.parametrize("wanted", [Filter(uuids=["x"]), Filter(uuids=[uuid(1)] * 1001), Filter(name_glob="*" * 2000)])
async def test_a_bad_filter_is_refused(wanted: types_pb2.DomainFilter) -> None:
    """Malformed or too many UUIDs, a glob without measure."""
    with refused("INVALID_ARGUMENT"):
        Cache().lookup.filter(wanted)
