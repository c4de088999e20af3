"""The server is killed, or asked to end, and begins again: the sharpest moments, played on the state machine's stage."""

from __future__ import annotations

from typing import Any

from tests.model.machine import Machine
from tests.model.test_scenes import call, ends, stage

PLAIN = {
    "how": "kill", "verb": "", "guest": "a1", "leave": "detach", "turns": 0, "taken": 0, "away": 0.05, "meanwhile": "", "later": 0.5, "unread": 0,
    "back": ["watch"],
}  # fmt: skip


def restart(machine: Machine, **how: Any) -> None:
    """The server is killed and started again at once, unless `how` says otherwise."""
    machine.restart(**(PLAIN | how))


def test_what_runs_goes_on_and_what_waits_keeps_its_place() -> None:
    """A save, and behind it a start that was to go on whoever leaves, and one that was not."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain")
        call(machine, "StartDomain", leave="withdraw")
        restart(machine)
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["succeeded", "succeeded", "interrupted"]


def test_a_call_is_killed_in_each_of_its_first_moments() -> None:
    """Before it is stored there is no job, from then on there is one; before it is stored as running nothing is sent, and nothing is sent twice."""
    found = set[tuple[str, ...]]()
    for turns in range(12):
        for taken in (0, 1):
            with stage() as machine:
                machine.store(seconds=0.01, failures=0)
                restart(machine, verb="SetUserPassword", turns=turns, taken=taken, back=["repeat"])
                machine.time_passes(seconds=6.0)
                found.add(tuple(ends(machine)))
    assert found >= {("succeeded",), ("interrupted",)}


def test_a_destroy_is_killed_in_each_of_its_first_moments() -> None:
    """Once it may have been sent, nothing that was queued before it begins."""
    for turns in range(0, 14, 2):
        with stage() as machine:
            call(machine, "ManagedSaveDomain")
            call(machine, "StartDomain", wait=300.0)
            restart(machine, verb="DestroyDomain", turns=turns, back=["repeat"])
            machine.time_passes(seconds=6.0)
            save, start, *destroy = ends(machine)
            assert (save, start) == ("preempted", "preempted") or destroy != ["succeeded"]


def test_of_a_destroy_and_its_victims_the_destroys_end_alone_is_stored() -> None:
    """The start that it preempted does not start the guest again."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", wait=300.0)
        machine.time_passes(seconds=0.5)
        machine.store(seconds=0.05, failures=0)
        call(machine, "DestroyDomain")
        machine.time_passes(seconds=0.11)
        machine.store(seconds=0.05, failures=1)
        machine.time_passes(seconds=0.5)
        assert ends(machine)[1:] == ["queued", "succeeded"]
        restart(machine)
        machine.time_passes(seconds=6.0)
        assert ends(machine)[1:] == ["preempted", "succeeded"]


def test_a_cancel_that_was_answered_is_kept() -> None:
    """Also where the server is killed before the abort has come back, and twice."""
    with stage() as machine:
        machine.trouble(what="is slow", verb="cancel", guest="a1", step=0)
        call(machine, "ManagedSaveDomain")
        machine.time_passes(seconds=0.5)
        machine.cancel(job=0)
        restart(machine)
        restart(machine)
        machine.time_passes(seconds=31.0)
        assert ends(machine) == ["cancelled"]


def test_run_timeout_passes_while_the_server_is_away() -> None:
    """The next life cancels it at once."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain", run=1.0)
        restart(machine, away=2.0)
        machine.time_passes(seconds=31.0)
        assert ends(machine) == ["failed"]


def test_a_ghost_has_its_domain_and_its_place_at_the_daemon_in_the_next_life() -> None:
    """Until the hypervisor says that the domain is free; the host's other domains wait for the one place."""
    with stage(workers=3) as machine:
        machine.trouble(what="hangs for good", verb="SetMemory", guest="a1", step=1)
        call(machine, "SetMemory", run=1.0)
        machine.time_passes(seconds=16.0)
        restart(machine)
        call(machine, "SuspendDomain", "a2")
        call(machine, "SuspendDomain")
        machine.time_passes(seconds=2.0)
        assert ends(machine) == ["outcome_unknown", "queued", "queued"]
        machine.release(host="a")
        machine.time_passes(seconds=31.0)
        assert ends(machine)[1:] == ["succeeded", "succeeded"]


