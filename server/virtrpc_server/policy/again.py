"""Judging a job anew right before its call: while it waited, the rules, its domain's labels, or what else there is may have changed."""

from __future__ import annotations

from virtrpc_drivers.operations import AnyOperation, Create, Define, DefineSaveImage, Destroy, Migrate, Restore
from virtrpc_server.caller import Call, Caller, Way, call
from virtrpc_server.domains import Entry
from virtrpc_server.errors import not_yet
from virtrpc_server.jobs import Jobs
from virtrpc_server.policy.actions import SEE_DOMAIN
from virtrpc_server.policy.decisions import denied
from virtrpc_server.policy.leave import Leave
from virtrpc_server.policy.sight import Sight
from virtrpc_server.records import Job

READ_SECONDS = 5.0
"""How long the definition of a domain is waited for that was not read yet."""


class Again:
    """Asks the rules on behalf of who began a job, as at its acceptance."""

    def __init__(self, jobs: Jobs, sight: Sight, leave: Leave) -> None:
        self._jobs = jobs
        self._sight = sight
        self._leave = leave

    async def __call__(self, job: Job, operation: AnyOperation) -> None:
        """Raises Refusal where the job would not be accepted now: PERMISSION_DENIED, ALREADY_EXISTS, HOST_UNREACHABLE (labels are not read)."""
        if not self._sight.policed or not job.origin.rpc:  # journals of earlier releases do not say which it was
            return
        # The job may be of an earlier life, or its caller may be known otherwise by now: what it was accepted for counts.
        before = call.set(Call("", job.origin.rpc, caller=_owner(job)))
        try:
            await self._judge(job, operation)
        finally:
            call.reset(before)

    async def _judge(self, job: Job, operation: AnyOperation) -> None:
        entry = await self._read(job, operation)
        if isinstance(operation, Define | Create | Restore | DefineSaveImage):
            await self._leave.making(operation, job.host, operation.name)
            return
        if entry is None:
            return  # gone, which is for others to say
        self._check(job, entry)
        if isinstance(operation, Migrate):
            await self._leave.moving(operation, entry, job.destination_host)
        else:
            await self._leave.changing(operation, entry)

    async def _read(self, job: Job, operation: AnyOperation) -> Entry | None:
        entry = self._jobs.domains.get((job.host, job.uuid))
        # A destroy waits for nothing: where what is not known decides, it is refused.
        if entry is None or entry.config is not None or isinstance(operation, Destroy):
            return entry
        await self._jobs.hosts[job.host].refresher.refresh(job.uuid, READ_SECONDS)
        return self._jobs.domains.get((job.host, job.uuid))

    def _check(self, job: Job, entry: Entry) -> None:
        for action in (SEE_DOMAIN, job.origin.rpc):
            verdict = self._sight.verdict(action, self._sight.resource(entry))
            if verdict.allowed:
                continue
            if self._sight.unread(entry):
                raise not_yet(f"the definition of {job.name} has not been read, and with it who may do this", host=job.host, domain=job.uuid)
            # By the name that the job tells: what the domain is called now may be none of its owner's business.
            raise denied(self._sight.caller, action, verdict, f"domain {job.name}", "judged anew before it began")


def _owner(job: Job) -> Caller:
    return Caller(job.owner, Way(job.origin.way), job.origin.names or (job.owner,))
