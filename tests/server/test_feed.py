"""The feed that watchers read from."""

from __future__ import annotations

import asyncio

import pytest

from virtrpc_server import feed as feeds
from virtrpc_server.feed import Cursor, Feed


def told(feed: Feed[str, int], cursor: Cursor | None, limit: int = 1000) -> list[tuple[str, int | None, bool]]:
    """What a watcher at this cursor is told, to the end."""
    rows = []
    while True:
        changes = feed.since(cursor, limit)
        rows += [(change.key, change.value, change.removed) for change in changes.items]
        cursor = changes.cursor
        if changes.complete:
            return rows


async def test_the_present_state_comes_whole_and_in_order_of_change() -> None:
    """Each key once, in its latest form; nothing of what is gone."""
    feed: Feed[str, int] = Feed()
    for key, value in [("a", 1), ("b", 2), ("c", 3), ("a", 4)]:
        feed.put(key, value)
    feed.remove("b")
    assert feed.since(None).reset
    assert told(feed, None) == [("c", 3, False), ("a", 4, False)]


async def test_a_slow_reader_sees_the_last_form_once() -> None:
    """What changed several times since a cursor is told once; a removal with what was left behind."""
    feed: Feed[str, int] = Feed()
    feed.put("a", 1)
    feed.put("b", 1)
    cursor = feed.since(None).cursor
    for value in range(2, 9):
        feed.put("a", value)
    feed.remove("b", -1)
    changes = feed.since(cursor)
    assert not changes.reset
    assert told(feed, cursor) == [("a", 8, False), ("b", -1, True)]


async def test_a_limit_cuts_changes_and_removals_alike() -> None:
    """In small portions the same is told, each key once."""
    feed: Feed[str, int] = Feed()
    for number in range(10):
        feed.put(f"k{number}", number)
    cursor = feed.since(None).cursor
    for number in range(0, 10, 2):
        feed.remove(f"k{number}")
        feed.put(f"k{number + 1}", -number)
    assert told(feed, cursor, limit=3) == told(feed, cursor)
    assert len(feed.since(cursor, 3).items) == 3


async def test_what_comes_back_is_no_removal_any_more() -> None:
    """A key that was removed and put again is told as present only."""
    feed: Feed[str, int] = Feed()
    feed.put("a", 1)
    cursor = feed.since(None).cursor
    feed.remove("a")
    feed.put("a", 2)
    assert told(feed, cursor) == [("a", 2, False)]


async def test_a_cursor_that_tombstones_no_longer_reach_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who missed a forgotten removal gets the whole present state; who did not miss it goes on."""
    monkeypatch.setattr(feeds, "MAX_TOMBSTONES", 2)
    feed: Feed[str, int] = Feed()
    for number in range(5):
        feed.put(f"k{number}", number)
    cursor = feed.since(None).cursor
    feed.remove("k0")
    after_first = feed.since(cursor).cursor
    feed.remove("k1")
    feed.remove("k2")
    assert feed.since(cursor).reset
    assert told(feed, cursor) == [("k3", 3, False), ("k4", 4, False)]
    assert not feed.since(after_first).reset


async def test_a_long_present_state_ends_although_removals_were_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader half-way through a present state of old values is not sent back to its beginning by removals from before it."""
    monkeypatch.setattr(feeds, "MAX_TOMBSTONES", 2)
    feed: Feed[str, int] = Feed()
    for number in range(20):
        feed.put(f"k{number}", number)
    for number in range(10, 20):
        feed.remove(f"k{number}")
    first = feed.since(None, 3)
    second = feed.since(first.cursor, 3)
    assert not second.reset
    assert [change.key for change in second.items] == ["k3", "k4", "k5"]
    feed.remove("k0", -1)
    assert told(feed, second.cursor)[-1] == ("k0", -1, True)


async def test_a_cursor_from_the_future_is_reset() -> None:
    """A revision that this feed has not reached is not one of its own."""
    feed: Feed[str, int] = Feed()
    feed.put("a", 1)
    assert feed.since(Cursor(99)).reset


async def test_news_wakes_every_waiter_once() -> None:
    """A change wakes all who wait; who is behind does not wait at all; a nudge wakes without a change."""
    feed: Feed[str, int] = Feed()
    waits = [asyncio.ensure_future(feed.wait(0)) for _ in range(3)]
    await asyncio.sleep(0)
    feed.put("a", 1)
    await asyncio.gather(*waits)
    await feed.wait(0)
    waiting = asyncio.ensure_future(feed.wait(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.nudge()
    await waiting


async def test_topics_wake_who_waits_for_the_value_before_or_after() -> None:
    """Who follows a name hears that the value has it no longer; what has nothing to do with a topic wakes nobody."""
    feed: Feed[str, int] = Feed(topics=lambda value: (f"is {value}",))
    feed.put("a", 1)
    feed.put("b", 2)
    one, three = (asyncio.ensure_future(feed.wait(feed.revision, (topic,))) for topic in ("is 1", "is 3"))
    await asyncio.sleep(0)
    feed.put("b", 4)
    await asyncio.sleep(0)
    assert not one.done()
    feed.put("a", 3)
    await asyncio.gather(one, three)
    gone = asyncio.ensure_future(feed.wait(feed.revision, ("is 3",)))
    await asyncio.sleep(0)
    feed.remove("a")
    await gone


async def test_overtaken_changes_are_forgotten() -> None:
    """However often a value changes, what is kept does not grow, and every cursor is still good."""
    feed: Feed[str, int] = Feed()
    for number in range(10):
        feed.put(f"k{number}", 0)
    feed.remove("k9")
    cursor = feed.since(None).cursor
    for value in range(10_000):
        feed.put("k0", value)
    assert len(feed._log) <= 2 * 10 + feeds.SPARE_LINES + 1
    assert told(feed, cursor) == [("k0", 9999, False)]
    assert len(told(feed, None)) == 9


async def test_who_asks_for_few_is_told_of_those_that_have_its_topics_or_had_them() -> None:
    """Others are not looked at, however many; a value that has moved to another topic is found by who names its key."""
    feed: Feed[str, int] = Feed(topics=lambda value: (f"is {value}", f"is {value}"))
    for key in "abc":
        feed.put(key, 1)
    feed.put("d", 2)
    assert feed.filed(["is 1"]) == {"a", "b", "c"}
    cursor = feed.since(None).cursor
    feed.put("c", 2)
    feed.put("b", 1)
    feed.remove("a")
    assert feed.filed(["is 1", "is 3"]) == {"b"}
    changes = feed.since(cursor, among=["a", "b", "c"])
    assert [(change.key, change.removed) for change in changes.items] == [("c", False), ("b", False), ("a", True)]
    assert changes.complete
    assert changes.cursor.position == feed.revision
    assert [change.key for change in feed.since(cursor, among=["b", "unknown"]).items] == ["b"]


async def test_a_long_look_in_vain_comes_in_parts() -> None:
    """However many changes concern nobody, few are looked at in one go, and the cursors lead past all of them."""
    feed: Feed[int, int] = Feed()
    for key in range(3 * feeds.LINES + 10):
        feed.put(key, key % 1000)
    parts = [feed.since(None, 1000, lambda _key, value: value == 5)]
    while not parts[-1].complete:
        parts.append(feed.since(parts[-1].cursor, 1000, lambda _key, value: value == 5))
    assert len(parts) == 4
    assert [change.key for part in parts for change in part.items] == list(range(5, 3 * feeds.LINES + 10, 1000))
    assert [part.reset for part in parts] == [True, False, False, False]
