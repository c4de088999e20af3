"""The column of containers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.beds import lxc
from tests.beds.wait import wait_until
from tests.e2e.server import HostTable, Setting
from tests.hypervisors.kind import Kind
from virtrpc.v1 import job_pb2 as j


class Lxc(Kind):
    """libvirt's LXC driver with real containers."""

    name = "lxc"
    title = "LXC containers through libvirtd"
    boots = True
    asks_by = j.SHUTDOWN_MODE_SIGNAL

    def __init__(self) -> None:
        super().__init__()
        self._daemon = lxc.LxcDaemon()

    @classmethod
    def missing(cls) -> str | None:
        return lxc.missing()

    @property
    def hosts(self) -> Mapping[str, str | HostTable]:
        return {"a": self._daemon.uri}

    @property
    def settings(self) -> Mapping[str, Setting | list[str]]:
        return {"path_roots": [str(self.path)]}

    def xml(self, name: str, uuid: str) -> str:
        return self._daemon.domain_xml(name, uuid)

    def disk_xml(self, target: str) -> str:
        # Block devices alone; one that is only stored need not be there.
        return f"<disk type='block' device='disk'><source dev='/dev/nowhere'/><target dev='{target}' bus='virtio'/></disk>"

    def changed_device_xml(self, domain_xml: str) -> str:
        return "<interface type='ethernet'><mac address='52:54:00:00:00:09'/><link state='down'/></interface>"

    def booted(self, name: str, boots: int) -> None:
        log = self._daemon.console_log(name)

        def up() -> bool:
            return log.exists() and log.read_text().count("READY") >= boots

        wait_until(up, f"container {name} to be up, see {log}", 60)

    def removed(self, name: str) -> None:
        """Forget what a container has said."""
        Path(self._daemon.console_log(name)).unlink(missing_ok=True)

    def start(self) -> None:
        self._daemon.start()

    def stop(self) -> None:
        self._daemon.stop()
        super().stop()


KINDS: tuple[type[Kind], ...] = (Lxc,)
"""In the order of the table."""
