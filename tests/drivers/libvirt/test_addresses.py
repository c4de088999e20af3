"""The addresses that a host knows of its guests' interfaces, read through libvirt."""

from __future__ import annotations

import pytest

from tests.drivers.bed import Bed, Embed, LibvirtTest

TEST_DOMAIN = "6695eb01-f6a4-8304-79aa-97f2502e193f"


@pytest.mark.asyncio
async def test_addresses() -> None:
    """A running guest's leases are told with its configuration, with the interface's MAC, the prefix and the source."""
    bed = await Bed.open(LibvirtTest())
    try:
        config = (await bed.config(TEST_DOMAIN)).config
    finally:
        await bed.close()
    (address,) = config.addresses
    assert (address.mac, address.prefix, address.source) == ("aa:bb:cc:dd:ee:ff", 24, "lease")
    assert address.address.startswith("192.")


@pytest.mark.hypervisor
@pytest.mark.asyncio
async def test_no_network_daemon() -> None:
    """A running guest's configuration is read where no network daemon answers for its leases: it has no addresses then."""
    bed = await Bed.open(Embed())
    try:
        assert (await bed.config(await bed.started())).config.addresses == ()
        await bed.clean()
    finally:
        await bed.close()
