"""Whose files are whose, on a real libvirtd: what the rules refuse has not happened there, and what they permit has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e.server import HostTable, QemuHost, Server, connected, ended, eventually
from virtrpc import PermissionDenied
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

RULES = """
permit(principal == Caller::"unix", action, resource) unless {{ resource is File }};
forbid(principal, action == Action::"ReachOutside", resource);
permit(principal == Caller::"unix", action in Action::"UseFile", resource) when {{ resource.path like "{}/mine/*" }};
"""
DISK = "<disk type='file' device='disk'><driver name='qemu' type='{}'/><source file='{}'/><target dev='vdx' bus='virtio'/></disk>"


def image(path: Path, *words: str) -> Path:
    """A qcow2 image of 1 MiB."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, str(path), "1M"], check=True)
    return path


@pytest.fixture
def host(daemon: Libvirtd, tmp_path: Path) -> Iterator[QemuHost]:
    """A server on the daemon whose callers may use the files of one directory."""
    for name in ("mine", "others"):
        (daemon.path / name).mkdir(exist_ok=True)
    (tmp_path / "p.cedar").write_text(RULES.format(daemon.path))
    hosts: dict[str, HostTable] = {"kvm": {"uri": daemon.uri, "path_roots": [str(daemon.path)]}}
    with Server(hosts, policy=str(tmp_path / "p.cedar")) as server, connected(daemon) as direct:
        server.wait_live()
        yield QemuHost(server, daemon, direct)


async def test_files_of_others_are_neither_written_nor_read(host: QemuHost) -> None:
    """By name, and through an image that leads to them; a domain whose image leads out does not start until it does no more."""
    mine, others = host.daemon.path / "mine", host.daemon.path / "others"
    disk = image(mine / "disk")
    with host.guest(start=False, more_devices=DISK.format("qcow2", disk)) as guest:
        async with host.server.client() as client:
            image(disk, "-b", "/etc/hostname", "-F", "raw", "-u")
            with pytest.raises(PermissionDenied, match=r"'/etc/hostname': .*disk' leads there"):
                await ended(client.start_domain(guest.name))
            assert guest.state == libvirt.VIR_DOMAIN_SHUTOFF
            image(disk)
            await ended(client.start_domain(guest.name))
            assert guest.state == libvirt.VIR_DOMAIN_RUNNING
            over = image(mine / "over", "-b", str(image(others / "disk")), "-F", "qcow2")
            for kind, path, action in (("raw", others / "disk", "WriteFile"), ("qcow2", over, "ReadFile")):
                with pytest.raises(PermissionDenied, match=rf"{action} '{others / 'disk'}' of host kvm"):
                    await ended(client.attach_device(guest.name, xml=DISK.format(kind, path).replace("vdx", "vdy")))
            assert "vdy" not in guest.domain.XMLDesc()
            for path in (others / "save", others / "disk"):
                with pytest.raises(PermissionDenied, match=rf"WriteFile '{path}' of host kvm: no rule permits it"):
                    await ended(client.save_domain(guest.name, path=str(path), overwrite=True))
            assert guest.state == libvirt.VIR_DOMAIN_RUNNING
            await ended(client.save_domain(guest.name, path=str(mine / "save")))
            assert (mine / "save").stat().st_size > 0
            assert not (others / "save").exists()
            await eventually(lambda: guest.state == libvirt.VIR_DOMAIN_SHUTOFF, "the guest to be off")
            restored = await ended(client.restore_domain(path=str(mine / "save"), uuid=guest.uuid, name=guest.name))
            assert restored.domain_result.domain.state == t.DOMAIN_STATE_RUNNING
