"""What is held: who may reach what, and who may await what. `tests/test_structure.py` applies it to every RPC and every callback."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass

from tests.structure.graph import ANY, Edge, Function, Graph, Kind, Step, Walk, call_key

DRIVER = "virtrpc_drivers.protocol.Driver"
READS = frozenset({
    "list", "read", "sample", "pulses", "snapshots", "snapshot_xml", "current_snapshot", "checkpoints", "checkpoint_xml",
    "host_stats", "save_image", "follow", "guest_info", "screenshot",
    "domain_capabilities", "departure", "arrival", "managed_save_image", "guest_vcpus", "authorized_ssh_keys", "resource_parameters", "dirty_rate",
})  # fmt: skip
QUEUES = ("virtrpc_server.slots.Slots", "virtrpc_server.slots.Ticket", "virtrpc_server.slots.Conditions")
LOOKS = frozenset({"peek", "position"})
"""Methods of queues that only look."""
STATE = tuple(f"virtrpc_server.{name}" for name in (
    "domains.Domains", "jobs.Jobs", "running.Run", "telling.Telling", "slots.Slots", "slots.Ticket", "slots.Conditions", "budgets.Budgets",
    "feed.Feed", "refresh.Refresher", "sampling.Sampler", "hosts.Host", "hosts.Hosts", "health.Health", "waiting.Queues", "places.Places",
    "calls.OutstandingCall",
))  # fmt: skip
"""The classes whose objects live on the loop."""
ELSEWHERE = ("virtrpc_drivers.libvirt.", "virtrpc_drivers.sim.")
"""What runs in a driver process, or stands in for one: the server's loop waits for its answers only."""

