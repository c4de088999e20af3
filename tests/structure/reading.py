"""From source to call graph.

A function counts as called where it is called by name, where a value that may be it is called, and where it is given to foreign
code. Objects are asked for their special methods (`__enter__`, `__getitem__` ...) wherever they are used as a whole.
"""

from __future__ import annotations

from pathlib import Path

from mypy.nodes import FuncDef, FuncItem, MypyFile, Node

from tests.structure.bodies import Body, Coroutine
from tests.structure.flows import Called, Foreign, Known
from tests.structure.graph import Blind, Edge, Function, Graph, Kind
from tests.structure.program import ROOT, Program
from tests.structure.values import Values


def read(program: Program) -> Graph:
    """The call graph of a program."""
    return _Reading(program).graph()


class _Reading:
    """The whole program being read."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._values = Values(program)
        self._functions: dict[str, Function] = {}
        self._coroutines: list[Coroutine] = []

    def graph(self) -> Graph:
        """Read every body, then find out what is called through values."""
        for module in self._program.modules.values():
            self._read(f"{module.fullname}.<module>", module, module, module)
        for info, module in self._program.classes.items():
            self._read(f"{info.fullname}.<class>", module, info.defn, info.defn.defs)
        for item, name in self._program.functions.items():
            self._read(name, self._program.module_of[item], item, item.body, item)
        settled = self._values.flows.settle(self._values.bind)
        for called, known in settled.items():
            self._through_value(called, known)
        for coroutine in self._coroutines:
            self._edge(coroutine.caller, Edge(coroutine.callee, coroutine.line, self._kind_of(coroutine, settled[coroutine.to])))
        return Graph(self._functions, self._kinds(), self._parameters())

    def _read(self, name: str, module: MypyFile, node: Node, body: Node, item: FuncItem | None = None) -> None:
        self._functions[name] = function = Function(name, str(Path(module.path).resolve().relative_to(ROOT)), max(1, node.line))
        function.attribute = isinstance(item, FuncDef) and item.is_property
        function.coroutine = item is not None and item.is_coroutine and not item.is_async_generator
        reader = Body(self._values, function, item)
        reader.read(body)
        self._coroutines += reader.coroutines

    def _edge(self, caller: str, edge: Edge) -> None:
        self._functions[caller].edges[edge] = None

    def _through_value(self, called: Called, known: list[Known]) -> None:
        for function in known:
            name = function.name if isinstance(function, Foreign) else self._program.functions[function]
            here = called.call is not None and not (name in self._functions and self._functions[name].coroutine)
            self._edge(called.caller, Edge(name, called.line, Kind.NOW if here else called.kind))
        if not known and called.call is not None:
            blind = Blind(f"nothing is known to be given to `{called.text}`, which is called here", called.line)
            self._functions[called.caller].blind.append(blind)

    def _kind_of(self, coroutine: Coroutine, known: list[Known]) -> Kind:
        """Whether a coroutine that is given to a value's function is made a task by whatever function that may be."""
        assert coroutine.to.call is not None
        functions = [function for function in known if isinstance(function, FuncItem)]
        parameters = [
            argument.variable
            for function in functions
            for argument, value in self._values.arguments(coroutine.to.call, function)
            if value is coroutine.value
        ]
        return Kind.TASK if parameters and len(functions) == len(known) and set(parameters) <= self._values.passed_on else Kind.NOW

    def _kinds(self) -> dict[str, list[str]]:
        ours = self._program.classes
        kinds = {info.fullname: [info.fullname, *(other.fullname for other in self._program.kinds(info))] for info in ours}
        for info in ours:
            for base in info.mro:
                if base not in ours:
                    kinds.setdefault(base.fullname, []).append(info.fullname)
        return kinds

    def _parameters(self) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        for function, name in self._program.functions.items():
            for argument in function.arguments:
                known = self._values.flows.functions([argument.variable])
                held[f"{name}.{argument.variable.name}"] = [self._program.functions[each] for each in known if not isinstance(each, Foreign)]
        return held
