"""Where functions go as values: into variables, attributes, parameters and results, and so to those who call them.

A container holds whatever was put into it, and what foreign code gives back may be whatever it was given: too much rather than too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mypy.nodes import CallExpr, FuncItem, Var

from tests.structure.graph import Kind
from tests.structure.program import may_hold, parameters


@dataclass(frozen=True, slots=True)
class Foreign:
    """A function that is not ours."""

    name: str


@dataclass(frozen=True, slots=True)
class Returned:
    """What a function of ours returns or yields."""

    function: FuncItem


@dataclass(frozen=True, slots=True)
class Result:
    """What one call gives."""

    call: CallExpr


Known = FuncItem | Foreign
Slot = Var | Returned | Result
Source = Known | Slot


@dataclass(frozen=True, slots=True)
class Called:
    """A call, or a handing over to foreign code that will call it, of whatever these sources hold."""

    caller: str
    sources: tuple[Source, ...]
    line: int
    kind: Kind
    call: CallExpr | None
    """None where foreign code makes the call."""
    text: str = ""
    given: tuple[tuple[Source, ...], ...] = ()
    """What foreign code calls it with: one for each parameter where it is `in_order`, as of functools.partial, else for any."""
    in_order: bool = False


@dataclass(slots=True)
class Flows:
    """Who may hold what."""

    held: dict[Slot, dict[Source, None]] = field(default_factory=dict)
    called: list[Called] = field(default_factory=list)

    def flow(self, sources: Iterable[Source], slot: Slot) -> None:
        """What these hold, this holds too."""
        if not isinstance(slot, Var) or may_hold(slot.type):
            self.held.setdefault(slot, {}).update(dict.fromkeys(sources))

    def functions(self, sources: Iterable[Source]) -> list[Known]:
        """The functions that these may hold."""
        seen = dict.fromkeys(sources)
        waiting = list(seen)
        while waiting:
            source = waiting.pop()
            if not isinstance(source, FuncItem | Foreign):
                new = [other for other in self.held.get(source, ()) if other not in seen]
                seen.update(dict.fromkeys(new))
                waiting += new
        return [source for source in seen if isinstance(source, FuncItem | Foreign)]

    def settle(self, bind: Callable[[CallExpr, FuncItem], None]) -> dict[Called, list[Known]]:
        """Who calls what through a value. `bind` lets a call's arguments flow into a function, which may show new callees."""
        found: dict[Called, list[Known]] = {called: [] for called in self.called}
        settled = False
        while not settled:
            settled = True
            for called, known in found.items():
                for function in self.functions(called.sources):
                    if function in known:
                        continue
                    known.append(function)
                    if isinstance(function, Foreign):
                        continue
                    settled = False
                    if called.call is not None:
                        bind(called.call, function)
                    else:
                        self._hand(called, function)
        return found

    def _hand(self, called: Called, function: FuncItem) -> None:
        for number, argument in enumerate(parameters(function)):
            for sources in called.given[number : number + 1] if called.in_order else called.given:
                self.flow(sources, argument.variable)
