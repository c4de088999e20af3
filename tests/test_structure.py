"""The central rules, held by the shape of the code: who may wait for what, and what may happen where.

They are derived from the contract's `waits_for` and from the call graph of our own source, which `tests/structure/` reads with mypy's
eyes. docs/architecture.md tells how to read a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from mypy.build import BuildResult

from tests.structure import rules
from tests.structure.graph import Graph, Kind
from tests.structure.program import Program, type_check
from tests.structure.reading import read
from tests.structure.rules import Finding
from virtrpc_drivers.operations import Destroy
from virtrpc_drivers.values import Slot
from virtrpc_server import verbs
from virtrpc_server.contract import METHODS, waits_for

# The graph is read once, by whichever test is first: a minute, and more on a machine that is busy.
pytestmark = pytest.mark.timeout(300)

OURS = ("virtrpc_server.", "virtrpc_drivers.")
PLANTED = "tests.structure.planted"
GUARD = "virtrpc_server.guard.Guard._guard.guarded"
"""What every RPC passes through."""

EXCEPTIONS = {
    "virtrpc_server.fingerprints.fingerprint -> ?": "it makes an empty message of the request's own class",
    "virtrpc_server.guard._unary -> ?": "the handler, which is looked at by itself",
    "virtrpc_server.guard._stream -> ?": "the handler, which is looked at by itself",
    "virtrpc_server.guard._parsed -> ?": "protobuf's parser",
    "virtrpc_server.guard._lenient.<lambda> -> ?": "protobuf's serializer",
    "virtrpc_server.serving._on_signals.on_signal -> virtrpc_server.transport.Transport.remove_socket": "the process ends three lines later",
    "virtrpc_server.notify.Notifier._send -> _socket.socket.sendto": "a socket that does not block: what cannot be sent now is not sent",
    "virtrpc_drivers.wire.join -> *": "it reads fields of an answer's pieces, which are plain values",
    "virtrpc_drivers.libvirt.events.Events._flush -> _thread.LockType.__enter__": "whoever has this lock holds it for a few assignments",
    "virtrpc_drivers.libvirt.events.Events.push -> _thread.LockType.__enter__": "whoever has this lock holds it for a few assignments",
    "virtrpc_drivers.libvirt.events.Events._callback.heard -> UUIDString": "it reads what the event brought along, and asks nobody",
}
"""Calls that break a rule, or cannot be resolved, and do no harm: why stands beside each. One that is not needed any more is a failure."""

ANSWERS = {
    "virtrpc_server.slices.breathe -> asyncio.tasks.sleep": "a turn for others: sleep(0) ends in the next pass of the loop",
    "virtrpc_server.paging.Place.cut_long -> a value (typing.Awaitable)": "the same, where rules say what may be listed",
}
"""What unary RPCs of NOTHING await: a turn of the loop for others between two slices of a long list."""
STREAMS = {
    "virtrpc_server.watching.Watches.domains -> contextlib.aclosing": "closes the batches behind the stream",
    "virtrpc_server.watching.Watches.domains -> a value (typing.AsyncGenerator)": "the batches",
    "virtrpc_server.watching.Watches.jobs -> contextlib.aclosing": "closes the batches behind the stream",
    "virtrpc_server.watching.Watches.jobs -> a value (typing.AsyncGenerator)": "the batches",
    "virtrpc_server.following.Watch.batches -> asyncio.tasks.sleep": "the pause between two batches",
    "virtrpc_server.following.Watch._drafted -> asyncio.tasks.sleep": "others, in the middle of a long look",
    "virtrpc_server.following.Watch._tell -> asyncio.tasks.sleep": "others, in the middle of a long batch",
    "virtrpc_server.following.Watch._draft -> a value (asyncio.locks.Lock)": "a stream that is making what both will tell",
    "virtrpc_server.following.Watch._drafted -> a value (typing.Awaitable)": "the same, where rules say what may be told",
    "virtrpc_server.slices.breathe -> asyncio.tasks.sleep": "a turn for others between a few verdicts and the next ones",
    "virtrpc_server.following.Watch._news -> asyncio.timeouts.timeout_at": "until the next heartbeat",
    "virtrpc_server.following.Watch._held_back -> asyncio.timeouts.timeout_at": "the same",
    "virtrpc_server.following.Watch._news -> asyncio.tasks.sleep": "the pause after a look in vain",
    "virtrpc_server.news.News.wait -> a value (_asyncio.Future)": "something changed",
    "virtrpc_server.news.News.wait_for -> asyncio.timeouts.timeout": "until the next heartbeat, or the time that others who follow the job need",
}
"""What streams of NOTHING await: a change, and the time between two batches. That is transport."""
CONTROLS = {
    "virtrpc_server.telling.Telling.tell -> asyncio.tasks.wait": "the store: told means stored",
    "virtrpc_server.telling.Telling.write -> a value (asyncio.locks.Lock)": "the store, which writes a job once at a time",
    "virtrpc_server.telling.Telling.write -> asyncio.tasks.sleep": "the store, which failed",
    "virtrpc_server.journal.Journal._written -> asyncio.tasks.shield": "the store, where it is the journal",
    "virtrpc_server.listening.Listener.stored -> asyncio.tasks.shield": "the store: a job's id is told when the job is stored",
    "virtrpc_server.acceptance.Acceptance.at_once -> contextlib.aclosing": "closes the job's updates behind the stream",
    "virtrpc_server.acceptance.Acceptance.at_once -> a value (typing.AsyncGenerator)": "the job's updates",
    "virtrpc_server.acceptance._sealed -> asyncio.threads.to_thread": "the fingerprint of a request with a secret, which a destroy has not",
    "virtrpc_server.acceptance.Acceptance._updates -> grpc.aio.ServicerContext.send_initial_metadata": "the transport",
    "virtrpc_server.sending.answered -> asyncio.tasks.wait": "the driver, which sends it past every queue and gives up by itself",
    "virtrpc_server.news.News.wait -> a value (_asyncio.Future)": "the job changed",
    "virtrpc_server.news.News.wait_for -> asyncio.timeouts.timeout": "until the next heartbeat, or the time that others who follow the job need",
}
"""What RPCs of CONTROL await: the store, the transport, and in DestroyDomain's stream its own job."""

