"""The package itself: its public names, what it costs to import, what it needs to be installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import virtrpc
from virtrpc import daemon, errors
from virtrpc.address import DEFAULT_ADDRESS, resolve_address

# Frozen: a name that goes or changes its meaning breaks somebody's program, so removing one here needs a line in the changelog.
PUBLIC = """
    DEFAULT_ADDRESS Aborted AgentUnresponsive AlreadyExists AmbiguousName AsyncClient AsyncJobHandle AsyncListing AsyncWatch AuditUnavailable
    Busy Cancelled Client
    DeadlineExceeded DomainMirror FailedPrecondition HostReadOnly HostUnreachable HypervisorDenied Internal Interrupted InvalidArgument JobHandle
    JobMirror JobNotFound JournalUnavailable LimitExceeded
    Listing MigrationUnsafe MonitorUnresponsive NotFound NotReady OperationFailed OutcomeUnknown PermissionDenied Preempted ResourceLacking RunTimeout
    ServerUnavailable Tls Unauthenticated Unimplemented Unsupported VirtrpcError WaitTimeout Watch WrongState advice domain_ref is_final job_options
    resolve_address
"""


def test_the_public_names_are_frozen() -> None:
    """`virtrpc` has exactly these names, and each of them is there."""
    assert sorted(virtrpc.__all__) == sorted(PUBLIC.split())
    assert all(getattr(virtrpc, name) is not None for name in virtrpc.__all__)
    assert set(virtrpc.__all__) <= set(dir(virtrpc))


def test_every_exception_is_public() -> None:
    """Whatever can be raised can be imported from `virtrpc`."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.VirtrpcError)}
    assert kinds <= set(virtrpc.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy loading does not hide a misspelling."""
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        virtrpc.Klient  # noqa: B018 # reading it is the test


def test_importing_loads_nothing() -> None:
    """`import virtrpc` loads neither grpc nor protobuf."""
    assert fresh("import sys, virtrpc; print([name for name in ('grpc', 'google.protobuf', 'typer') if name in sys.modules])") == "[]"


def test_the_client_needs_its_own_dependencies_only() -> None:
    """Client and CLI load no package of the server: they work where only `pip install virtrpc` was done."""
    # grpc itself looks for its health and reflection packages, and does without.
    server = {*daemon.SERVER_PACKAGES, "virtrpc_server", "virtrpc_drivers", "grpc_status"} - {"grpc_health", "grpc_reflection"}
    program = f"import sys, virtrpc.cli, virtrpc.aio, virtrpc.sync\nprint([name for name in {sorted(server)!r} if name in sys.modules])"
    assert fresh(program) == "[]"


def test_virtrpcd_says_how_to_install_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the server's packages `virtrpcd` names what is missing and how to get it."""
    monkeypatch.setattr(daemon, "SERVER_PACKAGES", ("json", "no_such_package", "no_such_parent.child"))
    assert daemon.main() == 1
    said = capsys.readouterr().err
    assert "missing: no_such_package, no_such_parent.child" in said
    assert "pip install 'virtrpc[server]'" in said


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, "", DEFAULT_ADDRESS),
        (None, "there:7000", "there:7000"),
        ("here:7000", "there:7000", "here:7000"),
        ("/tmp/s", "", "unix:///tmp/s"),
        ("unix:///tmp/s", "", "unix:///tmp/s"),
    ],
)
def test_where_the_server_is(monkeypatch: pytest.MonkeyPatch, given: str | None, variable: str, expected: str) -> None:
    """An argument comes before $VIRTRPC_ADDRESS, and that before the default socket; a bare path is a Unix socket."""
    monkeypatch.setenv("VIRTRPC_ADDRESS", variable)
    assert resolve_address(given) == expected


def fresh(program: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.home()).stdout.strip()
