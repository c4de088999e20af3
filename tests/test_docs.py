"""The documents say what the code does: what can be checked in them is checked here."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer import Typer
from typer.main import get_command
from typer.testing import CliRunner

import virtrpc_server
from tests.test_api_coverage import has_test
from virtrpc.cli.main import app as client_program
from virtrpc.errors import make_error
from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.operations import VERBS
from virtrpc_drivers.proving import MADE, UNPROVABLE
from virtrpc_drivers.sim.options import SimOptions
from virtrpc_server.app import App
from virtrpc_server.contract import METHODS, waits_for
from virtrpc_server.errors import STATUS
from virtrpc_server.main import cli as server_program
from virtrpc_server.settings import Settings, load
from virtrpc_server.settings.hosts import HostSettings
from virtrpc_server.settings.identity import JwtSettings, TlsSettings
from virtrpc_server.settings.limits import LimitSettings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = ROOT / "README.md"
PROGRAMS = {"virtrpc": client_program, "virtrpcd": server_program}
IMPLIED = {"virtrpcd": "serve"}
"""The command that a program runs where a line names none."""
REASON = "ERROR_REASON_"
GUARD = 60.0


def tables(path: Path) -> Iterator[list[str]]:
    """The cells of each table row of a document, heads and rules left out."""
    lines = path.read_text().splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not is_rule(line) and not is_rule(after):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def is_rule(line: str) -> bool:
    """Whether this is the line between a table's head and its rows."""
    return bool(line) and set(line) <= set("|- ")


def code(path: Path, language: str) -> list[str]:
    """The code blocks of a document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


# Links and words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """A link inside the project has its target."""
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", path.read_text()) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []


def test_the_readme_lists_every_document() -> None:
    """Every document is in README, decisions by their folder."""
    text = README.read_text()
    listed = {path.relative_to(ROOT) for path in (ROOT / "docs").iterdir()}
    assert sorted(str(path) for path in listed if f"({path})" not in text) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_words_for_make_exist(path: Path) -> None:
    """Every `make WORD` is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_word_for_make_is_told(name: str) -> None:
    """README and CONTRIBUTING have all words that `make help` lists."""
    words = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (ROOT / name).read_text()
    assert [word for word in words if not re.search(rf"`(make )?{word}`", text)] in ([], ["help"])


def test_decisions_have_one_form() -> None:
    """Decisions are numbered without gaps, and say context, decision and consequences in half a page."""
    paths = sorted((ROOT / "docs/adr").iterdir())
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text()
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name
        assert len(text.splitlines()) <= 40, path.name


# Commands and examples


def commands() -> list[str]:
    """Every line in the documents that runs one of the two programs."""
    lines = [line for path in DOCUMENTS for block in code(path, "sh") for line in block.splitlines()]
    return sorted({line.partition("  #")[0].strip() for line in lines if line.split(" ")[0] in PROGRAMS})


@pytest.mark.parametrize("line", commands())
def test_commands_are_real(line: str) -> None:
    """A command in a document exists, and takes the options that it is shown with."""
    name, *words = line.split()
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    if name in IMPLIED and (not words or words[0].startswith("-")):
        words = [IMPLIED[name]]
    assert sorted(options - known_options(PROGRAMS[name], words)) == []


def known_options(program: Typer, words: list[str]) -> set[str]:
    """The options of the command that a line begins with, and of the program itself."""
    command: Any = get_command(program)
    own = options_of(command)
    for word in words:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        assert word in command.commands, f"{word} is no command"
        command = command.commands[word]
    return own | options_of(command)


def options_of(command: Any) -> set[str]:
    """The options of one command."""
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_programs_explain_themselves() -> None:
    """Both programs have a help text."""
    for program in PROGRAMS.values():
        assert CliRunner().invoke(program, ["--help"]).exit_code == 0


async def test_the_python_example_runs(tmp_path: Path) -> None:
    """README's Python example, as it stands, saves a simulated guest."""
    (example,) = code(README, "python")
    host = HostSettings(name="try", uri="sim://try/?domains=1&running=1&save_seconds=0.2")
    app = App(Settings(hosts=(host,), socket=tmp_path / "s"))
    await app.start()
    try:
        async with asyncio.timeout(GUARD):
            while not app.hosts["try"].listed:  # noqa: ASYNC110 # the driver process reports in its own time
                await asyncio.sleep(0.01)
            run = await asyncio.create_subprocess_exec(
                sys.executable, "-c", example, env={**os.environ, "VIRTRPC_ADDRESS": str(tmp_path / "s")}, stdout=subprocess.PIPE
            )
            printed, _ = await run.communicate()
    finally:
        await app.stop()
    lines = printed.decode().splitlines()
    assert (run.returncode, lines[0], lines[-2:]) == (0, "try guest-1 booted", ["100 %", "saved"])


