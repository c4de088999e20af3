"""One function's body: what it calls, hands over, reads and awaits."""

from __future__ import annotations

from dataclasses import dataclass

from mypy.nodes import (
    AssignmentExpr,
    AssignmentStmt,
    AwaitExpr,
    CallExpr,
    ClassDef,
    ConditionalExpr,
    DictionaryComprehension,
    Expression,
    ForStmt,
    FuncDef,
    FuncItem,
    GeneratorExpr,
    IndexExpr,
    LambdaExpr,
    ListExpr,
    MemberExpr,
    NameExpr,
    Node,
    OperatorAssignmentStmt,
    RefExpr,
    ReturnStmt,
    StarExpr,
    StrExpr,
    SuperExpr,
    TupleExpr,
    TypeInfo,
    Var,
    WithStmt,
    YieldExpr,
    YieldFromExpr,
)

from tests.structure.flows import Called, Returned
from tests.structure.graph import ANY, Blind, Edge, Function, Kind, Wait
from tests.structure.program import CONTAINERS, children, name_of, parts
from tests.structure.syntax import is_foreign, is_property, pairs, text
from tests.structure.values import CONSTRUCTION, Values, hands_on

LIBVIRT_CALLS = frozenset({"domainEventRegisterAny", "registerCloseCallback", "registerErrorHandler"})
"""What of libvirt, which has no types, calls what it is given on its event thread."""


@dataclass(frozen=True, slots=True)
class Coroutine:
    """One that is made where it is given to whatever a value holds: whether that makes a task of it is known when the value is."""

    caller: str
    callee: str
    line: int
    value: Expression
    to: Called


