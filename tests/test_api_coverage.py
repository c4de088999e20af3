"""Every call that libvirt-python offers on a domain is served, planned or refused on purpose: docs/api-coverage.tsv says which.

The table has one row for each public method of virDomain, virDomainSnapshot and virDomainCheckpoint, and for each of virConnect but those whose
name contains a word of NOT_ABOUT_DOMAINS. A libvirt with a new method makes a test here fail until somebody has decided where the method goes.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import pytest

from virtrpc_server.contract import METHODS

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "api-coverage.tsv"
CLASSES = ("virConnect", "virDomain", "virDomainSnapshot", "virDomainCheckpoint")
STATUSES = {"implemented", "planned", "excluded"}
NONE = "-"
NOT_ABOUT_DOMAINS = {
    "network": "virtual networks are objects of their own",
    "nwfilter": "packet filters are objects of their own",
    "interface": "the host's own network interfaces",
    "change": "transactions on the host's network interfaces",
    "storage": "storage pools and volumes are objects of their own",
    "secret": "stored secrets are objects of their own",
    "device": "the host's own devices",
}
"""Words in the names of virConnect's methods, and why a method with such a name needs no row."""
WITHOUT_LIBVIRT_CALL = {
    "JobService.ListJobs": "jobs are virtrpc's own",
    "JobService.WatchJobs": "jobs are virtrpc's own",
}
"""RPCs that no row names, and why."""


@dataclass(frozen=True)
class Row:
    """One row of the table; "-" stands for nothing, and several RPCs or tests are separated by blanks."""

    method: str
    """As libvirt-python calls it: "virDomain.suspend"."""
    status: str
    tier: str
    """Of a planned one: 2 is what users expect next, 3 comes later."""
    since: str
    """The libvirt that brought it, where that is newer than 9.0: an older one may lack it."""
    rpc: str
    tests: str
    """The tests that call the RPC, as pytest names them, without parameters."""
    reason: str
    """Why it is excluded, or what a planned one waits for."""

    def names(self, column: str) -> list[str]:
        """What a column lists."""
        cell: str = getattr(self, column)
        return [] if cell == NONE else cell.split()


@cache
def rows() -> tuple[Row, ...]:
    """The table."""
    header, *lines = TABLE.read_text().splitlines()
    assert header.split("\t") == [field.name for field in fields(Row)]
    return tuple(Row(*line.split("\t")) for line in lines)


def implemented() -> list[Row]:
    """The rows that a test must stand behind."""
    return [row for row in rows() if row.status == "implemented"]


@cache
def public_methods() -> frozenset[str]:
    """All public methods of the four classes, as this libvirt-python has them."""
    import libvirt

    return frozenset(
        f"{kind}.{name}" for kind in CLASSES for name, value in vars(getattr(libvirt, kind)).items() if callable(value) and not name.startswith("_")
    )


def word_against(method: str) -> str | None:
    """The word that says that a method of virConnect is not about domains."""
    kind, _, name = method.partition(".")
    return next((word for word in NOT_ABOUT_DOMAINS if kind == "virConnect" and word in name.lower()), None)


def contract() -> set[str]:
    """Every RPC as "Service.Method"."""
    return {f"{method.containing_service.name}.{method.name}" for method in METHODS}


@cache
def module(path: str) -> ast.Module | None:
    """A test file's syntax tree, or None where there is no such file."""
    file = ROOT / path
    return ast.parse(file.read_text()) if file.is_file() else None


def has_test(node_id: str) -> bool:
    """Whether "tests/file.py::test_name", or "tests/file.py::TestClass::test_name", can be collected."""
    path, *names = node_id.split("::")
    tree = module(path)
    scope: list[ast.stmt] = tree.body if tree else []
    for name in names:
        found = [node for node in scope if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name]
        if not found:
            return False
        scope = found[0].body
    return bool(names) and names[-1].startswith("test")


