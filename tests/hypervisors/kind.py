"""One column of the matrix: a hypervisor, how it is started, and how its definitions look."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import ClassVar, Self

from tests.e2e.server import HostTable, Setting
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

DISK = "<disk type='file' device='disk'><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>"


class Kind:
    """A hypervisor, started on entering. Its first host is the one under test; a second one is where domains can be moved to."""

    name: ClassVar[str]
    """Its column, and the word after `make test-`."""
    title: ClassVar[str]
    """What it is, for people."""
    simulated: ClassVar[bool] = False
    """It cannot be started here: `sim` stands for it, with its row of the table."""
    boots: ClassVar[bool] = False
    """Its guests take their time to listen to a power button and an agent: `booted` waits for that."""
    vcpus_maximum: ClassVar[bool] = True
    """A definition says how many virtual CPUs there can be."""
    asks_by: ClassVar[j.ShutdownMode.ValueType] = j.SHUTDOWN_MODE_UNSPECIFIED
    """How its guests are asked to shut down and to restart."""
    vague: ClassVar[frozenset[str]] = frozenset()
    """RPCs by bare name that it takes and whose effect it does not show."""
    refuses: ClassVar[Mapping[str, str]] = {}
    """RPCs that its driver has and its machine, or the guests that there are for it, have not: by bare name, with the reason of the refusal."""
    guard_seconds: ClassVar[float] = 60
    """How long a job may take until it is called a hang."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be started on this machine; None where it can."""
        return None

    @classmethod
    def at_hand(cls) -> bool:
        """Whether it starts within seconds: what is costly to build is in the cache. CI runs those."""
        return True

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        """The server's hosts by name; the first is under test."""
        raise NotImplementedError

    @property
    def settings(self) -> Mapping[str, Setting | list[str]]:
        """Further settings of the server."""
        return {"path_roots": [str(self.path)]}

    @property
    def migration(self) -> t.MigrationSettings:
        """What a move to its second host needs beside its destination."""
        return t.MigrationSettings()

    @property
    def existing(self) -> str | None:
        """The name of a domain that is there from the start, where the hypervisor cannot define one."""
        return None

    def new_name(self, number: int) -> str:
        """The name of a domain that nobody has; the number is given out once."""
        return f"made-{number}"

    def xml(self, name: str, uuid: str) -> str:
        """A definition of a small domain that it takes."""
        raise NotImplementedError

    def disk_xml(self, target: str) -> str:
        """A disk to attach."""
        return DISK.format(path=self.path / f"{target}.img", target=target)

    def changed_device_xml(self, domain_xml: str) -> str:
        """A device of the domain, changed so that it can be updated in place."""
        raise NotImplementedError

    def file(self, name: str) -> str:
        """A path that the hypervisor may write to."""
        return str(self.path / name)

    def started(self, name: str) -> None:
        """Return once a guest that was started can be saved, where that takes its help."""

    def booted(self, name: str, boots: int) -> None:
        """Return once a guest that has booted this many times since it was started listens to its power button."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """End it, and remove what it left."""
        rmtree(self.path)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
