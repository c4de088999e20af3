"""The virtual loop that the simulation's tests run on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests import virtual_time
from tests.virtual_time import DeadlockError, LivelockError, VirtualLoop, run, wall


def test_waiting_takes_no_time() -> None:
    """A day passes at once, and the loop's clock shows it."""

    async def wait() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run(wait()) == pytest.approx(86_400)


def test_timers_fire_in_their_order() -> None:
    """Timers fire by their time, whatever the order in which they were set."""

    async def race() -> list[int]:
        fired: list[int] = []
        for seconds in (3, 1, 2):
            asyncio.get_running_loop().call_later(seconds, fired.append, seconds)
        await asyncio.sleep(10)
        return fired

    assert run(race()) == [1, 2, 3]


def test_timeouts_are_virtual() -> None:
    """A time-out expires on virtual time, and wall time moves with it."""

    async def expire() -> float:
        began = wall()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return wall() - began

    assert run(expire()) == pytest.approx(3600)


def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can happen any more the loop says so instead of hanging."""
    monkeypatch.setattr(virtual_time, "THREAD_GUARD", 0.01)
    with pytest.raises(DeadlockError):
        run(_for_ever())


def test_running_in_circles_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something goes on for ever at one moment, the loop says so instead of spinning."""
    monkeypatch.setattr(virtual_time, "TURNS_GUARD", 1000)

    async def spin() -> None:
        while True:  # noqa: ASYNC110 # that is the point
            await asyncio.sleep(0)

    with pytest.raises(LivelockError):
        run(spin())


def test_somebody_may_look_before_time_passes() -> None:
    """Whenever nothing is left to do at a moment; what is found to do then is done at that moment."""
    moments: list[float] = []
    loop = VirtualLoop()

    def still() -> bool:
        moments.append(loop.time())
        if len(moments) == 1:
            loop.call_soon(moments.append, -1.0)
            return True
        return False

    loop.before_time_passes(still)
    loop.run_until_complete(asyncio.sleep(5))
    loop.close()
    assert moments == [0.0, -1.0, 0.0]


def test_threads_are_heard() -> None:
    """What a thread hands over wakes the loop, though it has no timers."""

    async def hear() -> str:
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(heard.set_result, "heard"))
        thread.start()
        answer = await heard
        thread.join()
        return answer

    assert run(hear()) == "heard"


async def _for_ever() -> None:
    await asyncio.Event().wait()
