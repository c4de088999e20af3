"""Makes the stubs of each language in clients/, and the routes in server/envoy, from proto/virtrpc/v1.

    python proto/generate.py              write the stubs
    python proto/generate.py --check      fail where the committed stubs differ from what would be written
    python proto/generate.py --check go   the same for the languages that are named, and fail where their tools are missing
    python proto/generate.py --baseline   accept the contract as it is: `buf breaking` compares with this image from now on

protoc and the Python plugins are those of the environment that runs this file (grpcio-tools, mypy-protobuf, buf-bin). Another language's plugins are
pinned beside its client and fetched by its own tools once. Where those tools are not installed, --check says that it left the language out.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from google.rpc import error_details_pb2  # type: ignore[import-untyped] # has neither stubs nor a marker

PROTO = Path(__file__).resolve().parent
CLIENTS = PROTO.parent / "clients"
PACKAGE = Path("virtrpc") / "v1"
BASELINE = PROTO / "baseline.binpb"
ENVOY = PROTO.parent / "server" / "envoy" / "generate.py"
"""What follows from the contract for a proxy."""
DIFF_LINES = 12
GO_PACKAGE = "virtrpc.dev/go/virtrpcv1"


@dataclass(frozen=True)
class Language:
    """Where the stubs of one language are, and how they are made."""

    name: str
    home: Path
    pattern: str
    """What finds them below `home`."""
    generate: Callable[[Path], None]
    """Writes them below a directory that stands for `home`."""
    lacks: Callable[[], str] = str
    """What must be installed first; empty where nothing is missing."""


def tool(name: str) -> str:
    """The path of a program of this environment; a clear exit where it is missing."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is missing: run `make setup`, then use .venv/bin/python")
    return found


def run(*command: str | Path) -> None:
    """Runs a command; exits where it fails, which has said why."""
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"{Path(command[0]).name} failed; see above")


