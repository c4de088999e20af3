"""Our source as mypy understands it: its functions, its classes, and what each expression in it may refer to.

Everything is resolved by type. Where several definitions may be meant (overrides, implementations of a protocol, the members
of a union) all of them count: what is found to be out of reach is out of reach.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mypy.build import BuildResult, build
from mypy.erasetype import erase_type
from mypy.main import process_options
from mypy.nodes import (
    Argument,
    AssignmentStmt,
    ClassDef,
    Decorator,
    Expression,
    FuncDef,
    FuncItem,
    LambdaExpr,
    MemberExpr,
    MypyFile,
    NameExpr,
    Node,
    OverloadedFuncDef,
    SuperExpr,
    TypeAlias,
    TypeInfo,
    Var,
)
from mypy.patterns import AsPattern, ClassPattern, MappingPattern, OrPattern, SequencePattern, ValuePattern
from mypy.state import state
from mypy.subtypes import is_subtype
from mypy.types import (
    AnyType,
    CallableType,
    Instance,
    LiteralType,
    NoneType,
    Overloaded,
    TupleType,
    Type,
    TypedDictType,
    TypeType,
    TypeVarType,
    UnionType,
)
from mypy.types import get_proper_type as proper
from mypy.typevars import fill_typevars

ROOT = Path(__file__).parents[2]
OURS = ("virtrpc_server", "virtrpc_drivers", "tests")
CONTAINERS = ("builtins.list", "builtins.set", "builtins.frozenset", "builtins.dict", "collections.", "weakref.", "queue.", "_queue.")
PLAIN = frozenset({"builtins.str", "builtins.bytes", "builtins.int", "builtins.float", "builtins.bool"})


def type_check(*paths: str) -> BuildResult:
    """Check these folders as `make check` does, and keep what mypy found out. Takes about ten seconds."""
    collecting = gc.isenabled()
    # Millions of nodes that live until the end: to look for garbage among them takes as long again.
    gc.disable()
    try:
        sources, options = process_options(["--config-file", str(ROOT / "pyproject.toml"), *(str(ROOT / path) for path in paths)])
        options.export_types = options.preserve_asts = True
        options.incremental = False
        return build(sources, options)
    finally:
        if collecting:
            gc.enable()


FIELDS = {
    AssignmentStmt: ("lvalues", "rvalue"),
    OverloadedFuncDef: ("items", "impl"),
    AsPattern: ("pattern", "name"),
    OrPattern: ("patterns",),
    ValuePattern: ("expr",),
    SequencePattern: ("patterns",),
    MappingPattern: ("keys", "values", "rest"),
    ClassPattern: ("class_ref", "positionals", "keyword_values"),
}
"""What nodes consist of that do not say so themselves (`__match_args__`). mypy's visitors are compiled: no class of ours can inherit from them."""


def children(node: Node) -> Iterator[Node]:
    """What a node consists of."""
    fields: tuple[str, ...] = FIELDS[type(node)] if type(node) in FIELDS else getattr(node, "__match_args__", ())
    for field in fields:
        if field not in ("node", "info"):  # what it refers to, not what it consists of
            yield from _nodes(getattr(node, field))


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)


def parts(node: Node | None) -> list[FuncDef]:
    """The functions that a definition consists of: one, or all of an overloaded one or of a property."""
    match node:
        case FuncDef():
            return [node]
        case Decorator():
            return [node.func]
        case OverloadedFuncDef():
            return [part for item in (*node.items, node.impl) for part in parts(item)]
    return []


class Definitions:
    """The functions and classes of one module, with names of their own: nested ones and lambdas have none in mypy."""

    def __init__(self, module: MypyFile) -> None:
        self.functions: dict[FuncItem, str] = {}
        self.classes: list[ClassDef] = []
        self._names: Counter[str] = Counter()
        self._visit(module, module.fullname)

    def _visit(self, node: Node, path: str) -> None:
        match node:
            case ClassDef():
                self.classes.append(node)
                path = f"{path}.{node.name}"
            case FuncDef():
                path = self._define(node, f"{path}.{node.name}")
            case LambdaExpr():
                path = self._define(node, f"{path}.<lambda>")
        for child in children(node):
            self._visit(child, path)

    def _define(self, function: FuncItem, name: str) -> str:
        # A second lambda, the setter of a property: namesakes are numbered.
        self._names[name] += 1
        self.functions[function] = name = f"{name}#{self._names[name]}" if self._names[name] > 1 else name
        return name