BLOCKING = (
    "builtins.open", "builtins.input", "_io.open", "time.sleep", "subprocess.", "shutil.", "tempfile.", "select.", "sqlite3.", "_sqlite3.", "fcntl.",
    "os.system", "os.popen", "os.open", "os.read", "os.write", "os.wait", "os.waitpid", "os.fsync", "os.listdir", "os.scandir", "os.stat",
    "pathlib.Path.", "socket.create_connection", "socket.getaddrinfo", "_socket.getaddrinfo", "_socket.socket.", "socket.socket.",
    "urllib.request.", "http.client.", "queue.Queue.", "_queue.SimpleQueue.get", "multiprocessing.",
    "_thread.lock.", "_thread.LockType.", "_thread.RLock.", "threading.Condition.", "threading.Event.wait", "threading.Semaphore.",
    "threading.Barrier.", "threading.Thread.join", "concurrent.futures._base.Future.result", "concurrent.futures._base.wait", "asyncio.runners.",
    "asyncio.events.AbstractEventLoop.run_until_complete",
)  # fmt: skip
"""What may keep a thread waiting. Beginnings of names; `pathlib.Path` has the methods that look at files, `PurePath` the others."""
THREADS = (
    "asyncio.threads.to_thread",
    "asyncio.events.AbstractEventLoop.run_in_executor",
    "concurrent.futures._base.Executor.submit",
    "threading.Thread",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule. An exception names one of its calls."""

    text: str
    calls: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not be reached by calls of these kinds. `forbidden` maps a name, or a beginning that ends in a dot, to the reason."""

    name: str
    kinds: Collection[Kind]
    forbidden: Mapping[str, str]
    advice: str
    allowed: Collection[str] = ()
    """What may be reached although its beginning is forbidden."""
    plain: bool = False
    """Whether coroutines are forbidden as well: nobody here could await one."""
    ends: tuple[str, ...] = ()
    """Beginnings of names at which the walk ends."""
    untyped: bool = False
    """Whether attributes of values without a type are forbidden whatever their names are: those of libvirt."""

    def broken(self, graph: Graph, start: str, exceptions: Container[str] = ()) -> Iterator[Finding]:
        """What a function reaches and must not, with the way there."""
        walk = graph.walk(start, self.kinds, lambda name: self._is_end(graph, name), exceptions)
        told: set[object] = set()
        for function in walk.functions:
            if function.name != start and self._is_end(graph, function.name):
                continue
            for edge in walk.calls(function.name):
                why = self._reason(graph, edge.callee)
                # A call of a protocol's method is one of each that implements it: told once.
                if why is not None and (function.name, edge.line, why) not in told:
                    told.add((function.name, edge.line, why))
                    yield finding(f"{self.name}: {edge.callee} {why}. {self.advice}", walk, Step(function.name, edge))
            yield from self._unresolved(walk, function, exceptions)

    def _is_end(self, graph: Graph, name: str) -> bool:
        return name.startswith(self.ends) or self._reason(graph, name) is not None

    def _reason(self, graph: Graph, name: str) -> str | None:
        if name in self.allowed:
            return None
        if self.plain and name in graph.functions and graph.functions[name].coroutine:
            return "is a coroutine: called here it never runs"
        starts = (why for start, why in self.forbidden.items() if start.endswith(".") and name.startswith(start))
        return self.forbidden.get(name) or next(starts, None)

    def _unresolved(self, walk: Walk, function: Function, exceptions: Container[str]) -> Iterator[Finding]:
        names = {name.rpartition(".")[2] for name in self.forbidden}
        for blind in function.blind:
            key = call_key(function.name, blind.attribute or "?")
            if key not in exceptions and (self.untyped or blind.attribute in ("", ANY) or blind.attribute in names):
                advice = self.advice if self.untyped else "Give it a type; where it is harmless, say why in EXCEPTIONS."
                text = f"{self.name}: cannot be resolved: {blind.what}. {advice}"
                yield finding(text, walk, Step(function.name, Edge(blind.attribute or "?", blind.line)))


def awaits(graph: Graph, start: str) -> Iterator[Finding]:
    """What a handler waits for, but for our own coroutines, which are looked into."""
    walk = graph.walk(start, (Kind.NOW,))
    for function in walk.functions:
        for wait in function.waits:
            text = f"AWAIT: {wait.what} is awaited. This RPC answers at once, and awaits only what ANSWERS, STREAMS or CONTROLS say, with a reason."
            yield finding(text, walk, Step(function.name, Edge(wait.what, wait.line)))


def finding(text: str, walk: Walk, last: Step) -> Finding:
    """What is wrong, and the way there."""
    steps = walk.steps(last)
    chain = [walk.start, *(f"-> {step.edge.callee}  ({walk.place(step)})" for step in steps)]
    return Finding("\n      ".join([text, *chain]), frozenset(call_key(step.caller, step.edge.callee) for step in steps))


def _driver(graph: Graph, *, but: Collection[str] = ()) -> dict[str, str]:
    methods = (name for name in graph.methods(DRIVER) if name.rpartition(".")[2] not in but)
    return dict.fromkeys(methods, "asks the hypervisor")


def _queues(graph: Graph) -> dict[str, str]:
    taking = (name for name in graph.methods(*QUEUES) if name.rpartition(".")[2] not in LOOKS)
    return dict.fromkeys([*taking, "virtrpc_server.slots.first_of"], "takes a place in a queue, waits for one or gives one up")


def _blocking() -> dict[str, str]:
    return dict.fromkeys(BLOCKING, "may keep the thread waiting")


def by_waits_for(graph: Graph) -> dict[str, Rule]:
    """What the handler of an RPC may not reach, by the value of its option."""
    condition = {"virtrpc_server.slots.Conditions.of": "takes a domain's condition"}
    jobs = dict.fromkeys(("virtrpc_server.jobs.Jobs.accept", "virtrpc_server.running.Run.begin"), "begins a job")
    threads = dict.fromkeys(THREADS, "leaves the loop")
    waits = dict.fromkeys(("virtrpc_server.slots.Ticket.wait", "virtrpc_server.slots.first_of"), "waits in a queue")
    on_the_loop = (Kind.NOW, Kind.TASK, Kind.CALLBACK)
    return {
        "NOTHING": Rule(
            "NOTHING", tuple(Kind), _driver(graph) | _queues(graph) | jobs | threads | _blocking(),
            "Such an RPC answers from what the server holds: have a reader put it into the cache, or change waits_for.", ends=ELSEWHERE,
        ),
        "CONTROL": Rule(
            "CONTROL", (Kind.NOW,), _driver(graph, but=("cancel", "tune")) | waits | _blocking(),
            "Such an RPC is sent at once: let its job's task wait, or change waits_for.", ends=ELSEWHERE,
        ),
        "HYPERVISOR": Rule(
            "HYPERVISOR", on_the_loop, _driver(graph, but=READS) | condition | jobs | _blocking(),
            "Such an RPC only reads, and holds no domain: make it a job with waits_for CONDITION.", ends=ELSEWHERE,
        ),
        "CONDITION": Rule(
            "CONDITION", on_the_loop, _blocking(),
            "The loop is the lock on everything: hand it to asyncio.to_thread, or have the driver process do it.", ends=ELSEWHERE,
        ),
    }  # fmt: skip


def callbacks() -> Rule:
    """What a callback on the loop may not reach."""
    advice = "A callback runs under the domain lock and awaits nothing: have it mark, report or make a task."
    return Rule("CALLBACK", (Kind.NOW,), _blocking(), advice, plain=True)


def libvirt_callbacks() -> Rule:
    """What a callback on libvirt's event thread may not reach."""
    forbidden = _blocking() | {"asyncio.": "belongs to the loop's thread", "_asyncio.": "belongs to the loop's thread", "libvirt.": "calls libvirt"}
    advice = "On libvirt's event thread events are only handed over, with call_soon_threadsafe: a call of libvirt would hold up all events."
    allowed = ("asyncio.events.AbstractEventLoop.call_soon_threadsafe",)
    return Rule("LIBVIRT", (Kind.NOW,), forbidden, advice, allowed, plain=True, untyped=True)


def threads() -> Rule:
    """What a thread of the server may not touch."""
    forbidden = dict.fromkeys([f"{name}." for name in STATE], "belongs to the loop's thread")
    advice = "State is touched on the loop alone: give the thread values, and let the loop take in what it returns."
    return Rule("THREAD", (Kind.NOW,), forbidden, advice)


def event_roots(graph: Graph) -> dict[str, str]:
    """What runs in callbacks on the loop, and who registers it."""
    delivered = dict.fromkeys(graph.parameters[f"{DRIVER}.start.deliver"], "Driver.start")
    transports = dict.fromkeys((name for name in graph.methods("asyncio.protocols.BaseProtocol") if name in graph.functions), "asyncio's transports")
    return graph.roots(Kind.CALLBACK) | delivered | transports
