"""What the values of expressions may be, as far as they are functions, and how a call's arguments become parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mypy.nodes import Argument, CallExpr, Expression, FuncDef, FuncItem, LambdaExpr, MemberExpr, NameExpr, Node, RefExpr, SuperExpr, TypeInfo, Var

from tests.structure.flows import Flows, Foreign, Result, Returned, Source
from tests.structure.graph import Kind
from tests.structure.program import Program, children, name_of, parameters, parts
from tests.structure.syntax import held_in, is_property, pairs

HANDS_ON = {
    **dict.fromkeys(("to_thread", "run_in_executor", "submit", "Thread", "Timer"), Kind.THREAD),
    **dict.fromkeys(("create_task", "ensure_future", "run_coroutine_threadsafe"), Kind.TASK),
    **dict.fromkeys(("call_soon", "call_soon_threadsafe", "call_later", "call_at", "add_done_callback", "add_signal_handler"), Kind.CALLBACK),
}
"""What in asyncio, threading and concurrent.futures calls what it is given elsewhere than where it is given."""
CONSTRUCTION = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__"})


def hands_on(name: str) -> Kind | None:
    """When a foreign function calls what it is given, where that is not now."""
    module = name.split(".")[0]
    return HANDS_ON.get(name.rpartition(".")[2]) if module in ("asyncio", "_asyncio", "threading", "concurrent") else None


class Values:
    """The values of a program's expressions, and where they go."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.flows = Flows()
        self.passed_on = _passed_on(program)
        """The parameters of which nothing is made but a task."""

    def of(self, expression: Expression) -> list[Source]:
        """What functions an expression's value may be, or may hold."""
        match expression:
            case NameExpr() | MemberExpr() | SuperExpr():
                return [source for node in self.program.targets(expression) or () for source in self._of_definition(node)]
            case LambdaExpr():
                return [expression]
            case CallExpr():
                return self._of_call(expression)
            case _:
                return [source for part in held_in(expression) for source in self.of(part)]

    def bind(self, call: CallExpr, function: FuncItem) -> None:
        """Let a call's arguments flow into a function's parameters, and its result out of it."""
        for argument, value in self.arguments(call, function):
            self.flows.flow(self.of(value), argument.variable)
        self.flows.flow([Returned(function)], Result(call))

    def arguments(self, call: CallExpr, function: FuncItem) -> Iterator[tuple[Argument, Expression]]:
        """A call's values and the parameters that they go to."""
        return pairs(call, parameters(function))

    def constructors(self, info: TypeInfo) -> Iterator[FuncDef]:
        """What of ours is called when an object of a class is made."""
        symbols = (info.get(name) for name in sorted(CONSTRUCTION))
        yield from (part for symbol in symbols if symbol is not None for part in parts(symbol.node) if part in self.program.functions)

    def _of_definition(self, node: Node) -> Iterator[Source]:
        if isinstance(node, Var):
            yield node
        elif isinstance(node, TypeInfo):
            yield from self.constructors(node)
        elif is_property(node):
            yield Returned(parts(node)[0])
        else:
            for part in parts(node):
                yield part if part in self.program.functions else Foreign(part.fullname)

    def _of_call(self, call: CallExpr) -> list[Source]:
        targets = self.program.targets(call.callee) if isinstance(call.callee, RefExpr | SuperExpr) else ()
        if not targets or any(isinstance(node, Var) or self.program.is_ours(node) for node in targets):
            return [Result(call)]
        if any(hands_on(name_of(node)) for node in targets):
            return []
        receiver = [call.callee.expr] if isinstance(call.callee, MemberExpr) else []
        return [source for given in (*call.args, *receiver) for source in self.of(given)]


def _passed_on(program: Program) -> set[Var]:
    reads: Counter[Var] = Counter()
    tasks: Counter[Var] = Counter()
    waiting: list[Node] = list(program.modules.values())
    while waiting:
        node = waiting.pop()
        waiting += children(node)
        if isinstance(node, NameExpr) and isinstance(node.node, Var):
            reads[node.node] += 1
        if isinstance(node, CallExpr) and any(hands_on(name_of(target)) is Kind.TASK for target in program.targets(node.callee) or ()):
            tasks.update(value.node for value in node.args if isinstance(value, NameExpr) and isinstance(value.node, Var))
    parameters = {argument.variable for function in program.functions for argument in function.arguments}
    return {variable for variable, count in tasks.items() if variable in parameters and reads[variable] == count}
