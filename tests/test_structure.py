"""The central rules, held by the shape of the code: what may wait where, and who may import what."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from subprocess import run
from types import ModuleType

import pytest

import virtrpc_drivers
import virtrpc_server
from virtrpc.v1 import job_pb2, query_pb2, snapshot_pb2, types_pb2
from virtrpc_server import job, query, snapshot

SERVICES = ((query_pb2, query.QueryService), (job_pb2, job.JobService), (snapshot_pb2, snapshot.SnapshotService))
SERVER = Path(virtrpc_server.__path__[0])
DRIVERS = Path(virtrpc_drivers.__path__[0])
WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def methods(waits_for: types_pb2.WaitsFor.ValueType) -> list[tuple[type, str]]:
    """The handlers of all RPCs that may wait for this."""
    found: list[tuple[type, str]] = []
    for contract, handlers in SERVICES:
        for service in contract.DESCRIPTOR.services_by_name.values():
            rpcs = [method.name for method in service.methods if method.GetOptions().Extensions[types_pb2.waits_for] == waits_for]
            found += [(handlers, name) for name in rpcs]
    return found


def imports(path: Path) -> set[str]:
    """The top-level names and dotted modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize(("handlers", "name"), methods(types_pb2.WAITS_FOR_NOTHING))
def test_handlers_of_nothing_wait_for_nothing(handlers: type, name: str) -> None:
    """The handler of an RPC that waits for NOTHING has no await: it answers under the domain lock, or hands out a stream."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(handlers, name))))
    assert not [node for node in ast.walk(tree) if isinstance(node, WAITS)]


@pytest.mark.parametrize("module", [query], ids=lambda module: module.__name__)
def test_queries_cannot_reach_a_driver_or_a_condition(module: ModuleType) -> None:
    """QueryService and what answers it name no driver, no job and no condition."""
    queried = ("query", "devices", "xml_forms", "lookup", "paging", "messages/stats", "messages/domains", "messages/hosts")
    for name in queried:
        text = (SERVER / f"{name}.py").read_text()
        assert not imports(SERVER / f"{name}.py") & {"virtrpc_server.jobs", "virtrpc_server.slots", "virtrpc_server.running", "virtrpc_server.calls"}
        assert ".driver." not in text
        assert "conditions" not in text
    assert "driver" not in inspect.signature(module.QueryService.__init__).parameters


def test_the_server_never_imports_libvirt() -> None:
    """libvirt blocks, forks and crashes: no file of the server loads it, or the driver that does."""
    for path in SERVER.rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] == "libvirt" or name.startswith("virtrpc_drivers.libvirt")}, path


def test_only_the_libvirt_driver_imports_libvirt() -> None:
    """One folder knows libvirt."""
    for path in DRIVERS.rglob("*.py"):
        if path.parent.name != "libvirt":
            assert "libvirt" not in imports(path), path


def test_imports_run_one_way() -> None:
    """Drivers know nothing of the server, of the stubs or of gRPC."""
    for path in DRIVERS.rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] in ("virtrpc_server", "virtrpc", "grpc", "google")}, path


def test_a_driver_process_loads_no_grpc() -> None:
    """What the driver process loads, with the libvirt driver and with sim, never brings gRPC in."""
    program = (
        "import sys, virtrpc_drivers.process, virtrpc_drivers.libvirt.driver, virtrpc_drivers.sim.driver; "
        "print([name for name in sys.modules if name.split('.')[0] == 'grpc'])"
    )
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_event_callbacks_await_nothing() -> None:
    """What a driver delivers is taken in under the domain lock: no function on that way is a coroutine."""
    from virtrpc_server.hosts import Host
    from virtrpc_server.jobs import Jobs
    from virtrpc_server.refresh import Refresher
    from virtrpc_server.running import Run

    for function in (Host._deliver, Host._up, Host._down, Jobs.report, Run.reported, Refresher.mark):
        assert not inspect.iscoroutinefunction(function)
