"""A call graph, and walks in it: plain data, so that the trees that it was read from can be forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, field
from enum import Enum

ANY = "*"
"""An attribute whose name is computed."""


class Kind(Enum):
    """When a call happens."""

    NOW = "now"
    """Before the caller goes on, or while it awaits."""
    TASK = "task"
    """On the loop, in a task of its own."""
    CALLBACK = "callback"
    """On the loop, in a callback."""
    THREAD = "thread"
    """On another thread of ours."""
    EVENT = "event"
    """On libvirt's event thread."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A call. `callee` is one of our functions, an attribute of ours, or something foreign."""

    callee: str
    line: int
    kind: Kind = Kind.NOW


@dataclass(frozen=True, slots=True)
class Wait:
    """An await of something that is not a coroutine of ours."""

    what: str
    line: int


@dataclass(frozen=True, slots=True)
class Blind:
    """A place where it cannot be told what is called: `attribute` of a value without a type, or what is described."""

    what: str
    line: int
    attribute: str = ""


@dataclass(slots=True)
class Function:
    """One of our functions, or the body of a class or of a module."""

    name: str
    path: str
    line: int
    coroutine: bool = False
    attribute: bool = False
    """Whether it is read like an attribute: a property."""
    edges: dict[Edge, None] = field(default_factory=dict)
    waits: list[Wait] = field(default_factory=list)
    blind: list[Blind] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """How a walk came to a function."""

    caller: str
    edge: Edge


class Walk:
    """All that is reached from one function by calls of these kinds, but for `skipped` calls; nothing is looked for beyond what `ends` holds."""

    def __init__(self, graph: Graph, start: str, kinds: Collection[Kind], ends: Callable[[str], bool], skipped: Container[str]) -> None:
        self._graph, self.start, self._kinds, self._skipped = graph, start, kinds, skipped
        self._came: dict[str, Step | None] = {start: None}
        waiting = deque([start])
        while waiting:
            name = waiting.popleft()
            for edge in self.calls(name) if not ends(name) else ():
                if edge.callee not in self._came:
                    self._came[edge.callee] = Step(name, edge)
                    waiting.append(edge.callee)

    def __contains__(self, name: object) -> bool:
        return name in self._came

    def calls(self, name: str) -> Iterator[Edge]:
        """What one of the functions calls."""
        function = self._graph.functions.get(name)
        for edge in function.edges if function is not None else ():
            if edge.kind in self._kinds and call_key(name, edge.callee) not in self._skipped:
                yield edge

    @property
    def functions(self) -> Iterator[Function]:
        """The functions of ours that were reached."""
        return (function for name in self._came if (function := self._graph.functions.get(name)) is not None)

    def steps(self, last: Step) -> list[Step]:
        """The way to a step, call by call."""
        steps = [last]
        while (step := self._came[steps[0].caller]) is not None:
            steps.insert(0, step)
        return steps

    def place(self, step: Step) -> str:
        """Where a call is made."""
        return f"{self._graph.functions[step.caller].path}:{step.edge.line}"


def call_key(caller: str, callee: str) -> str:
    """How an exception names a call."""
    return f"{caller} -> {callee}"


@dataclass(slots=True)
class Graph:
    """Who calls whom."""

    functions: dict[str, Function]
    kinds: dict[str, list[str]]
    """Our classes that are of a class's kind, by its name: itself, what inherits from it, and what implements it."""

    def methods(self, *classes: str) -> list[str]:
        """What can be called of these classes and all of their kind; without properties and what is private."""
        kinds = {kind for name in classes for kind in self.kinds[name]}
        owned = (function for function in self.functions.values() if function.name.rpartition(".")[0] in kinds)
        return [function.name for function in owned if not function.attribute and not function.name.rpartition(".")[2].startswith(("_", "<"))]

    parameters: dict[str, list[str]]
    """The functions that a parameter may hold, by its function's name and its own."""

    def walk(
        self, start: str, kinds: Collection[Kind] = tuple(Kind), ends: Callable[[str], bool] = lambda _: False, skipped: Container[str] = ()
    ) -> Walk:
        """See Walk."""
        return Walk(self, start, kinds, ends, skipped)

    def roots(self, kind: Kind) -> dict[str, str]:
        """Our functions that are called in this way, and where they are handed over."""
        return {
            edge.callee: f"{function.path}:{edge.line}"
            for function in self.functions.values()
            for edge in function.edges
            if edge.kind is kind and edge.callee in self.functions
        }
