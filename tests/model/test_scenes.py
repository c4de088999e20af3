"""Situations that chance seldom makes, played on the state machine's stage: whatever it checks anywhere holds here, after each step and at rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.model.machine import Machine


@contextmanager
def stage(**habits: Any) -> Iterator[Machine]:
    """A world, and its end. `habits` are arguments of `begin_with`."""
    machine = Machine()
    times = {"takes": 0, "late": 0, "kill": 0, "abort_takes": 0, "back_after": 0.1, "every": 0.0, "block": 4.0}
    plain = {"abort": "handle", "remembers": True, "workers": 0, "ending": "rest", **times}
    machine.begin_with(**(plain | habits))
    yield machine
    machine.teardown()


def call(machine: Machine, verb: str, guest: str = "a1", *, leave: str = "detach", wait: float = 30.0, run: float = 0.0) -> None:
    """Somebody calls a verb, and it is accepted."""
    machine.call(verb=verb, guest=guest, number=0, wait=wait, run=run, leave=leave, who="unix")
    caller = machine._callers[-1]
    assert caller.job_id or caller.reason is None


def ends(machine: Machine) -> list[str]:
    """How the jobs have ended so far, or their states, in the order in which they came."""
    return [job.state.value for job in machine._there.journal.held.values()]


def test_one_of_two_callers_who_cancel_by_leaving_leaves() -> None:
    """The other is still there: nothing is aborted. When that one leaves as well, it is."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain", leave="cancel")
        machine.time_passes(seconds=0.5)
        machine.repeat(number=0, leave="cancel", who="unix")
        machine.leave(caller=0)
        machine.time_passes(seconds=0.5)
        machine.leave(caller=0)
        machine.time_passes(seconds=4.0)


def test_one_of_two_callers_of_a_queued_job_leaves() -> None:
    """It goes on for the other."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", leave="withdraw")
        machine.repeat(number=0, leave="withdraw", who="unix")
        machine.leave(caller=0)
        machine.time_passes(seconds=6.0)


def test_the_same_request_of_somebody_else_is_another_one() -> None:
    """A request_id is its caller's own."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        machine.repeat(number=0, leave="detach", who="tcp")
        machine.time_passes(seconds=6.0)


def test_what_is_queued_is_cancelled() -> None:
    """It is never sent."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain")
        machine.cancel(job=0)
        machine.time_passes(seconds=6.0)


def test_run_timeout_passes_here_and_while_the_driver_process_is_away() -> None:
    """Both are cancels."""
    with stage(back_after=20) as machine:
        call(machine, "ManagedSaveDomain", run=1.0)
        machine.trouble(what="is very slow", verb="SetMemory", guest="c1", step=1)
        call(machine, "SetMemory", "c1", run=1.0)
        machine.connection(host="c", action="lose process")
        machine.time_passes(seconds=2.0)
        machine.time_passes(seconds=31.0)


def test_run_timeout_does_not_begin_anew_with_another_driver_process() -> None:
    """It is counted from the moment at which the call was sent."""
    with stage() as machine:
        machine.trouble(what="is very slow", verb="SetMemory", guest="a1", step=1)
        call(machine, "SetMemory", run=3.0)
        machine.time_passes(seconds=2.0)
        machine.connection(host="a", action="lose process")
        machine.time_passes(seconds=2.0)
        machine.time_passes(seconds=31.0)


def test_a_call_is_cancelled_again_once_its_driver_process_is_back() -> None:
    """The first abort may have been lost with the process, or have done nothing."""
    with stage(back_after=0.5) as machine:
        machine.trouble(what="is very slow", verb="ManagedSave", guest="a1", step=1)
        call(machine, "ManagedSaveDomain")
        machine.trouble(what="hangs", verb="cancel", guest="a1", step=0)
        machine.time_passes(seconds=0.5)
        machine.cancel(job=0)
        machine.connection(host="a", action="lose process")
        machine.time_passes(seconds=4.0)


def test_a_call_whose_driver_process_stays_away_is_looked_for_once_it_is_back() -> None:
    """Until then its domain is nobody's."""
    with stage(remembers=False) as machine:
        machine.trouble(what="hangs for good", verb="SetMemory", guest="a1", step=1)
        call(machine, "SetMemory")
        machine.connection(host="a", action="stay away")
        machine.time_passes(seconds=70.0)
        assert ends(machine) == ["outcome_unknown"]
        machine.connection(host="a", action="come back")
        machine.time_passes(seconds=1.0)
        call(machine, "SuspendDomain", wait=300.0)
        machine.time_passes(seconds=70.0)
        machine.release(host="a")