def test_the_ghost_of_a_backup_haunts_the_next_life() -> None:
    """It has its disks, as its operation says: that is kept whole until the ghost is over."""
    with stage() as machine:
        machine.trouble(what="hangs for good", verb="Backup", guest="a1", step=1)
        call(machine, "BackupDomain", run=1.0)
        machine.time_passes(seconds=16.0)
        restart(machine)
        call(machine, "CopyBlock", wait=300.0)
        machine.time_passes(seconds=2.0)
        assert ends(machine) == ["outcome_unknown", "queued"]


def test_what_ran_has_its_place_at_the_daemon_before_its_host_is_reached() -> None:
    """Whoever comes then waits for it."""
    with stage(workers=3, back_after=3) as machine:
        machine.trouble(what="is very slow", verb="SetMemory", guest="a1", step=1)
        call(machine, "SetMemory")
        restart(machine)
        call(machine, "SuspendDomain", "a2")
        machine.time_passes(seconds=0.5)
        call(machine, "SuspendDomain", "a2")
        machine.time_passes(seconds=31.0)


def test_a_journal_that_is_read_late_is_taken_up_all_the_same() -> None:
    """Its hosts are known before its jobs are: what ran has its places before anything is accepted."""
    with stage(workers=3) as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", wait=300.0)
        restart(machine, unread=1)
        call(machine, "SuspendDomain", "a2")
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["succeeded", "succeeded", "succeeded"]


def test_progress_that_was_told_is_older_than_what_the_next_life_tells() -> None:
    """Not all of it was stored; a store that is slow keeps nobody from being told more than before."""
    with stage() as machine:
        call(machine, "CopyBlock")
        machine.time_passes(seconds=0.5)
        machine.store(seconds=0.5, failures=0)
        machine.time_passes(seconds=2.0)
        restart(machine, back=["watch", "repeat"])
        restart(machine, back=["watch", "repeat"])
        machine.time_passes(seconds=11.0)


def test_a_drain_leaves_what_runs_and_what_may_wait_to_the_next_life() -> None:
    """It cancels nothing."""
    with stage() as machine:
        machine.trouble(what="is very slow", verb="ManagedSave", guest="a1", step=1)
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", wait=300.0)
        call(machine, "StartDomain", leave="withdraw", wait=300.0)
        restart(machine, how="drain")
        machine.time_passes(seconds=31.0)
        assert ends(machine) == ["succeeded", "succeeded", "interrupted"]


def test_a_job_that_a_drain_has_left_to_the_next_life_is_cancelled_before_that() -> None:
    """It has stopped waiting, and ends all the same; so it is cancelled, and not begun by the next."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", wait=300.0)
        restart(machine, how="cancel in a drain")
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["succeeded", "cancelled"]


def test_a_drain_is_cut_short() -> None:
    """By a kill, as a second signal is one."""
    with stage() as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", wait=300.0)
        restart(machine, how="kill in a drain")
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["succeeded", "succeeded"]


def test_the_server_is_killed_again_and_again() -> None:
    """Each life goes on where the one before was, whether or not it has reached its hosts."""
    with stage(back_after=3) as machine:
        call(machine, "ManagedSaveDomain")
        call(machine, "StartDomain", wait=300.0)
        call(machine, "CopyBlock", "b1")
        for turns in range(8):
            restart(machine, turns=turns, away=0.05, back=["watch", "repeat", ""])
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["succeeded", "succeeded", "succeeded"]
