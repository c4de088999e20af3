"""What a driver's report says anew of a running job."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers.protocol import Report
from virtrpc_drivers.values import Phase
from virtrpc_server import schedule
from virtrpc_server.progress import Progress
from virtrpc_server.records import Job
from virtrpc_server.samples import Sample

NOT_NOW = {
    Phase.MIGRATION_POST_COPY: "the guest runs at the destination and fetches its memory from here: to stop now would lose it",
    Phase.MIGRATION_FINISH: "the destination is taking over",
}
"""Why a migration cannot be stopped now."""


def news(job: Job, report: Report) -> dict[str, Any]:
    """The fields of the job that are otherwise now."""
    changes: dict[str, Any] = schedule.read(job, report)
    if report.stamp is not None:
        changes["progress"] = progress = Progress.after(job.progress, report)
        changes["samples"] = job.samples.after(Sample(report.phase, progress, changes.get("migration")))
    if report.backup is not None:
        changes["backup"] = report.backup
    if report.trouble != job.trouble:
        changes["trouble"] = report.trouble
    if report.abortable is not None and report.abortable != job.abortable:
        changes["abortable"] = report.abortable
        changes["abort_reason"] = "" if report.abortable else NOT_NOW.get(report.phase, "the hypervisor cannot abort it in this phase")
    if job.phase not in (report.phase, Phase.ABORTING):
        changes["phase"] = report.phase
    return changes