# The contract


def test_the_readme_has_the_whole_contract() -> None:
    """README's table has every RPC, under its service and what it may wait for."""
    told = {(service, wait, rpc) for service, wait, rpcs in (row for row in tables(README) if len(row) == 3) for rpc in rpcs.split(", ")}
    assert told == {(method.containing_service.name, waits_for(method), method.name) for method in METHODS}


def test_jobs_md_has_every_state_and_outcome() -> None:
    """docs/jobs.md explains every state of a job, every outcome of a cancel and everything that a job may wait for."""
    text = (ROOT / "docs/jobs.md").read_text()
    for enum in (types_pb2.JobState, types_pb2.JobWaitingFor, job_pb2.CancelOutcome):
        names = [value.name for value in enum.DESCRIPTOR.values]
        prefix = names[0].removesuffix("UNSPECIFIED")
        assert [name for name in names[1:] if name.removeprefix(prefix) not in text] == []


def test_jobs_md_has_the_proof_of_each_verb() -> None:
    """docs/jobs.md tells of each verb what proves it, whether what was there before does, and why nothing does, as the drivers have it."""
    rows = [row for row in tables(ROOT / "docs/jobs.md") if row[-1] in ("proves it", "does not", "nothing does")]
    told = [(rpc, proof, before) for rpcs, proof, before in rows for rpc in rpcs.split(", ")]
    names = {method.name for method in METHODS}
    verb_of = {verb if verb in names else f"{verb}Domain": verb for verb in VERBS}
    assert sorted(rpc for rpc, *_ in told) == sorted(verb_of)
    before = {True: "does not", False: "proves it"}
    assert [rpc for rpc, _, said in told if said != ("nothing does" if verb_of[rpc] in UNPROVABLE else before[verb_of[rpc] in MADE])] == []
    reasons = {rpc: proof.removeprefix("nothing: ") for rpc, proof, _ in told if proof.startswith("nothing: ")}
    assert {verb_of[rpc]: reason for rpc, reason in reasons.items()} == UNPROVABLE


@cache
def reason_comments() -> dict[str, str]:
    """The comment of each ErrorReason, on one line."""
    proto = ROOT / "proto"
    with TemporaryDirectory() as directory:
        image = Path(directory) / "image.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto}", "--include_source_info", f"--descriptor_set_out={image}"]
        subprocess.run([*command, "virtrpc/v1/types.proto"], check=True, cwd=proto)
        (file,) = FileDescriptorSet.FromString(image.read_bytes()).file
    number = [enum.name for enum in file.enum_type].index("ErrorReason")
    values = file.enum_type[number].value
    found = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
    return {value.name.removeprefix(REASON): " ".join(found[5, number, 2, place].split()) for place, value in enumerate(values)}


def reason_rows() -> list[list[str]]:
    """The table of docs/errors.md, as the contract would have it."""
    rows = []
    for reason, comment in reason_comments().items():
        status, colon, text = comment.partition(": ")
        if colon and status == STATUS[reason].name:
            rows.append([reason, status, text, make_error(STATUS[reason], reason).__class__.__name__])
    return rows


def test_errors_md_is_the_contract() -> None:
    """docs/errors.md has every reason with the status and the words of the contract, and the class that the client raises."""
    assert {row[0] for row in reason_rows()} | {"UNSPECIFIED"} == set(STATUS)
    assert list(tables(ROOT / "docs/errors.md")) == reason_rows()


def test_the_typescript_client_has_the_same_kinds() -> None:
    """Its table of reasons has each with the name of the Python client's class; without a row its next build fails."""
    text = (ROOT / "clients/typescript/src/errors.ts").read_text()
    assert dict(re.findall(r'^  ([A-Z_]+): "(\w+)",$', text, re.MULTILINE)) == {row[0]: row[3] for row in reason_rows()}