class Program:
    """What some of our packages define."""

    def __init__(self, checked: BuildResult, *packages: str) -> None:
        self._types = checked.types
        self._kinds: dict[TypeInfo, list[TypeInfo]] = {}
        self.modules = {name: file for name, file in checked.files.items() if name.startswith(packages)}
        self.functions: dict[FuncItem, str] = {}
        self.module_of: dict[FuncItem, MypyFile] = {}
        self.classes: dict[TypeInfo, MypyFile] = {}
        for module in self.modules.values():
            found = Definitions(module)
            self.functions |= found.functions
            self.module_of |= dict.fromkeys(found.functions, module)
            self.classes |= dict.fromkeys((definition.info for definition in found.classes), module)

    def is_ours(self, node: Node) -> bool:
        """Whether a definition is one of those that are read."""
        return node in self.classes if isinstance(node, TypeInfo) else any(part in self.functions for part in parts(node))

    def kinds(self, info: TypeInfo) -> list[TypeInfo]:
        """Our classes whose objects may stand where one of this class is expected; not the class itself."""
        if info not in self._kinds:
            others = (other for other in self.classes if other is not info)
            self._kinds[info] = [other for other in others if info in other.mro or implements(other, info)]
        return self._kinds[info]

    def members(self, info: TypeInfo, name: str) -> list[Node]:
        """What an attribute of an object of this class may be: its own or inherited definition, and those that override or implement it."""
        symbol = info.get(name)
        found: list[Node] = [symbol.node] if symbol is not None and symbol.node is not None else []
        for other in self.kinds(info):
            symbol = other.get(name) if info.is_protocol else other.names.get(name)
            if symbol is not None and symbol.node is not None:
                found.append(symbol.node)
        return found

    def classes_of(self, expression: Expression) -> list[TypeInfo] | None:
        """The classes that a value may have; None where mypy does not know."""
        return _classes(self._types.get(expression))

    def class_objects(self, expression: Expression) -> list[TypeInfo]:
        """The classes that a value is, where it is a class."""
        type_ = proper(self._types.get(expression))
        is_class = isinstance(type_, TypeType) or (isinstance(type_, CallableType) and type_.is_type_obj())
        return (_classes(type_) or []) if is_class else []

    def targets(self, expression: Expression) -> list[Node] | None:
        """The definitions that a name or an attribute may refer to; None where mypy does not know."""
        match expression:
            case NameExpr(node=TypeAlias() as alias):
                return list(_classes(alias.target) or [])
            case NameExpr():
                return [expression.node] if expression.node is not None else None
            case MemberExpr(node=node) if node is not None:
                return [node]
            case MemberExpr():
                classes = self.classes_of(expression.expr)
                return None if classes is None else [node for info in classes for node in self.members(info, expression.name)]
            case SuperExpr(info=info) if info is not None:
                symbols = (base.names.get(expression.name) for base in info.mro[1:])
                return [next(symbol.node for symbol in symbols if symbol is not None and symbol.node is not None)]
        return []


def parameters(function: FuncItem) -> list[Argument]:
    """What a caller gives; the object of a method is not given."""
    bound = isinstance(function, FuncDef) and function.info and not function.is_static
    return function.arguments[1 if bound else 0 :]


def implements(info: TypeInfo, protocol: TypeInfo) -> bool:
    """Whether objects of a class may stand where one of a protocol is expected that it does not name as its base."""
    # The names first: they rule out nearly all, and quickly.
    named = protocol.is_protocol and not info.is_protocol and all(info.get(name) is not None for name in protocol.protocol_members)
    with state.strict_optional_set(True):
        return named and is_subtype(erase_type(fill_typevars(info)), erase_type(fill_typevars(protocol)))


def may_hold(type_: Type | None) -> bool:
    """Whether a value of this type may be a function, or hold one."""
    match found := proper(type_):
        case NoneType() | LiteralType():
            return False
        case UnionType() | TupleType():
            return any(may_hold(item) for item in found.items)
        case Instance() if found.type.fullname.startswith(CONTAINERS):
            return any(may_hold(item) for item in found.args)
        case Instance():
            ours = found.type.fullname.startswith(tuple(f"{package}." for package in OURS))
            callable_ = found.type.is_protocol or found.type.get("__call__") is not None
            return found.type.fullname not in PLAIN and (callable_ or not ours)
    return True


def name_of(node: Node) -> str:
    """The full name of a definition."""
    return node.fullname if isinstance(node, (FuncDef, Decorator, OverloadedFuncDef, TypeInfo, Var)) else type(node).__name__


def _classes(type_: Type | None) -> list[TypeInfo] | None:
    match found := proper(type_):
        case None | AnyType():
            return None
        case Instance():
            return [found.type]
        case UnionType():
            return _all(found.items)
        case TypeVarType():
            return _all(found.values or [found.upper_bound])
        case TupleType():
            return _classes(found.partial_fallback)
        case LiteralType() | TypedDictType():
            return _classes(found.fallback)
        case TypeType():
            return _classes(found.item)
        case CallableType():
            return [found.type_object()] if found.is_type_obj() else [found.fallback.type]
        case Overloaded():
            return _classes(found.items[0])
    return []


def _all(types: Iterable[Type]) -> list[TypeInfo] | None:
    found = [_classes(each) for each in types]
    return None if None in found else [info for infos in found if infos is not None for info in infos]