def test_who_met_a_foreign_job_asks_whether_it_is_over() -> None:
    """It is not sent again before."""
    with stage() as machine:
        machine.outside(guest="a1", action="short foreign job")
        call(machine, "SuspendDomain")
        machine.time_passes(seconds=6.0)
        assert ends(machine) == ["succeeded"]


def test_who_is_refused_for_a_foreign_job_that_nobody_sees_waits_before_it_asks_again() -> None:
    """The hypervisor may call the domain free, and go on refusing."""
    with stage() as machine:
        machine.trouble(what="meets a foreign job", verb="Suspend", guest="a1", step=0)
        call(machine, "SuspendDomain")
        machine.time_passes(seconds=0.5)
        assert ends(machine) == ["queued"]
        machine.time_passes(seconds=2.0)
        assert ends(machine) == ["succeeded"]


def test_three_definitions_want_one_name() -> None:
    """Each has its domain, and they have the name in the order in which they came."""
    with stage() as machine:
        machine.trouble(what="is slow", verb="Define", guest="new1", step=1)
        for guest in ("new1", "new2", "a3"):
            call(machine, "DefineDomain", guest)
            machine.time_passes(seconds=0.5)
        machine.time_passes(seconds=11.0)


def test_a_call_is_cut_off_by_a_destroy() -> None:
    """It was preempted."""
    with stage(kill=12) as machine:
        machine.trouble(what="hangs", verb="SetMemory", guest="a1", step=1)
        call(machine, "SetMemory")
        machine.outside(guest="a1", action="stop")
        machine.time_passes(seconds=0.5)
        call(machine, "DestroyDomain")
        machine.time_passes(seconds=16.0)
        assert ends(machine) == ["preempted", "succeeded"]


def test_a_destroy_fails_and_somebody_else_stops_the_domain() -> None:
    """The save that this ends was not preempted."""
    with stage() as machine:
        machine.trouble(what="is very slow", verb="ManagedSave", guest="a1", step=1)
        machine.trouble(what="fails", verb="Destroy", guest="a1", step=0)
        call(machine, "ManagedSaveDomain")
        machine.time_passes(seconds=0.5)
        call(machine, "DestroyDomain")
        machine.time_passes(seconds=2.0)
        machine.stranger(guest="a1", action="stop", number=0)
        machine.time_passes(seconds=2.0)
        assert ends(machine) == ["failed", "failed"]


def test_a_destroy_errs_and_has_destroyed() -> None:
    """The reading after it says so."""
    with stage() as machine:
        machine.trouble(what="fails", verb="Destroy", guest="a1", step=-1)
        call(machine, "DestroyDomain")
        machine.time_passes(seconds=2.0)
        assert ends(machine) == ["succeeded"]


def test_the_domain_is_read_between_a_call_and_its_jobs_end() -> None:
    """However long that takes."""
    with stage(late=0.3) as machine:
        call(machine, "SuspendDomain")
        call(machine, "DestroyDomain", "a2")
        machine.time_passes(seconds=2.0)
        assert ends(machine) == ["succeeded", "succeeded"]


def test_a_destroy_fails() -> None:
    """It lets go of what it held off."""
    with stage() as machine:
        machine.trouble(what="fails late", verb="Destroy", guest="a1", step=0)
        call(machine, "DestroyDomain")
        call(machine, "SuspendDomain")
        machine.time_passes(seconds=2.0)


def test_a_destroy_takes_its_time_and_others_come() -> None:
    """Who came before it is preempted, who comes after it waits for its end, also where it is still being stored."""
    with stage(kill=12) as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "SetMemory")
        machine.time_passes(seconds=0.5)
        machine.store(seconds=0.5, failures=0)
        call(machine, "DestroyDomain")
        call(machine, "StartDomain")
        call(machine, "SetUserPassword")
        machine.time_passes(seconds=31.0)


