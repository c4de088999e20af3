"""How many calls an embedded hypervisor carries at once: libvirt opens it 16 times in a process, and then never again."""

import asyncio
import os
import signal

import pytest

from tests.drivers.bed import GUARD, Bed, Embed, call_of
from virtrpc_drivers import operations as ops

pytestmark = pytest.mark.hypervisor

CALLS = 80
"""As many as the server lets out where there is no daemon, and some; four to a connection."""


async def test_calls_that_hang_keep_no_other_from_being_made() -> None:
    """While a guest that is held up holds them all, another domain's call is carried out; and they are, once it goes on."""
    bed = await Bed.open(Embed())
    try:
        uuid = await bed.started()
        assert isinstance(bed.kind, Embed)
        (pid,) = bed.kind.root.qemu_pids()
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(GUARD), asyncio.TaskGroup() as group:
            for _ in range(CALLS):
                group.create_task(bed.driver.run(call_of(ops.SetMemory(uuid=uuid, memory_bytes=128 << 20))))
            await bed.defined()
            os.kill(pid, signal.SIGCONT)
        await bed.clean()
    finally:
        await bed.close()
