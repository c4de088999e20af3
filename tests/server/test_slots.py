"""Slots and budgets: who is granted, and that no place is ever lost."""

from __future__ import annotations

import asyncio
import gc

import pytest

from virtrpc_drivers.values import HostInfo
from virtrpc_server.budgets import DEFAULT_WORKERS, KEPT_PLACES, PLACES_WITHOUT_DAEMON, Budgets
from virtrpc_server.slots import Conditions, Slots


async def test_places_are_granted_in_order_of_arrival() -> None:
    """Each gets the place that the one before gave back; giving it back twice is harmless."""
    slots = Slots()
    first, second, third = (slots.take(owner) for owner in "abc")
    assert [slots.position(ticket) for ticket in (first, second, third)] == [None, 1, 2]
    first.release()
    first.release()
    assert (second.granted.is_set(), third.granted.is_set()) == (True, False)
    second.release()
    third.release()
    assert slots.idle


async def test_a_higher_limit_grants_those_who_wait() -> None:
    """And a lower one takes nothing away from who holds a place."""
    slots = Slots(1)
    tickets = [slots.take(owner) for owner in "abc"]
    slots.limit = 2
    assert [ticket.granted.is_set() for ticket in tickets] == [True, True, False]
    slots.limit = 1
    tickets[0].release()
    assert not tickets[2].granted.is_set()
    tickets[1].release()
    assert tickets[2].granted.is_set()


async def test_a_waiter_that_is_cancelled_as_it_is_granted_loses_no_place() -> None:
    """Whoever waited does not learn of the grant any more: the place goes to the next."""
    slots = Slots()
    holder = slots.take("a")
    ticket, following = slots.take("b"), slots.take("c")
    waiting = asyncio.create_task(ticket.wait(None, asyncio.Event()))
    await asyncio.sleep(0.01)
    holder.release()
    assert ticket.granted.is_set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert slots.holders == [following]


async def test_one_condition_for_all_who_keep_it() -> None:
    """However many others come and go, a condition that somebody holds, or is about to take, stays the same; unused ones are dropped."""
    conditions: Conditions[int] = Conditions()
    about_to_be_taken = conditions.of(-1)
    tickets = [conditions.of(number).take("x") for number in range(300)]
    assert conditions.of(-1) is about_to_be_taken
    about_to_be_taken.hold_off("destroy")
    assert set(conditions) == {-1, *range(300)}
    ticket = tickets.pop()
    ticket.release()
    assert set(conditions) == {-1, *range(299)}
    del ticket
    gc.collect()
    assert len(conditions._slots) == 300


async def test_hosts_on_one_daemon_share_its_places() -> None:
    """Also after either of them was connected again. The smallest number that any of them knows of holds, whoever came last."""
    budgets = Budgets()
    info = HostInfo(uri="x:///", hypervisor="qemu", daemon="/run/libvirt-sock")
    one, other = budgets.of("one", info, None), budgets.of("other", info, None)
    assert one is other
    assert one.limit == DEFAULT_WORKERS - KEPT_PLACES
    tickets = [one.take(str(number)) for number in range(DEFAULT_WORKERS)]
    assert not tickets[-1].granted.is_set()
    assert budgets.of("one", info, 20) is one
    assert one.limit == DEFAULT_WORKERS - KEPT_PLACES
    budgets.of("other", info, 9)
    assert one.limit == 9 - KEPT_PLACES
    assert tickets[-1].granted.is_set()


async def test_a_host_keeps_its_places_when_it_is_connected_again() -> None:
    """What is still out counts: a host without a daemon does not get a second budget with each connection."""
    budgets = Budgets()
    info = HostInfo(uri="x:///", hypervisor="esx")
    budget = budgets.of("one", info, None)
    assert budget.limit == PLACES_WITHOUT_DAEMON
    assert budgets.of("one", info, None) is budget
    assert budgets.of("other", info, None) is not budget