def calls(path: str, rpc: str) -> bool:
    """Whether a test file speaks of an RPC, by its name or by the client's."""
    name = rpc.partition(".")[2]
    tree = module(path)
    spoken = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} if tree else set()
    return bool(spoken & {name, client_name(name)})


def client_name(rpc: str) -> str:
    """What the Python client calls an RPC."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()


def test_every_method_has_one_row() -> None:
    """A method that libvirt-python offers on a domain is in the table, once."""
    wanted = {method for method in public_methods() if word_against(method) is None}
    assert sorted(wanted - {row.method for row in rows()}) == []
    assert [method for method, count in Counter(row.method for row in rows()).items() if count > 1] == []


def test_every_row_is_a_method() -> None:
    """A row names a method that exists, or one that a newer libvirt has."""
    assert [row.method for row in rows() if row.method not in public_methods() and row.since == NONE] == []
    assert [row.method for row in rows() if row.method.partition(".")[0] not in CLASSES] == []


def test_rows_are_sorted() -> None:
    """The table is in order of method, so that two changes of it seldom collide."""
    methods = [row.method for row in rows()]
    assert methods == sorted(methods, key=str.lower)


@pytest.mark.parametrize("word", NOT_ABOUT_DOMAINS)
def test_words_hide_no_call_on_a_domain(word: str) -> None:
    """A word that spares methods a row spares some, none with a row, and none whose name speaks of domains."""
    spared = {method for method in public_methods() if word_against(method) == word}
    assert spared
    assert spared & {row.method for row in rows()} == set()
    assert [method for method in spared if "domain" in method.lower()] == []


def test_rows_say_what_their_status_needs() -> None:
    """An implemented row names RPC and test, a planned one its tier and what it waits for, an excluded one its reason; nothing else is."""
    needed = {"implemented": {"rpc", "tests"}, "planned": {"tier", "reason"}, "excluded": {"reason"}}
    allowed = {"implemented": {"since"}, "planned": {"since", "rpc"}, "excluded": {"since"}}
    for row in rows():
        assert row.status in STATUSES, row
        filled = {field.name for field in fields(Row) if getattr(row, field.name) not in (NONE, "")} - {"method", "status"}
        assert needed[row.status] <= filled <= needed[row.status] | allowed[row.status], row
        assert row.tier in (NONE, "2", "3"), row
        assert row.since == NONE or re.fullmatch(r"\d+\.\d+\.\d+", row.since), row


def test_rpcs_are_named_as_the_contract_names_them() -> None:
    """An implemented row's RPCs are in the contract; a planned row's are at least named after one of its services."""
    assert [(row.method, rpc) for row in implemented() for rpc in row.names("rpc") if rpc not in contract()] == []
    services = {rpc.partition(".")[0] for rpc in contract()}
    for row in rows():
        for rpc in row.names("rpc"):
            assert rpc.partition(".")[0] in services, row
            assert re.fullmatch(r"[A-Z]\w+", rpc.partition(".")[2]), row


def test_tests_exist() -> None:
    """The tests that an implemented row names can be collected."""
    missing = sorted({test for row in implemented() for test in row.names("tests") if not has_test(test)})
    assert not missing, "there is no\n" + "\n".join(missing)


def test_tests_call_their_rpc() -> None:
    """Each RPC of an implemented row is called in a file that the row names."""
    called = {rpc for row in implemented() for rpc in row.names("rpc") for test in row.names("tests") if calls(test.partition("::")[0], rpc)}
    uncalled = sorted({rpc for row in implemented() for rpc in row.names("rpc")} - called)
    assert not uncalled, "no test named in the table calls\n" + "\n".join(uncalled)


def test_every_rpc_has_a_row() -> None:
    """An RPC of the contract serves some libvirt call, or says here why there is none for it."""
    served = {rpc for row in implemented() for rpc in row.names("rpc")}
    assert contract() - served == set(WITHOUT_LIBVIRT_CALL)
