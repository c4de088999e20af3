"""smoke"""

import pytest
from tests.e2e.server import QemuHost
from virtrpc import AsyncClient


@pytest.mark.hypervisor
async def test_smoke(qemu_host: QemuHost, client: AsyncClient) -> None:
    with qemu_host.guest(disk_mib=16) as guest:
        print(await client.get_domain(guest.name))
        print(qemu_host.server.driver_pid("kvm"))
        guest.wait_for_agent()
        print(guest.read_file("/etc/shadow"))
        print(await (await client.suspend_domain(guest.name)).wait())
        print(qemu_host.server.log)