def protoc(*options: str) -> None:
    """Runs protoc on the contract."""
    files = [str(path) for path in sorted((PROTO / PACKAGE).glob("*.proto"))]
    run(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", *options, *files)


def python(into: Path) -> None:
    """The proto package equals the import root, so the stubs are used as protoc writes them."""
    plugins = [f"--plugin={name}={tool(name)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    protoc(*plugins, *outputs, "--mypy_opt=quiet", "--mypy_grpc_opt=quiet")


def go(into: Path) -> None:
    """The plugins are those of clients/go/tools/go.mod. Which Go package it is stands here and not in the contract, which knows no language."""
    with tempfile.TemporaryDirectory() as tools:
        packages = ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc")
        run("go", "-C", CLIENTS / "go/tools", "build", "-o", f"{tools}/", *packages)
        plugins = [f"--plugin={tools}/{name}" for name in ("protoc-gen-go", "protoc-gen-go-grpc")]
        places = [f"M{path.relative_to(PROTO)}={GO_PACKAGE}" for path in sorted((PROTO / PACKAGE).glob("*.proto"))]
        options = ",".join(["module=virtrpc.dev/go", *places])
        protoc(*plugins, f"--go_out={into}", f"--go_opt={options}", f"--go-grpc_out={into}", f"--go-grpc_opt={options}")


def lacks_go() -> str:
    """Go, where it is missing or older than the client's own go.mod asks for."""
    wanted = _version((CLIENTS / "go/go.mod").read_text(encoding="utf-8"))
    # Below / no go.mod makes an older Go fetch a newer one.
    found = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/").stdout if shutil.which("go") else ""
    return "" if _version(found) >= wanted else f"Go {wanted[0]}.{wanted[1]} or newer (https://go.dev/dl)"


def typescript(into: Path) -> None:
    """The plugin is that of clients/typescript/package-lock.json. Connect decodes an error's details by stubs of their own, which no package has."""
    (into / "src/gen").mkdir(parents=True)
    details = Path(error_details_pb2.__file__).parents[2]
    plugin = f"--plugin={CLIENTS / 'typescript/node_modules/.bin/protoc-gen-es'}"
    out = [f"--es_out={into / 'src/gen'}", "--es_opt=target=ts,import_extension=js"]
    protoc(plugin, f"--proto_path={details}", *out, "google/rpc/error_details.proto")


def lacks_typescript() -> str:
    """Node, or what npm could not fetch."""
    if shutil.which("npm") is None:
        return "Node 20.19 or newer with npm (https://nodejs.org)"
    home = CLIENTS / "typescript"
    locked, installed = home / "package-lock.json", home / "node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
        print("fetching what clients/typescript/package-lock.json names", file=sys.stderr)
        if subprocess.run(["npm", "ci", "--no-progress", "--loglevel=error"], cwd=home, check=False, stdout=sys.stderr).returncode != 0:
            return "what `npm ci` in clients/typescript could not fetch; see above"
    return ""


def _version(text: str) -> tuple[int, int]:
    found = re.search(r"^go ?(\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


LANGUAGES = (
    Language("python", CLIENTS / "python", "virtrpc/v1/*_pb2*.py*", python),
    Language("go", CLIENTS / "go", "virtrpcv1/*.pb.go", go, lacks_go),
    Language("typescript", CLIENTS / "typescript", "src/gen/**/*_pb.ts", typescript, lacks_typescript),
)


def stubs(language: Language, root: Path) -> dict[Path, str]:
    """Generated files below a language's home, or what stands for it, with their text."""
    return {path.relative_to(root): path.read_text(encoding="utf-8") for path in sorted(root.glob(language.pattern))}


def drift(committed: dict[Path, str], fresh: dict[Path, str]) -> Iterator[str]:
    """Lines that say how the committed stubs differ from fresh ones; none where they do not."""
    for name in sorted(committed.keys() | fresh.keys()):
        if name not in committed:
            yield f"missing: {name}"
        elif name not in fresh:
            yield f"left over: {name}"
        elif committed[name] != fresh[name]:
            yield f"differs: {name}"
            changes = difflib.unified_diff(committed[name].splitlines(), fresh[name].splitlines(), "committed", "generated", lineterm="", n=0)
            yield from ("    " + line[:140] for line in islice(changes, DIFF_LINES))


def fresh_stubs(language: Language) -> dict[Path, str]:
    """What is made of the contract now."""
    with tempfile.TemporaryDirectory() as directory:
        language.generate(Path(directory))
        return stubs(language, Path(directory))


def write(language: Language) -> None:
    """Replaces the committed stubs, and removes those whose .proto file is gone."""
    fresh = fresh_stubs(language)
    for name in stubs(language, language.home).keys() - fresh.keys():
        (language.home / name).unlink()
    for name, text in fresh.items():
        (language.home / name).parent.mkdir(parents=True, exist_ok=True)
        (language.home / name).write_text(text, encoding="utf-8")


def check(languages: list[Language]) -> None:
    """Exits with a summary where the committed stubs are not what the contract gives."""
    lines = [line for language in languages for line in drift(stubs(language, language.home), fresh_stubs(language))]
    if lines:
        sys.exit("\n".join(["stubs are not in step with proto/:", *lines, "run `make proto` and commit the result"]))


def baseline() -> None:
    """Rewrites the image that `buf breaking` compares with."""
    run(tool("buf"), "build", PROTO, "--exclude-source-info", "--output", BASELINE)


def chosen(names: list[str]) -> tuple[list[Language], list[str]]:
    """The languages of these names, or all: those that can be made here, and a line for each that cannot."""
    wanted = [language for language in LANGUAGES if not names or language.name in names]
    missing = {language.name: language.lacks() for language in wanted}
    lines = [f"the stubs of {name} were left out: install {what}" for name, what in missing.items() if what]
    return [language for language in wanted if not missing[language.name]], lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Makes the stubs of the contract.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"only these of {', '.join(language.name for language in LANGUAGES)}")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="write nothing; fail where the committed stubs differ")
    what.add_argument("--baseline", action="store_true", help="accept the present contract as the one that must not break")
    options = parser.parse_args()
    if options.baseline:
        baseline()
        return
    languages, left_out = chosen(options.languages)
    for line in left_out:
        print(line, file=sys.stderr)
    if options.check:
        check(languages)
    else:
        for language in languages:
            write(language)
    if not options.languages:
        run(sys.executable, ENVOY, *(["--check"] if options.check else []))
    # A check of all is content with what can be checked here. What was named is wanted, and what is to be committed must be whole.
    if left_out and (options.languages or not options.check):
        sys.exit(1)


if __name__ == "__main__":
    main()
