"""Looks whether a domain is free: what one finds is news for all who waited for it when the look began."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.fake_driver import FakeDriver, uuid
from tests.virtual_time import on_virtual_time
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_server.probing import Probes


class Looking(FakeDriver):
    """Its looks end when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[None]] = []

    async def probe(self, uuid: str) -> None:
        """Ends with its future in `answers`."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        await answer


@on_virtual_time
async def test_a_look_is_news_for_those_who_waited_when_it_began() -> None:
    """Who comes later may wait for a call that was sent after it, and who waits for another domain learns nothing."""
    driver = Looking()
    probes = Probes(driver)
    with probes.waiting(uuid(1)) as first, probes.waiting(uuid(2)) as elsewhere:
        look = asyncio.ensure_future(probes.look(uuid(1)))
        await asyncio.sleep(0)
        with probes.waiting(uuid(1)) as later:
            driver.answers[0].set_result(None)
            await look
            assert (first.done(), later.done(), elsewhere.done()) == (True, False, False)


@pytest.mark.parametrize(("reason", "free"), [(Reason.DOMAIN_NOT_FOUND, True), (Reason.FAILED, False), (Reason.DRIVER_LOST, False)])
@on_virtual_time
async def test_a_domain_that_is_gone_is_free(reason: Reason, free: bool) -> None:
    """A look that failed otherwise says nothing, and raises why."""
    driver = Looking()
    probes = Probes(driver)
    with probes.waiting(uuid(1)) as freed:
        look = asyncio.ensure_future(probes.look(uuid(1)))
        await asyncio.sleep(0)
        driver.answers[0].set_exception(failure(reason, "no"))
        (raised,) = await asyncio.gather(look, return_exceptions=True)
        assert (isinstance(raised, DriverError), freed.done()) == (not free, free)