USUAL = {"QueryService": "NOTHING", "JobService": "CONDITION", "SnapshotService": "HYPERVISOR"}
UNUSUAL = {
    "GetJob": "NOTHING", "ListJobs": "NOTHING", "WatchJob": "NOTHING", "WatchJobs": "NOTHING", "CancelJob": "CONTROL", "DestroyDomain": "CONTROL",
    "TuneMigration": "CONTROL",
    "FinishBlockJob": "CONTROL", "SetJobSpeed": "CONTROL",
    "DeleteSnapshot": "CONDITION", "RemoveManagedSave": "CONDITION",
}  # fmt: skip
"""The design's table: a service's usual value, and where an RPC has another one."""


@pytest.fixture(scope="module")
def checked() -> BuildResult:
    """What mypy knows of our source, and of the planted violations."""
    return type_check("drivers", "server", "tests/structure/planted.py")


@pytest.fixture(scope="module")
def graph(checked: BuildResult) -> Graph:
    """The call graph of the server and the drivers."""
    return read(Program(checked, *OURS))


@pytest.fixture(scope="module")
def planted(checked: BuildResult) -> Graph:
    """The same with the violations."""
    return read(Program(checked, *OURS, PLANTED))


def handlers(graph: Graph, method: MethodDescriptor) -> list[str]:
    """The functions that answer an RPC."""
    service: ServiceDescriptor = method.containing_service
    base = f"{service.file.name.removesuffix('.proto').replace('/', '.')}_pb2_grpc.{service.name}Servicer"
    return [name for kind in graph.kinds[base] if (name := f"{kind}.{method.name}") in graph.functions]