def test_wait_timeout_passes_behind_a_foreign_job() -> None:
    """Each attempt is part of the same wait."""
    with stage() as machine:
        machine.outside(guest="a1", action="foreign job")
        call(machine, "SuspendDomain", wait=5.0)
        machine.time_passes(seconds=6.0)


def test_a_call_ends_unseen() -> None:
    """Its driver process was away, the hypervisor forgets, and nothing proves it: it did not succeed."""
    with stage(remembers=False, back_after=3) as machine:
        machine.trouble(what="is slow", verb="SetUserPassword", guest="a1", step=1)
        call(machine, "SetUserPassword")
        machine.connection(host="a", action="lose process")
        machine.time_passes(seconds=11.0)


def test_saves_wait_in_vain_for_the_hosts_limit() -> None:
    """They give up their place: the next one has it."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain", "a1")
        call(machine, "ManagedSaveDomain", "a2", wait=1.0)
        machine.time_passes(seconds=6.0)


def test_a_call_that_returns_after_its_jobs_end_gives_its_place_at_the_daemon_back() -> None:
    """Before its domain is read, which may take long and needs no place."""
    with stage(workers=3) as machine:
        machine.trouble(what="hangs for good", verb="SetMemory", guest="a1", step=1)
        call(machine, "SetMemory", run=1.0)
        machine.time_passes(seconds=16.0)
        call(machine, "SuspendDomain", "a2")
        machine.trouble(what="is slow", verb="read", guest="a1", step=0)
        machine._do(lambda: machine._there.sims["a"].faults.release(verb="SetMemory"))
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["outcome_unknown", "succeeded"]


def test_a_lost_call_that_is_on_its_way_still_is_not_over() -> None:
    """Who looks whether its domain is free comes after it there; and so does the next job."""
    with stage() as machine:
        machine.trouble(what="hangs", verb="SetMemory", guest="a1", step=0)
        call(machine, "SetMemory", run=1.0)
        machine.time_passes(seconds=16.0)
        machine.connection(host="a", action="lose process")
        machine.time_passes(seconds=1.0)
        call(machine, "CreateSnapshot")
        machine.time_passes(seconds=5.0)
        assert ends(machine) == ["outcome_unknown", "queued"]
        machine.release(host="a")
        machine.time_passes(seconds=3.0)
        assert ends(machine) == ["outcome_unknown", "succeeded"]


def test_another_domain_takes_the_place_of_one() -> None:
    """Under its uuid; and a watcher that comes back later hears of the end of the first."""
    with stage() as machine:
        machine.stranger(guest="a3", action="undefine", number=0)
        machine.time_passes(seconds=1.0)
        machine.stranger(guest="a3", action="define", number=1)
        machine.resume(watcher=0)
        machine.time_passes(seconds=1.0)


def test_a_watcher_misses_a_removal_while_it_is_away() -> None:
    """It is told when it resumes."""
    with stage() as machine:
        machine.watch(what="WatchDomains", pause=3.0)
        machine.time_passes(seconds=1.0)
        machine.stranger(guest="a3", action="undefine", number=0)
        machine.time_passes(seconds=0.5)
        machine.resume(watcher=0)
        machine.time_passes(seconds=4.0)


def test_a_domain_that_was_made_cannot_be_read() -> None:
    """It is told all the same, and the next verb finds it; it is read when that is possible again."""
    with stage() as machine:
        for _ in ("state", "configuration"):
            machine.trouble(what="hangs", verb="read", guest="new1", step=0)
        call(machine, "DefineDomain", "new1")
        machine.time_passes(seconds=6.0)
        call(machine, "StartDomain", "new1")
        machine.time_passes(seconds=6.0)
        assert ends(machine) == ["succeeded", "succeeded"]
        machine.release(host="a")
        machine.time_passes(seconds=1.0)


def test_a_domain_that_was_made_is_gone_before_it_could_be_read() -> None:
    """The first listing after that says so."""
    with stage() as machine:
        for _ in ("state", "configuration"):
            machine.trouble(what="hangs", verb="read", guest="new1", step=0)
        call(machine, "DefineDomain", "new1")
        machine.time_passes(seconds=6.0)
        machine.stranger(guest="new1", action="undefine", number=0)
        machine.time_passes(seconds=31.0)
