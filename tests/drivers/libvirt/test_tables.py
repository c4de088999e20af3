"""Tables: names of states, capabilities, URIs, migration targets."""

import libvirt
import pytest

from virtrpc_drivers import operations as ops
from virtrpc_drivers import support
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import capabilities, migration, operations, proofs
from virtrpc_drivers.libvirt.readings import reason_name, state_name
from virtrpc_drivers.proving import MADE, UNPROVABLE
from virtrpc_drivers.values import Slot, State


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.SHUTOFF, State.CRASHED])
def test_reasons_have_libvirts_names(state: State) -> None:
    """Every reason that this libvirt knows has its name in lower case."""
    prefix = f"VIR_DOMAIN_{state.upper()}_"
    number = getattr(libvirt, f"VIR_DOMAIN_{state.upper()}")
    names = {getattr(libvirt, name): name.removeprefix(prefix).lower() for name in dir(libvirt) if name.startswith(prefix)}
    names = {value: name for value, name in names.items() if not name.endswith("last") and not name.startswith("disk_")}
    assert {value: reason_name(number, value) for value in names} == names


def test_a_newer_libvirt_does_not_break_names() -> None:
    """Numbers from the future are unknown, not errors."""
    assert (state_name(99), reason_name(libvirt.VIR_DOMAIN_RUNNING, 99)) == (State.NOSTATE, "unknown")


@pytest.mark.parametrize("hypervisor", ["qemu", "test", "lxc", "xen", "esx", "vz", "something new"])
def test_every_verb_has_a_row(hypervisor: str) -> None:
    """The server finds each verb and each read in the table, whatever the hypervisor."""
    assert [row.verb for row in support.table(hypervisor, 9_000_000)] == list(support.NAMES)


def test_every_verb_has_a_call_and_a_proof() -> None:
    """A new operation cannot be forgotten in either table: it can be proven, or it is said why it cannot."""
    assert sorted(operations.VERBS) == sorted([*proofs.PROOFS, *UNPROVABLE]) == sorted(ops.VERBS)
    assert set(proofs.PROOFS) >= MADE


def test_slots() -> None:
    """What takes what: destroy nothing, the agent its own, asking verbs let go, vz's shared calls nothing."""
    qemu = {row.verb: row for row in support.table("qemu", 9_000_000)}
    assert (qemu["Destroy"].slot, qemu["SetUserPassword"].slot, qemu["DetachDevice"].slot) == (Slot.DESTROY, Slot.AGENT, Slot.ASKING)
    assert (qemu["DeleteSnapshot"].slot, qemu["RemoveManagedSave"].slot, qemu["Start"].abortable) == (Slot.CONDITION, Slot.CONDITION, False)
    vz = {row.verb: row for row in support.table("vz", 9_000_000)}
    assert (vz["DeleteSnapshot"].slot, vz["SetUserPassword"].slot) == (Slot.NONE, Slot.CONDITION)
    mock = {row.verb: row.supported for row in support.table("test", 9_000_000)}
    assert not any(mock[verb] for verb in ("Migrate", "AttachDevice", "DetachDevice", "UpdateDevice"))


@pytest.mark.parametrize(
    ("uri", "shown", "daemon", "local"),
    [
        ("qemu:///system", "qemu:///system", "/run/libvirt/libvirt-sock", True),
        ("qemu+unix:///system?socket=/s/k", "qemu+unix:///system?socket=/s/k", "/s/k", True),
        ("qemu+tcp://root@h:1234/system", "qemu+tcp://h:1234/system", "tcp:h:1234", False),
        ("qemu+ssh://a@h/system?keyfile=/k&no_tty=1", "qemu+ssh://h/system?no_tty=1", "ssh:h:22", False),
        ("qemu:///embed?root=/r", "qemu:///embed?root=/r", None, True),
        ("test:///default", "test:///default", None, True),
        ("esx://root:secret@h/?no_verify=1", "esx://h/?no_verify=1", None, False),
    ],
)
def test_uris(uri: str, shown: str, daemon: str | None, local: bool) -> None:
    """A URI is shown without credentials, and says which daemon is behind it and whose files are meant."""
    assert (capabilities.without_credentials(uri), capabilities.daemon_of(uri), capabilities.is_local(uri)) == (shown, daemon, local)


@pytest.mark.parametrize(
    ("destination", "migrate_uri", "allowed"),
    [
        ("qemu+tcp://h/system", "tcp://h", True),
        ("qemu+unix:///system?socket=/s", "", False),
        ("qemu+ext://h/system?command=/bin/sh", "", False),
        ("qemu+tcp://h/system?command=/bin/sh", "", False),
        ("qemu+tcp://h/system", "exec:touch", False),
        ("", "", False),
    ],
)
def test_migration_targets(destination: str, migrate_uri: str, allowed: bool) -> None:
    """Nothing that runs a command, and no scheme that is not allowed, reaches libvirt."""
    wanted = ops.Migrate(uuid="u", destination_uri=destination, migrate_uri=migrate_uri)
    if allowed:
        migration.check_target(wanted, ("qemu+tcp",))
        return
    with pytest.raises(DriverError) as caught:
        migration.check_target(wanted, ("qemu+tcp",))
    assert caught.value.reason is Reason.MIGRATION_TARGET_NOT_ALLOWED


def test_compression_that_needs_a_newer_libvirt() -> None:
    """zlib and zstd are refused where this libvirt lacks them, before the guest hears of a migration."""

    class Old:
        def getLibVersion(self) -> int:  # noqa: N802 # libvirt's name
            return 9_000_000

    wanted = ops.Migrate(uuid="u", destination_uri="qemu+tcp://h/system", compression=("zstd",), parallel=True)
    with pytest.raises(DriverError) as caught:
        migration.migrate(Old(), wanted)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_migration_bandwidth_is_rounded_up() -> None:
    """Bytes a second become MiB a second, never zero, which would mean unlimited."""
    wanted = ops.Migrate(uuid="u", destination_uri="qemu+tcp://h/system", bandwidth_bytes_per_second=1)
    assert migration.parameters(wanted) == {libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 1}
