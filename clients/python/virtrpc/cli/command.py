"""How a function becomes a command: a parameter whose type is a key of PARTS stands for the options that make it up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import typer

from virtrpc import errors
from virtrpc.aio import AsyncClient
from virtrpc.cli import follow
from virtrpc.cli.parts import PARTS, option
from virtrpc.cli.session import INTERRUPTED, Session, complain, exit_code, explain
from virtrpc.jobs import AsyncJobHandle

F = TypeVar("F", bound=Callable[..., Any])
Begin = Callable[..., Coroutine[Any, Any, AsyncJobHandle]]


def command(app: typer.Typer, name: str, *, panel: str = "", aliases: Sequence[str] = ()) -> Callable[[F], F]:
    """Makes a function that takes a Session a command. What it returns is the exit code; None is 0."""

    def register(function: F) -> F:
        _add(app, name, panel, aliases, function, _assembled(function))
        return function

    return register


def verb(app: typer.Typer, name: str, *, panel: str = "", aliases: Sequence[str] = ()) -> Callable[[F], F]:
    """Makes a command of a function that takes an AsyncClient and JobOptions, and begins a job: it is followed to its end, or left when detached."""

    def register(function: F) -> F:
        def followed(session: Session, detach: bool, **given: Any) -> int:
            begin: Begin = function
            return follow.follow(session, lambda client: begin(client, **given), detach=detach)

        _add(app, name, panel, aliases, function, _assembled(function, followed))
        return function

    return register


def _add(app: typer.Typer, name: str, panel: str, aliases: Sequence[str], function: Callable[..., Any], made: Callable[..., None]) -> None:
    words = inspect.cleandoc(function.__doc__ or "")
    app.command(name, help=words, rich_help_panel=panel or None)(made)
    for alias in aliases:
        app.command(alias, help=words, hidden=True)(made)


def _assembled(function: Callable[..., Any], followed: Callable[..., int] | None = None) -> Callable[..., None]:
    """A function whose parameters are those of `function` with the parts taken apart, and whose body puts them together and calls it."""
    wanted = dict(inspect.signature(function, eval_str=True).parameters)
    if followed is not None:
        wanted = {name: parameter for name, parameter in wanted.items() if parameter.annotation is not AsyncClient}
        wanted["session"] = option("session", Session)
    shown = [shown for parameter in wanted.values() for shown in _taken_apart(parameter)]

    def run(**given: Any) -> None:
        detach = {"detach": bool(given.get("detach"))} if followed is not None else {}
        values = {name: _put_together(parameter, given) for name, parameter in wanted.items()}
        raise typer.Exit(_ended(partial(followed or function, **detach, **values), values["session"]))

    run.__name__ = function.__name__
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined] # what inspect, and so Typer, looks at first
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


def _taken_apart(parameter: inspect.Parameter) -> Sequence[inspect.Parameter]:
    part = PARTS.get(parameter.annotation)
    return (parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY),) if part is None else part.options


def _put_together(parameter: inspect.Parameter, given: dict[str, Any]) -> Any:
    part = PARTS.get(parameter.annotation)
    if part is None:
        return given[parameter.name]
    try:
        return part.build(**{option.name: given[option.name] for option in part.options})
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _ended(work: Callable[[], int | None], session: Session) -> int:
    try:
        return work() or 0
    except errors.VirtrpcError as error:
        complain(explain(error, session.address))
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
