"""Situations of what goes on in the background, played on the state machine's stage: whatever it checks anywhere holds here too."""

from __future__ import annotations

from tests.model.machine import Machine
from tests.model.test_scenes import call, ends, stage

BY_ITSELF, SERVED, BOTH = 0, 1, 2
"""On the first disk, and over by itself; on the second, until told to end; a backup of both disks."""


def begin(machine: Machine, verb: str, number: int = BY_ITSELF, *, wait: float = 30.0) -> None:
    """Somebody begins what goes on in the background."""
    machine.block_job(verb=verb, guest="a1", number=number, wait=wait, run=0.0, leave="detach")


def test_two_disks_have_a_block_job_each_and_the_domain_is_free() -> None:
    """Whatever else is done to it does not wait."""
    with stage() as machine:
        begin(machine, "PullBlock", BY_ITSELF)
        begin(machine, "PullBlock", SERVED)
        call(machine, "SuspendDomain", wait=0.0)
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["running", "running", "succeeded"]
        machine.time_passes(seconds=6.0)
        assert ends(machine) == ["succeeded"] * 3


def test_a_second_block_job_on_a_disk_waits_without_the_domain() -> None:
    """It begins when the first one is over, and what came after it has long been done."""
    with stage() as machine:
        begin(machine, "CopyBlock")
        machine.time_passes(seconds=1.0)
        begin(machine, "PullBlock")
        call(machine, "SetMemory", wait=0.0)
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["running", "queued", "succeeded"]
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["succeeded"] * 3


def test_a_block_job_that_came_first_begins_first() -> None:
    """It has its place in its domain's queue from its acceptance, as others have, however long the store takes."""
    with stage() as machine:
        machine.store(seconds=0.5, failures=0)
        begin(machine, "PullBlock")
        machine.store(seconds=0.0, failures=0)
        call(machine, "SetMemory")
        machine.time_passes(seconds=6.0)
        assert ends(machine) == ["succeeded", "succeeded"]


def test_what_must_be_alone_waits_for_a_backup_with_the_domain() -> None:
    """What came after it waits for it, and the guest's agent for nobody."""
    with stage() as machine:
        begin(machine, "BackupDomain", SERVED)
        machine.time_passes(seconds=1.0)
        call(machine, "CreateSnapshot")
        call(machine, "SetMemory")
        call(machine, "SetUserPassword", wait=0.0)
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["running", "queued", "queued", "succeeded"]
        machine.finish_block_job(job=0, finish="stop")
        machine.time_passes(seconds=6.0)
        assert ends(machine) == ["succeeded"] * 4


def test_a_second_backup_waits_without_the_domain() -> None:
    """Though it is of another disk."""
    with stage() as machine:
        begin(machine, "BackupDomain", SERVED)
        machine.time_passes(seconds=1.0)
        begin(machine, "BackupDomain", BY_ITSELF)
        call(machine, "SetMemory", wait=0.0)
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["running", "queued", "succeeded"]
        machine.finish_block_job(job=1, finish="stop")
        machine.time_passes(seconds=6.0)
        assert ends(machine) == ["succeeded"] * 3


def test_a_mirror_is_told_to_finish_by_another_driver_process() -> None:
    """The process that began it was lost: its job has been adopted."""
    with stage() as machine:
        begin(machine, "CopyBlock", SERVED)
        machine.time_passes(seconds=2.0)
        machine.connection(host="a", action="lose process")
        machine.time_passes(seconds=6.0)
        machine.finish_block_job(job=0, finish="pivot")
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["succeeded"]


def test_a_block_job_that_hangs_keeps_its_disk_and_nothing_else() -> None:
    """Its job is over, its call is not: what wants the disk waits for that."""
    with stage() as machine:
        machine.trouble(what="hangs", verb="CopyBlock", guest="a1", step=2)
        begin(machine, "CopyBlock")
        machine.time_passes(seconds=1.0)
        machine.cancel(job=0)
        machine.time_passes(seconds=16.0)
        begin(machine, "PullBlock")
        call(machine, "SuspendDomain", wait=0.0)
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["outcome_unknown", "queued", "succeeded"]
        machine.release(host="a")
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["outcome_unknown", "succeeded", "succeeded"]


def test_a_block_job_that_begins_after_its_jobs_end_lets_go_of_the_domain() -> None:
    """The hypervisor says that it needs it no more, whatever became of the job: only the disk is kept, until the abort comes through."""
    with stage() as machine:
        machine.trouble(what="hangs", verb="CopyBlock", guest="a1", step=1)
        machine.trouble(what="is slow", verb="cancel", guest="a1", step=0)
        begin(machine, "CopyBlock")
        machine.cancel(job=0)
        machine.time_passes(seconds=6.0)
        machine.trouble(what="hangs", verb="cancel", guest="a1", step=0)
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["outcome_unknown"]
        machine._do(lambda: machine._there.sims["a"].faults.release(verb="CopyBlock"))
        call(machine, "SuspendDomain")
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["outcome_unknown", "succeeded"]


def test_what_has_begun_is_not_begun_again_for_a_foreign_job() -> None:
    """It has given its domain back, and nobody can say what became of it. Its disk is the next one's once the hypervisor has been asked."""
    with stage() as machine:
        machine.trouble(what="meets a foreign job", verb="CopyBlock", guest="a1", step=2)
        begin(machine, "CopyBlock")
        machine.time_passes(seconds=1.0)
        begin(machine, "PullBlock")
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["outcome_unknown", "succeeded"]


def test_a_destroy_ends_what_goes_on_and_what_waits_for_it() -> None:
    """All of it was preempted, also what waits for a disk."""
    with stage() as machine:
        begin(machine, "BackupDomain", BOTH)
        machine.time_passes(seconds=1.0)
        begin(machine, "PullBlock", SERVED)
        call(machine, "ManagedSaveDomain")
        machine.time_passes(seconds=0.5)
        call(machine, "DestroyDomain")
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["preempted"] * 3 + ["succeeded"]


def test_a_guest_that_stops_holds_its_block_job_up() -> None:
    """A cancel ends that at once, and the domain is free."""
    with stage() as machine:
        begin(machine, "PullBlock")
        machine.time_passes(seconds=1.0)
        machine.outside(guest="a1", action="stop")
        machine.time_passes(seconds=11.0)
        assert ends(machine) == ["running"]
        machine.cancel(job=0)
        machine.time_passes(seconds=1.0)
        assert ends(machine) == ["cancelled"]
