"""Two real hosts, each with its libvirtd, one server for both, and two guests that are there for hundreds of kills."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import libvirt

from tests.beds.daemon import Libvirtd
from tests.beds.domain import Disk
from tests.e2e.server import Guest, HostTable, QemuHost, connected, contract_state
from tests.restart.bed import StubbornServer
from virtrpc.v1 import types_pb2 as t

FILL_MIB = 64
"""Memory that a guest has to save or to move."""
DISK_MIB = 48
"""What a copy has to copy."""
FIRST, SECOND = "first", "second"


@dataclass
class Bed:
    """What is killed, and what must live on."""

    server: StubbornServer
    first: QemuHost
    second: QemuHost
    keeper: Guest
    """Has a disk, and stays at the first host."""
    mover: Guest
    """Has none, and moves to the second host and back."""
    ends: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    """How often each end came: who was killed, in which operation, at which moment, and the job's state with its evidence."""
    ended: dict[str, t.JobState.ValueType] = field(default_factory=dict)
    """Each job's final state, as it was first told."""

    @property
    def path(self) -> Path:
        """Where what the guests write goes: both daemons see it."""
        return self.first.daemon.path

    def reconnect(self) -> None:
        """Look past virtrpc again: the first host's daemon was killed and is there again."""
        self.first.direct = self.keeper.direct = self.mover.direct = libvirt.open(self.first.daemon.uri)

    def moved(self) -> libvirt.virDomain | None:
        """The mover at the second host, if that has it."""
        return next((domain for domain in self.second.direct.listAllDomains() if domain.UUIDString() == self.mover.uuid), None)

    def rest(self) -> None:
        """Return once the server knows both hosts and both guests again, running where they belong."""
        self.server.wait_live()
        self.first.wait_known(self.keeper, self.mover)
        assert [self.keeper.state, self.mover.state] == [libvirt.VIR_DOMAIN_RUNNING] * 2
        assert contract_state(self.keeper.state) == t.DOMAIN_STATE_RUNNING

    def tell(self) -> str:
        """How often each end came, a line for each."""
        return "\n".join(f"{count:3} x {' / '.join(end)}" for end, count in sorted(self.ends.items()))


@contextmanager
def beds() -> Iterator[Bed]:
    """The bed, both guests filled and at rest."""
    with Libvirtd(FIRST) as one, Libvirtd(SECOND) as two, connected(one) as here, connected(two) as there:
        roots = [str(one.path)]
        hosts: dict[str, HostTable] = {
            name: {"uri": daemon.uri, "migration_uri": daemon.tcp_uri, "path_roots": roots} for name, daemon in ((FIRST, one), (SECOND, two))
        }
        with StubbornServer(hosts) as server:
            server.wait_live()
            first, second = QemuHost(server, one, here, FIRST), QemuHost(server, two, there, SECOND)
            disk = _written_disk(one.path / "keeper.qcow2")
            with _guest(first, "keeper", disk) as keeper, _guest(first, "mover") as mover:
                for guest in (keeper, mover):
                    guest.wait_for("FILLED")
                yield Bed(server, first, second, keeper, mover)
                # At the end it must have had no fault of its own in all this.
                server.assert_no_fault_of_its_own()


def _written_disk(path: Path) -> Disk:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), f"{DISK_MIB + 16}M"], check=True)
    subprocess.run(["qemu-io", "-c", f"write -P 7 0 {DISK_MIB}M", str(path)], check=True, capture_output=True)
    return Disk(path)


@contextmanager
def _guest(host: QemuHost, name: str, *disks: Disk) -> Iterator[Guest]:
    with host.guest(name=name, memory_mib=160, fill_mib=FILL_MIB, disks=list(disks), agent=False, ready=False) as guest:
        yield guest
