"""What expressions are made of: a call's arguments, the parts that a value may come from, a name for messages."""

from __future__ import annotations

from collections.abc import Iterator

from mypy.nodes import (
    ARG_NAMED,
    ARG_NAMED_OPT,
    ARG_STAR,
    ARG_STAR2,
    Argument,
    AssignmentExpr,
    AwaitExpr,
    CallExpr,
    CastExpr,
    ConditionalExpr,
    Decorator,
    DictExpr,
    DictionaryComprehension,
    Expression,
    GeneratorExpr,
    IndexExpr,
    ListComprehension,
    ListExpr,
    MemberExpr,
    NameExpr,
    Node,
    OpExpr,
    OverloadedFuncDef,
    SetComprehension,
    SetExpr,
    StarExpr,
    TupleExpr,
    Var,
)

from tests.structure.program import OURS

STARS = (ARG_STAR, ARG_STAR2)
NAMED = (ARG_NAMED, ARG_NAMED_OPT)


def pairs(call: CallExpr, arguments: list[Argument]) -> Iterator[tuple[Argument, Expression]]:
    """A call's values and the parameters that they go to."""
    by_name = {argument.variable.name: argument for argument in arguments}
    rest = [argument for argument in arguments if argument.kind in (ARG_STAR, ARG_STAR2)]
    for number, (value, kind, name) in enumerate(zip(call.args, call.arg_kinds, call.arg_names, strict=True)):
        if kind in (ARG_STAR, ARG_STAR2):
            yield from ((argument, value) for argument in arguments)
        elif name is not None and kind in (ARG_NAMED, ARG_NAMED_OPT):
            yield from ((argument, value) for argument in ([by_name[name]] if name in by_name else rest))
        elif number < len(arguments) and arguments[number].kind not in (ARG_STAR, ARG_STAR2, ARG_NAMED, ARG_NAMED_OPT):
            yield arguments[number], value
        else:
            yield from ((argument, value) for argument in rest)


def is_foreign(variable: Var) -> bool:
    module, dot, _ = variable.fullname.partition(".")
    return bool(dot) and module not in OURS


def is_property(node: Node) -> bool:
    """Whether reading this attribute is a call."""
    match node:
        case Decorator():
            return node.var.is_property
        case OverloadedFuncDef():
            return node.is_property
    return False


def held_in(expression: Expression) -> list[Expression]:
    """The parts of an expression that its value may be, or may hold."""
    match expression:
        case ConditionalExpr():
            return [expression.if_expr, expression.else_expr]
        case OpExpr():
            return [expression.left, expression.right]
        case TupleExpr() | ListExpr() | SetExpr():
            return list(expression.items)
        case DictExpr():
            return [value for _, value in expression.items]
        case AwaitExpr() | StarExpr() | CastExpr():
            return [expression.expr]
        case IndexExpr():
            return [expression.base]
        case AssignmentExpr():
            return [expression.value]
        case ListComprehension() | SetComprehension():
            return [expression.generator.left_expr]
        case GeneratorExpr():
            return [expression.left_expr]
        case DictionaryComprehension():
            return [expression.value]
    return []


def text(expression: Expression) -> str:
    match expression:
        case NameExpr():
            return expression.name
        case MemberExpr():
            return f"{text(expression.expr)}.{expression.name}"
        case CallExpr():
            return f"{text(expression.callee)}(...)"
        case IndexExpr():
            return f"{text(expression.base)}[...]"
    return "..."