def handled(graph: Graph, method: MethodDescriptor) -> Iterator[Finding]:
    """What the handlers of an RPC reach and must not."""
    for handler in handlers(graph, method):
        yield from rules.by_waits_for(graph)[waits_for(method)].broken(graph, handler, EXCEPTIONS)


def may_await(method: MethodDescriptor) -> dict[str, str] | None:
    """What the handler of an RPC may await; None where anything."""
    tables = {"NOTHING": STREAMS if method.server_streaming else ANSWERS, "CONTROL": CONTROLS}
    return tables.get(waits_for(method))


def awaited(graph: Graph, method: MethodDescriptor) -> Iterator[Finding]:
    """What the handlers of an RPC await and must not."""
    for handler in handlers(graph, method):
        yield from (finding for finding in rules.awaits(graph, handler) if not finding.calls & (may_await(method) or {}).keys())


def in_every_rpc(graph: Graph) -> Iterator[Finding]:
    """What is reached around every handler and must not."""
    yield from rules.by_waits_for(graph)["NOTHING"].broken(graph, GUARD, EXCEPTIONS)


def in_callbacks(graph: Graph) -> Iterator[Finding]:
    """What callbacks on the loop do and must not."""
    for name in rules.event_roots(graph):
        yield from rules.callbacks().broken(graph, name, EXCEPTIONS)


def in_libvirt_callbacks(graph: Graph) -> Iterator[Finding]:
    """What callbacks on libvirt's event thread do and must not."""
    for name in graph.roots(Kind.EVENT):
        yield from rules.libvirt_callbacks().broken(graph, name, EXCEPTIONS)


def in_threads(graph: Graph) -> Iterator[Finding]:
    """What the server's threads touch and must not."""
    for name, place in graph.roots(Kind.THREAD).items():
        if not place.startswith("drivers/"):
            yield from rules.threads().broken(graph, name, EXCEPTIONS)


def told(findings: Iterator[Finding]) -> str:
    """The findings for a failure's message: each once, by one of the ways to it."""
    texts = {(finding.text.splitlines()[0], finding.text.splitlines()[-1]): finding.text for finding in findings}
    return "\n".join(texts.values())


def expect_none(findings: Iterator[Finding]) -> None:
    """Fail with what was found, and nothing else."""
    if text := told(findings):
        pytest.fail(text, pytrace=False)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_contract_says_of_each_rpc_what_it_waits_for(method: MethodDescriptor) -> None:
    """It is what its service usually waits for, but for those few that the design names."""
    assert waits_for(method) == UNUSUAL.get(method.name, USUAL[method.containing_service.name])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_handler_reaches_what_its_rpc_may_wait_for(graph: Graph, method: MethodDescriptor) -> None:
    """Through whatever functions, callbacks and attributes: nothing else."""
    assert handlers(graph, method), f"{method.full_name} has no handler"
    expect_none(handled(graph, method))


@pytest.mark.parametrize("method", [method for method in METHODS if may_await(method) is not None], ids=lambda method: method.name)
def test_a_handler_that_answers_at_once_awaits_next_to_nothing(graph: Graph, method: MethodDescriptor) -> None:
    """An answer comes in one go, or in slices; a stream awaits its own change; a control is stored and sent."""
    expect_none(awaited(graph, method))


def test_what_every_rpc_passes_through_waits_for_nothing(graph: Graph) -> None:
    """Identity, errors and traces of all RPCs: what is around a handler of NOTHING must not wait either."""
    expect_none(in_every_rpc(graph))


def test_event_callbacks_await_nothing(graph: Graph) -> None:
    """What a driver delivers, and every other callback, runs to its end at once: no coroutine, nothing that blocks."""
    assert {"virtrpc_server.hosts.Host._deliver", "virtrpc_drivers.channel.Channel.data_received"} <= rules.event_roots(graph).keys()
    expect_none(in_callbacks(graph))


def test_libvirts_event_thread_only_hands_over(graph: Graph) -> None:
    """Its callbacks call nothing of libvirt, and of asyncio only call_soon_threadsafe."""
    assert "virtrpc_drivers.libvirt.events.Events._callback.heard" in graph.roots(Kind.EVENT)
    expect_none(in_libvirt_callbacks(graph))