class Body:
    """Reads one body; what is defined in it is read by itself."""

    def __init__(self, values: Values, function: Function, item: FuncItem | None) -> None:
        self._values, self._program, self._flows = values, values.program, values.flows
        self._function = function
        self._item = item
        self.coroutines: list[Coroutine] = []
        self._kinds: dict[Expression, Kind] = {}
        self._written: set[Expression] = set()
        self._given_to: dict[Expression, Called] = {}

    def read(self, node: Node, *, whole: bool = True) -> None:
        """Read a statement or an expression and all that is in it; not the `whole` of a value that is only asked for an attribute."""
        match node:
            case FuncDef() | LambdaExpr():
                self._defaults(node)
                return
            case ClassDef():
                return
            case CallExpr():
                self._call(node)
            case MemberExpr():
                self._attribute(node)
            case _:
                self._statement(node)
        if whole and isinstance(node, Expression):
            self._special(node)
        for child in children(node):
            self.read(child, whole=not isinstance(node, MemberExpr))

    def _defaults(self, item: FuncItem) -> None:
        # Of what is defined here only the defaults are evaluated here.
        for argument in item.arguments:
            if argument.initializer is not None:
                self.read(argument.initializer)
                self._flow(argument.initializer, argument.variable)

    # Values

    def _statement(self, node: Node) -> None:
        match node:
            case AssignmentStmt():
                self._written.update(node.lvalues)
                for left in node.lvalues:
                    self._assign(left, node.rvalue)
            case OperatorAssignmentStmt():
                self._assign(node.lvalue, node.rvalue)
            case AssignmentExpr():
                self._assign(node.target, node.value)
            case ForStmt():
                self._iterate(node.index, node.expr, is_async=node.is_async)
            case GeneratorExpr() | DictionaryComprehension():
                for index, sequence, is_async in zip(node.indices, node.sequences, node.is_async, strict=True):
                    self._iterate(index, sequence, is_async=is_async)
            case WithStmt():
                for context, target in zip(node.expr, node.target, strict=True):
                    self._iterate(target, context, is_async=node.is_async)
                    self._enter(context)
            case ReturnStmt() | YieldExpr() | YieldFromExpr() if node.expr is not None and self._item is not None:
                self._flow(node.expr, Returned(self._item))
                self._give_back(node.expr)
            case AwaitExpr():
                self._awaited(node.expr)

    def _iterate(self, target: Expression | None, source: Expression, *, is_async: bool) -> None:
        if target is not None:
            self._assign(target, source)
        if is_async:
            self._awaited(source)

    def _enter(self, context: Expression) -> None:
        # Those of our own classes are among their special methods.
        for info in self._program.classes_of(context) or ():
            if info not in self._program.classes:
                self._edge(f"{info.fullname}.__enter__", context.line)

    def _assign(self, left: Expression, value: Expression) -> None:
        match left:
            case TupleExpr() | ListExpr():
                values = value.items if isinstance(value, TupleExpr) and len(value.items) == len(left.items) else [value] * len(left.items)
                for item, its_value in zip(left.items, values, strict=True):
                    self._assign(item, its_value)
            case StarExpr():
                self._assign(left.expr, value)
            case IndexExpr():
                self._assign(left.base, value)
            case NameExpr() | MemberExpr():
                for node in self._program.targets(left) or ():
                    if isinstance(node, Var):
                        self._flow(value, node)

    def _flow(self, value: Expression, slot: Var | Returned) -> None:
        sources = self._values.of(value)
        if sources:
            self._flows.flow(sources, slot)

    # Calls

    def _call(self, call: CallExpr) -> None:
        if not isinstance(call.callee, RefExpr | SuperExpr):
            self._through_value(call)
            return
        targets = self._program.targets(call.callee)
        for node in targets or ():
            self._call_of(call, node)
        if targets is None:
            # An attribute of a value without a type is noted where it is read.
            self._give(call, Kind.EVENT if isinstance(call.callee, MemberExpr) and call.callee.name in LIBVIRT_CALLS else Kind.NOW)

    def _call_of(self, call: CallExpr, node: Node) -> None:
        if isinstance(node, Var) and is_foreign(node):
            self._foreign(call, node.fullname)
        elif isinstance(node, Var) or is_property(node):
            self._through_value(call)
        elif not self._program.is_ours(node):
            self._foreign(call, name_of(node))
        elif isinstance(node, TypeInfo):
            self._construct(call, node)
        else:
            for function in parts(node):
                self._pass_on(call, function)
                self._values.bind(call, function)
                self._to(self._program.functions[function], call, coroutine=function.is_coroutine and not function.is_async_generator)

    def _to(self, name: str, call: CallExpr, *, coroutine: bool) -> None:
        to = self._given_to.get(call)
        if coroutine and to is not None:
            self.coroutines.append(Coroutine(self._function.name, name, call.line, call, to))
        else:
            self._edge(name, call.line, self._kinds.get(call, Kind.NOW) if coroutine else Kind.NOW)

    def _pass_on(self, call: CallExpr, function: FuncItem) -> None:
        # A coroutine that is given to one who only makes a task of it is not waited for here.
        for argument, value in self._values.arguments(call, function):
            if argument.variable in self._values.passed_on:
                self._kinds[value] = Kind.TASK

    def _construct(self, call: CallExpr, info: TypeInfo) -> None:
        for base in info.mro:
            if base in self._program.classes:
                self._edge(f"{base.fullname}.<class>", call.line)
        for function in self._values.constructors(info):
            self._edge(self._program.functions[function], call.line)
            self._values.bind(call, function)
        made = info.get("__init__")
        if made is not None and made.plugin_generated:
            self._fill(call, info, parts(made.node)[0])

    def _fill(self, call: CallExpr, info: TypeInfo, made: FuncDef) -> None:
        # What a dataclass or a struct is made with goes into the attributes of the same names.
        for argument, value in pairs(call, made.arguments[1:]):
            for node in self._program.members(info, argument.variable.name):
                if isinstance(node, Var):
                    self._flow(value, node)

    def _through_value(self, call: CallExpr) -> None:
        made = self._program.class_objects(call.callee)
        for info in made:
            self._call_of(call, info)
        if made:
            return
        sources = tuple(self._values.of(call.callee))
        called = Called(self._function.name, sources, call.line, self._kinds.get(call, Kind.NOW), call, text(call.callee))
        self._flows.called.append(called)
        self._given_to |= {value: called for value in call.args if isinstance(value, CallExpr)}

    def _foreign(self, call: CallExpr, name: str) -> None:
        self._edge(name, call.line)
        kind = hands_on(name)
        if kind is Kind.TASK:
            self._kinds |= dict.fromkeys(call.args, Kind.TASK)
        if name == "builtins.getattr":
            self._getattr(call)
        elif name.startswith(CONTAINERS) and isinstance(call.callee, MemberExpr):
            for value in call.args:
                self._assign(call.callee.expr, value)
        else:
            self._give(call, kind or Kind.NOW, in_order=kind is not None or name == "functools.partial")

    def _give(self, call: CallExpr, kind: Kind = Kind.NOW, *, in_order: bool = False) -> None:
        values = [tuple(self._values.of(value)) for value in call.args]
        for number, sources in enumerate(values):
            if sources:
                given = tuple(values[number + 1 :] if in_order else values[:number] + values[number + 1 :])
                self._flows.called.append(Called(self._function.name, sources, call.line, kind, None, given=given, in_order=in_order))

    def _getattr(self, call: CallExpr) -> None:
        owner, name = call.args[0], call.args[1]
        classes = self._program.classes_of(owner)
        if classes is None:
            self._blind(f"getattr() of `{text(owner)}`, a value without a type", call.line, name.value if isinstance(name, StrExpr) else ANY)
        for info in classes or ():
            # A name that is computed may be any.
            for attribute in [name.value] if isinstance(name, StrExpr) else list(info.names):
                for node in self._program.members(info, attribute):
                    self._read(node, call.line)

    # Attributes and special methods

    def _attribute(self, member: MemberExpr) -> None:
        targets = self._program.targets(member)
        if targets is None:
            self._blind(f"`{text(member)}` is an attribute of a value without a type", member.line, member.name)
        for node in targets or ():
            self._read(node, member.line, written=member in self._written)

    def _read(self, node: Node, line: int, *, written: bool = False) -> None:
        if isinstance(node, Var) and node.info in self._program.classes:
            self._edge(node.fullname, line)
        elif is_property(node):
            for function in parts(node)[1:] if written else parts(node)[:1]:
                self._edge(self._program.functions.get(function, function.fullname), line)

    def _special(self, expression: Expression) -> None:
        for info in self._program.classes_of(expression) or ():
            names = (name for name in info.names if name.startswith("__") and name.endswith("__") and name not in CONSTRUCTION)
            nodes = (node for name in names if info in self._program.classes for node in self._program.members(info, name))
            for function in (part for node in nodes for part in parts(node)):
                if function in self._program.functions:
                    self._edge(self._program.functions[function], expression.line)

    # Awaits

    def _awaited(self, value: Expression) -> None:
        match value:
            case ConditionalExpr():
                self._awaited(value.if_expr)
                self._awaited(value.else_expr)
            case CallExpr(callee=RefExpr() as callee) if (named := self._named(callee)) is not None:
                self._function.waits += [Wait(name_of(node), value.line) for node in named if not self._program.is_ours(node)]
            case _:
                classes = ", ".join(info.fullname for info in self._program.classes_of(value) or ())
                self._function.waits.append(Wait(f"a value ({classes or 'of no known type'})", value.line))

    def _give_back(self, value: Expression) -> None:
        # Whoever awaits what a plain function gives back is taken to do so here; to await a property is to await a value.
        classes = self._program.classes_of(value) or ()
        if not self._function.attribute and any(info.get(name) is not None for info in classes for name in ("__await__", "__aiter__")):
            self._awaited(value)

    def _named(self, callee: Expression) -> list[Node] | None:
        """The functions and classes that a call names; None where it calls a value."""
        targets = self._program.targets(callee)
        return None if not targets or any(isinstance(node, Var) for node in targets) else targets

    def _edge(self, callee: str, line: int, kind: Kind = Kind.NOW) -> None:
        self._function.edges[Edge(callee, line, kind)] = None

    def _blind(self, what: str, line: int, attribute: str = "") -> None:
        self._function.blind.append(Blind(what, line, attribute))