def test_the_go_client_has_the_same_kinds() -> None:
    """Its table of reasons has each with the name of the Python client's class after Err; without a row it would go by the status alone."""
    text = (ROOT / "clients/go/virtrpc/kinds.go").read_text()
    assert dict(re.findall(r'^\t"([A-Z_]+)": +Err(\w+),$', text, re.MULTILINE)) == {row[0]: row[3] for row in reason_rows()}


# Settings


def shown_default(field: FieldInfo) -> str:
    """A default as docs/configuration.md writes it."""
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, tuple) and value:
        return ", ".join(f"{item.name}={item.uri}" if isinstance(item, HostSettings) else str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "", ()) else f"{value:g}" if isinstance(value, float) else str(value)


def settings_rows(width: int, document: str = "configuration.md") -> dict[str, list[str]]:
    """The rows of a document's tables with that many cells, by setting."""
    return {row[0].strip("`"): row for row in tables(ROOT / "docs" / document) if len(row) == width}


@pytest.mark.parametrize(
    ("model", "width", "table", "document"),
    [
        (Settings, 5, "", "configuration.md"),
        (HostSettings, 3, "", "configuration.md"),
        (TlsSettings, 4, "tls.", "configuration.md"),
        (JwtSettings, 4, "jwt.", "configuration.md"),
        (LimitSettings, 4, "", "limits.md"),
    ],
)
def test_every_setting_is_told(model: type[BaseModel], width: int, table: str, document: str) -> None:
    """The documents have every setting with its default, and no other."""
    rows = {name.removeprefix(table): row for name, row in settings_rows(width, document).items() if name.startswith(table)}
    assert set(rows) == set(model.model_fields)
    for name, field in model.model_fields.items():
        if field.default_factory is None:
            assert shown_default(field) in [cell.strip("`") for cell in rows[name][1:-1]], name


def test_flags_and_variables_are_told() -> None:
    """Each setting stands beside its flag, which `virtrpcd serve` takes, and its variable."""
    command: Any = get_command(server_program)
    flags = options_of(command.commands["serve"]) - {"--help", "--config"}
    rows = settings_rows(5)
    nested = [row for name, row in settings_rows(4).items() if "." in name]
    told = {row[1].strip("`") for row in (*rows.values(), *nested)}
    assert {flag for flag in told if flag.startswith("--")} == flags
    assert {row[2].strip("`") for row in rows.values()} == {f"VIRTRPC_{name.upper()}" for name in rows}


def test_the_toml_example_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/configuration.md's file can be loaded."""
    for name in [name for name in os.environ if name.startswith("VIRTRPC_")]:
        monkeypatch.delenv(name)
    (example,) = code(ROOT / "docs/configuration.md", "toml")
    (tmp_path / "virtrpcd.toml").write_text(example)
    loaded = load(config=tmp_path / "virtrpcd.toml")
    assert [host.name for host in loaded.hosts] == re.findall(r'^name = "(.*)"', example, re.MULTILINE)


# Tests that documents name


def test_tests_in_documents_exist() -> None:
    """A test that a document names can be collected."""
    named = {test for path in DOCUMENTS for test in re.findall(r"tests/[\w/]+\.py::\w+", path.read_text())}
    assert named
    assert sorted(test for test in named if not has_test(test)) == []


def test_each_promise_has_its_test() -> None:
    """No row of docs/security.md promises what no test holds."""
    promises = list(tables(ROOT / "docs" / "security.md"))
    assert len(promises) > 30
    assert [promise for promise, tests in promises if not re.fullmatch(r"(tests/[\w/]+\.py::\w+(, )?)+", tests)] == []


def test_the_map_of_the_server_is_whole() -> None:
    """virtrpc_server's docstring names each of its modules and packages once, and nothing else."""
    there = {path.stem for path in Path(virtrpc_server.__path__[0]).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    named = [name for line in re.findall(r"^- .+: (.+)$", virtrpc_server.__doc__ or "", re.MULTILINE) for name in line.split(", ")]
    assert sorted(named) == sorted(there - {"__init__"})


if __name__ == "__main__":
    print("| reason | status | what it means, and what to do | Python |\n|---|---|---|---|")
    for cells in reason_rows():
        print(f"| {' | '.join(cells)} |")


def test_every_parameter_of_the_simulation_is_documented() -> None:
    """The table of sim: parameters has each field of SimOptions and no other."""
    section = (ROOT / "docs/drivers.md").read_text().partition("## A simulated hypervisor")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(SimOptions.__struct_fields__)