def test_threads_of_the_server_touch_no_state(graph: Graph) -> None:
    """The loop is the lock: what is handed to a thread works on values."""
    assert graph.roots(Kind.THREAD)
    expect_none(in_threads(graph))


def test_the_job_of_a_destroy_takes_no_condition() -> None:
    """Its handler begins a job as all do, and does not wait for it: what the job takes is decided by its slot."""
    assert not verbs.conditions(Destroy(uuid="u"), Slot.DESTROY, "a")
    assert verbs.conditions(Destroy(uuid="u"), Slot.CONDITION, "a")


def test_the_rules_name_what_is_there(graph: Graph) -> None:
    """A name of ours in a rule that nothing bears any more would forbid nothing."""
    forbidden = {name for rule in rules.by_waits_for(graph).values() for name in rule.forbidden if name.startswith(OURS)}
    assert not forbidden - graph.functions.keys()
    assert not set(rules.STATE) - graph.kinds.keys()
    assert {f"{rules.DRIVER}.{name}" for name in rules.READS} <= graph.functions.keys()
    assert {name.rpartition(".")[2] for name in graph.methods(*rules.QUEUES)} >= rules.LOOKS


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_every_exception_is_needed(graph: Graph, exception: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a rule would be broken."""
    monkeypatch.delitem(EXCEPTIONS, exception)
    checks: list[Callable[[Graph], Iterator[Finding]]] = [in_every_rpc, in_callbacks, in_libvirt_callbacks, in_threads]
    checks += [partial(handled, method=method) for method in METHODS]
    assert any(exception in finding.calls for check in checks for finding in check(graph)), f"take {exception} out of EXCEPTIONS"


@pytest.mark.parametrize("table", [ANSWERS, STREAMS, CONTROLS], ids=["ANSWERS", "STREAMS", "CONTROLS"])
def test_every_await_that_is_allowed_is_there(graph: Graph, table: dict[str, str]) -> None:
    """Some handler comes to it."""
    names = [name for method in METHODS if may_await(method) is table for name in handlers(graph, method)]
    found = {call for name in names for finding in rules.awaits(graph, name) for call in finding.calls}
    assert table.keys() - found == set()


@pytest.mark.parametrize(
    ("handler", "reached"),
    [
        ("job.JobService.StartDomain", "virtrpc_drivers.forwarding.Forwarding.run"),
        ("job.JobService.StartDomain", "virtrpc_server.slots.Ticket.wait"),
        ("job.JobService.CancelJob", "virtrpc_server.running.Run.stop"),
        ("snapshot.SnapshotService.ListSnapshots", "virtrpc_drivers.forwarding.Forwarding.snapshots"),
        ("snapshot.SnapshotService.DeleteSnapshot", "virtrpc_server.slots.Conditions.of"),
        ("query.QueryService.WatchDomains", "virtrpc_server.watching.Watches._domain"),
        ("query.QueryService.ListDomains", "virtrpc_server.messages.domains.domain_message"),
    ],
)
def test_the_graph_shows_what_handlers_do(graph: Graph, handler: str, reached: str) -> None:
    """What is known to happen is seen: through the acceptance, a job's task, callbacks and the protocol."""
    assert reached in graph.walk(f"virtrpc_server.{handler}")


VIOLATIONS = {
    "Layers.GetDomain": ("GetDomain", ["_helped", "_asked", "Layers.GetDomain.ask", "Driver.read"], "asks the hypervisor"),
    "Alias.GetJob": ("GetJob", ["Conditions.of"], "takes a place"),
    "Attribute.ListHosts": ("ListHosts", ["Driver.list"], "asks the hypervisor"),
    "Behind.GetDomainXml": ("GetDomainXml", ["Behind.__getitem__", "Files.text", "pathlib.Path.read_text"], "may keep the thread waiting"),
    "Untyped.GetHost": ("GetHost", ["list"], "`driver.list` is an attribute of a value without a type"),
    "Computed.GetMemoryStats": ("GetMemoryStats", ["*"], "getattr() of `driver`"),
    "Unknown.ListVcpus": ("ListVcpus", ["?"], "nothing is known to be given to `self.refresh`"),
    "Threaded.ListDomains": ("ListDomains", ["run_in_executor"], "leaves the loop"),
    "Queued.CancelJob": ("CancelJob", ["_place", "Ticket.wait"], "waits in a queue"),
    "Holding.GetSnapshot": ("GetSnapshot", ["Holding._held", "Conditions.of"], "takes a domain's condition"),
    "Blocking.SuspendDomain": ("SuspendDomain", ["_pause", "time.sleep"], "may keep the thread waiting"),
}
WAITS = {
    "Sleepy.GetBlockStats": ("GetBlockStats", ["_rest", "_pause_for", "asyncio.tasks.sleep"]),
    "Tasked.CancelJob": ("CancelJob", ["a value (_asyncio.Task)"]),
    "Locked.WatchDomains": ("WatchDomains", ["a value (asyncio.locks.Lock)"]),
}
CALLBACKS = {
    "Events._late": (in_callbacks, [], "is a coroutine"),
    "Events._done": (in_callbacks, ["Events._late"], "is a coroutine"),
    "Events._delivered": (in_callbacks, ["_pause", "time.sleep"], "may keep the thread waiting"),
    "Events._closed": (in_libvirt_callbacks, ["isAlive"], "a call of libvirt would hold up all events"),
    "Events._count": (in_threads, ["Events._names", "Domains.all"], "belongs to the loop's thread"),
}


def shown(findings: Iterator[Finding], start: str, chain: list[str], why: str) -> bool:
    """Whether one of the findings tells this way and this reason."""
    for finding in findings:
        first, *steps = [line.strip() for line in finding.text.splitlines()[1:]]
        named = [step.removeprefix("-> ").split("  (")[0] for step in steps]
        if first == f"{PLANTED}.{start}" and why in finding.text and all(any(name.endswith(each) for name in named) for each in chain):
            return True
    return False


@pytest.mark.parametrize("start", VIOLATIONS)
def test_a_violation_is_found_and_told_with_its_way(planted: Graph, start: str) -> None:
    """Through layers, callbacks, aliases, attributes, protocols, special methods, tasks and defaults; and what cannot be seen is said to be so."""
    name, chain, why = VIOLATIONS[start]
    method = next(method for method in METHODS if method.name == name)
    assert shown(handled(planted, method), start, chain, why), told(handled(planted, method))


def test_every_way_to_block_is_known(planted: Graph) -> None:
    """Each line of the planted function that has them all."""
    method = next(method for method in METHODS if method.name == "GetInterfaceStats")
    block = planted.functions[f"{PLANTED}._block"]
    lines = {edge.line for edge in block.edges if not edge.callee.startswith(PLANTED)}
    found = {finding.text.splitlines()[-1].rpartition(":")[2].rstrip(")") for finding in handled(planted, method) if "._block" in finding.text}
    assert len(lines) > 20
    assert found == {str(line) for line in lines}


@pytest.mark.parametrize("start", WAITS)
def test_a_wait_is_found_and_told_with_its_way(planted: Graph, start: str) -> None:
    """In a helper of a unary RPC, and where a stream waits for more than its change."""
    name, chain = WAITS[start]
    method = next(method for method in METHODS if method.name == name)
    assert shown(awaited(planted, method), start, chain, "is awaited"), told(awaited(planted, method))


@pytest.mark.parametrize("start", CALLBACKS)
def test_a_wrong_callback_is_found_and_told_with_its_way(planted: Graph, start: str) -> None:
    """One that awaits, drops a coroutine, blocks, calls libvirt on its event thread, or touches state on a thread."""
    check, chain, why = CALLBACKS[start]
    assert shown(check(planted), start, chain, why), told(check(planted))
