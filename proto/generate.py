"""Makes the Python stubs in clients/python/virtrpc/v1 from proto/virtrpc/v1.

    python proto/generate.py              write the stubs
    python proto/generate.py --check      fail where the committed stubs differ from what would be written
    python proto/generate.py --baseline   accept the contract as it is: `buf breaking` compares with this image from now on

The proto package equals the import root, so the stubs are used as protoc writes them. Everything runs offline, with the tools of the environment
that runs this file (grpcio-tools, mypy-protobuf, buf-bin).
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

PROTO = Path(__file__).resolve().parent
ROOT = PROTO.parent / "clients" / "python"
PACKAGE = Path("virtrpc") / "v1"
BASELINE = PROTO / "baseline.binpb"
DIFF_LINES = 12


def tool(name: str) -> str:
    """The path of a program of this environment; a clear exit where it is missing."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} is missing: run `make setup`, then use .venv/bin/python")
    return found


def generate(into: Path) -> None:
    """Writes the stubs below the import root `into`."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"]
    command += [f"--plugin={name}={tool(name)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command += [f"--python_out={into}", f"--grpc_python_out={into}", f"--mypy_out=quiet:{into}", f"--mypy_grpc_out=quiet:{into}"]
    command += [str(path) for path in sorted((PROTO / PACKAGE).glob("*.proto"))]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("protoc refused the contract; see above")


def stubs(root: Path) -> dict[str, str]:
    """Generated files below the import root, by name, with their text."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((root / PACKAGE).glob("*_pb2*.py*"))}


def drift(committed: dict[str, str], fresh: dict[str, str]) -> Iterator[str]:
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


def fresh_stubs() -> dict[str, str]:
    """What protoc makes of the contract now."""
    with tempfile.TemporaryDirectory() as directory:
        generate(Path(directory))
        return stubs(Path(directory))


def write() -> None:
    """Replaces the committed stubs, and removes those whose .proto file is gone."""
    fresh, target = fresh_stubs(), ROOT / PACKAGE
    for name in stubs(ROOT).keys() - fresh.keys():
        (target / name).unlink()
    for name, text in fresh.items():
        (target / name).write_text(text, encoding="utf-8")


def check() -> None:
    """Exits with a summary where the committed stubs are not what the contract gives."""
    lines = list(drift(stubs(ROOT), fresh_stubs()))
    if lines:
        sys.exit("\n".join(["stubs are not in step with proto/:", *lines, "run `make proto` and commit the result"]))


def baseline() -> None:
    """Rewrites the image that `buf breaking` compares with."""
    subprocess.run([tool("buf"), "build", str(PROTO), "--exclude-source-info", "--output", str(BASELINE)], check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Makes the Python stubs of the contract.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="write nothing; fail where the committed stubs differ")
    what.add_argument("--baseline", action="store_true", help="accept the present contract as the one that must not break")
    options = parser.parse_args()
    if options.baseline:
        baseline()
    elif options.check:
        check()
    else:
        write()


if __name__ == "__main__":
    main()
