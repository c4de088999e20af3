"""Who imports whom, wherever in a file: an import in a function loads as much as one at the top."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tests.structure.program import ROOT

FOLDERS = ("server", "drivers", "clients/python")


@dataclass(frozen=True, slots=True)
class Import:
    """An import, by the full name of what is imported, and where it stands."""

    name: str
    place: str


class Imports:
    """The imports of our modules."""

    def __init__(self, sources: Mapping[str, tuple[str, str]]) -> None:
        """`sources` are paths and texts by module."""
        self._imports = {module: list(dict.fromkeys(_imports(module, path, text))) for module, (path, text) in sources.items()}

    @property
    def modules(self) -> Collection[str]:
        """The modules that were read."""
        return self._imports.keys()

    def of(self, module: str) -> list[Import]:
        """What one module imports."""
        return self._imports[module]

    def broken(self, start: str, forbidden: Collection[str], advice: str) -> list[str]:
        """What is loaded and must not be once `start` runs, with the way there."""
        came: dict[str, tuple[str, Import] | None] = {start: None}
        waiting, found = deque([start]), []
        while waiting:
            module = waiting.popleft()
            for each in self._imports[module]:
                if _within(each.name, forbidden):
                    found.append(f"{each.name} {advice}\n      {self._chain(came, module, each)}")
                for loaded in self._loaded(each.name):
                    if loaded not in came:
                        came[loaded] = (module, each)
                        waiting.append(loaded)
        return found

    def _loaded(self, name: str) -> Iterator[str]:
        # A module's packages are loaded before it.
        parts = name.split(".")
        yield from (module for end in range(1, len(parts) + 1) if (module := ".".join(parts[:end])) in self._imports)

    def _chain(self, came: Mapping[str, tuple[str, Import] | None], module: str, last: Import) -> str:
        lines = [f"-> {last.name}  ({last.place})"]
        while (step := came[module]) is not None:
            lines.insert(0, f"-> {module}  ({step[1].place})")
            module = step[0]
        return "\n      ".join([module, *lines])


def sources(*folders: str) -> dict[str, tuple[str, str]]:
    """The modules below these folders of the repository."""
    found: dict[str, tuple[str, str]] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts).removesuffix(".__init__")
            found[module] = (str(path.relative_to(ROOT)), path.read_text())
    return found


def _within(name: str, forbidden: Collection[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in forbidden)


def _imports(module: str, path: str, text: str) -> Iterator[Import]:
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        for name in _names(node, package):
            yield Import(name, f"{path}:{getattr(node, 'lineno', 1)}")


def _names(node: ast.AST, package: str) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # What is imported of a package may be a module of it.
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        case ast.Name(id="__import__"):
            yield "__import__"
