"""Waiting for news by topic."""

from __future__ import annotations

import asyncio

from virtrpc_server.news import AT_ONCE, News


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_is_woken_by_any_of_its_topics_and_by_no_other() -> None:
    """One of several is enough; what others wait for wakes nobody else; nothing is kept of who was woken."""
    news = News()
    both, other = asyncio.ensure_future(news.wait(("a", "b"))), asyncio.ensure_future(news.wait(("c",)))
    await settle()
    assert (len(news), news.waiting("a"), news.waiting("c")) == (2, 1, 1)
    news.announce(("b", "d"))
    await settle()
    assert both.done()
    assert not other.done()
    assert (len(news), news.waiting("a")) == (1, 0)
    news.announce_everything()
    await other
    assert len(news) == 0


async def test_many_are_woken_a_few_at_a_time_and_none_is_left_out() -> None:
    """Others run between them; who gives up meanwhile is passed over."""
    news = News()
    waits = [asyncio.ensure_future(news.wait(("a",))) for _ in range(3 * AT_ONCE)]
    await settle()
    news.announce(("a",))
    waits[-1].cancel()
    await asyncio.sleep(0)
    assert 0 < sum(wait.done() for wait in waits) < len(waits) / 2
    await asyncio.gather(*waits, return_exceptions=True)
    assert [wait.cancelled() for wait in waits] == [False] * (len(waits) - 1) + [True]


async def test_who_gives_up_is_forgotten() -> None:
    """A time-out leaves nothing behind."""
    news = News()
    waiting = asyncio.ensure_future(news.wait(("a", "b")))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(news) == 0
    news.announce(("a", "b"))
