"""Who loads what: libvirt stays in driver processes, gRPC out of them. By the imports of all files, and in processes that run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Server
from tests.structure.imports import FOLDERS, Imports, sources

LIBVIRT = ("libvirt", "libvirtmod", "libvirtaio", "libvirt_qemu", "libvirt_lxc", "virtrpc_drivers.libvirt", "virtrpc_drivers.process")
GRPC = ("grpc", "grpc_health", "grpc_reflection", "grpc_status", "google", "opentelemetry", "virtrpc", "virtrpc_server")
BY_NAME = ("importlib", "importlib.import_module", "importlib.util", "runpy", "__import__")
NOT_IN_THE_SERVER = "is loaded in the server: it blocks, forks and crashes. Ask the driver for it, through virtrpc_drivers.protocol."
NOT_IN_A_DRIVER = "is loaded in a driver process: its threads do not survive libvirt's fork. Give the driver plain values instead."
NOT_BY_NAME = "imports what nobody can follow: write the import out."
ELSEWHERE = "is imported outside virtrpc_drivers/libvirt/, the one folder that knows it."


@pytest.fixture(scope="module")
def imports() -> Imports:
    """Those of our own files."""
    return Imports(sources(*FOLDERS))


def expect_none(found: list[str]) -> None:
    """Fail with what was found, and nothing else."""
    if found:
        pytest.fail("\n".join(dict.fromkeys(found)), pytrace=False)


def server_modules(imports: Imports) -> list[str]:
    """What the server's process may run."""
    return [module for module in imports.modules if module.split(".")[0] == "virtrpc_server"]


def test_the_server_loads_no_libvirt(imports: Imports) -> None:
    """Whichever of its modules is loaded, at its top or in a function."""
    found = [text for module in server_modules(imports) for text in imports.broken(module, LIBVIRT, NOT_IN_THE_SERVER)]
    expect_none(found)


def test_a_driver_process_loads_no_grpc(imports: Imports) -> None:
    """Nor protobuf, the stubs, the server, or anything that brings gRPC in."""
    found = imports.broken("virtrpc_drivers.process", GRPC, NOT_IN_A_DRIVER)
    expect_none(found)


def test_only_the_libvirt_driver_imports_libvirt(imports: Imports) -> None:
    """One folder knows it."""
    outside = [module for module in imports.modules if not module.startswith("virtrpc_drivers.libvirt")]
    found = [f"{each.name} {ELSEWHERE}  ({each.place})" for module in outside for each in imports.of(module) if each.name.split(".")[0] in LIBVIRT]
    expect_none(found)


def test_nothing_is_imported_by_a_computed_name(imports: Imports) -> None:
    """In the server and in the drivers: nobody could follow it."""
    ours = [module for module in imports.modules if module.split(".")[0] in ("virtrpc_server", "virtrpc_drivers")]
    found = [f"{each.name} {NOT_BY_NAME}  ({each.place})" for module in ours for each in imports.of(module) if each.name in BY_NAME]
    expect_none(found)


def test_what_is_imported_is_seen(imports: Imports) -> None:
    """The walk follows what a driver process and the server are known to load, in functions too."""
    assert imports.broken("virtrpc_drivers.process", ["libvirt"], "")
    assert imports.broken("virtrpc_server.main", ["grpc"], "")


PLANTED = {
    "server.a": ("server/a.py", "def read():\n    import libvirt\n"),
    "server.b": ("server/b.py", "from . import a\n"),
    "process": ("process.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import grpc\nfrom one import two\n"),
    "one": ("one/__init__.py", ""),
    "one.two": ("one/two.py", "try:\n    from .three import name\nexcept ImportError:\n    pass\n"),
    "one.three": ("one/three.py", "import grpc.aio as fast\n"),
    "dynamic": ("dynamic.py", "module = __import__('grpc')\n"),
}


@pytest.mark.parametrize(
    ("start", "forbidden", "way"),
    [
        ("server.b", "libvirt", ["server.b", "-> server.a  (server/b.py:1)", "-> libvirt  (server/a.py:2)"]),
        ("process", "grpc", ["process", "-> one.two  (process.py:4)", "-> one.three  (one/two.py:2)", "-> grpc.aio  (one/three.py:1)"]),
        ("dynamic", "__import__", ["dynamic", "-> __import__  (dynamic.py:1)"]),
    ],
)
def test_a_planted_import_is_found_and_told_with_its_way(start: str, forbidden: str, way: list[str]) -> None:
    """In a function, and two imports deep; what only type checkers read is not loaded."""
    (found,) = Imports(PLANTED).broken(start, [forbidden], "must not be loaded")
    assert [line.strip() for line in found.splitlines()[1:]] == way


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with a host of libvirt and a simulated one, both connected."""
    with Server({"mock": "test:///default", "sim": "sim:///?domains=1"}) as server:
        server.wait_live()
        yield server


def mapped(pid: int) -> set[str]:
    """The names of the files that a process has loaded code from."""
    lines = (line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return {Path(fields[5]).name for fields in lines if len(fields) == 6}


def loads(pid: int, *libraries: str) -> bool:
    """Whether a process has loaded one of these libraries."""
    return any(name.startswith(libraries) for name in mapped(pid))


def test_a_running_server_has_no_libvirt(server: Server) -> None:
    """With a host of libvirt connected; gRPC's own library is there, so that this would be seen."""
    assert not loads(server.pid, "libvirt")
    assert loads(server.pid, "cygrpc")


@pytest.mark.parametrize("host", ["mock", "sim"])
def test_a_running_driver_process_has_no_grpc(server: Server, host: str) -> None:
    """Neither gRPC's library nor protobuf's; libvirt's is in the process of the host that needs it and in no other."""
    pid = server.driver_pid(host)
    assert not loads(pid, "cygrpc", "_message")
    assert loads(server.pid, "_message")
    assert loads(pid, "libvirt") == (host == "mock")
