"""JobService: every verb is one exclusive, observable, cancellable job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

from grpc import aio

from virtrpc.v1 import job_pb2, job_pb2_grpc, types_pb2
from virtrpc_server.acceptance import Acceptance, Context
from virtrpc_server.job_filter import job_filter, job_ids, newest_first
from virtrpc_server.jobs import Jobs
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.common import enum_table
from virtrpc_server.messages.hosts import unreachable_message
from virtrpc_server.messages.jobs import sample_messages
from virtrpc_server.migration import Migrations
from virtrpc_server.orders import (
    agent,
    backup,
    blocks,
    checkpoints,
    definition,
    devices,
    files,
    images,
    keys,
    lifecycle,
    resources,
    settings,
    snapshots,
    tuning,
)
from virtrpc_server.paging import Key, Pager, Row
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.records import CancelOutcome, Job
from virtrpc_server.slices import ROWS
from virtrpc_server.steering import steer
from virtrpc_server.tuning import tune, tuning_of
from virtrpc_server.watching import Watches

CANCEL_OUTCOMES = enum_table(CancelOutcome, job_pb2.CancelOutcome, "CANCEL_OUTCOME_")
CANCEL_MESSAGES = {
    CancelOutcome.WITHDRAWN: "withdrawn before it began; nothing was changed",
    CancelOutcome.ABORTING: "the hypervisor is being asked to abort it; its last update says what became of it",
    CancelOutcome.NOT_ABORTABLE: "",
    CancelOutcome.ALREADY_FINISHED: "the job is over",
}


class JobService(job_pb2_grpc.JobServiceServicer):
    """The verbs, and what can be asked of jobs without waiting for one."""

    def __init__(
        self, jobs: Jobs, lookup: Lookup, seen: JobSight, acceptance: Acceptance, migrations: Migrations, pager: Pager, watches: Watches
    ) -> None:
        self._jobs = jobs
        self._lookup = lookup
        self._seen = seen
        self._accept = acceptance
        self._migrations = migrations
        self._pager = pager
        self._watches = watches

    def StartDomain(self, request: job_pb2.StartDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainCreateWithFlags."""
        return self._accept.existing(request, context, lifecycle.start)

    def ShutdownDomain(self, request: job_pb2.ShutdownDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainShutdownFlags; ends when the guest is off."""
        return self._accept.existing(request, context, lifecycle.shutdown)

    def RebootDomain(self, request: job_pb2.RebootDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainReboot; ends when the guest has restarted."""
        return self._accept.existing(request, context, lifecycle.reboot)

    def SuspendDomain(self, request: job_pb2.SuspendDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSuspend."""
        return self._accept.existing(request, context, lifecycle.suspend)

    def ResumeDomain(self, request: job_pb2.ResumeDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainResume."""
        return self._accept.existing(request, context, lifecycle.resume)

    def DestroyDomain(self, request: job_pb2.DestroyDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainDestroyFlags, past whatever the domain is busy with."""
        return self._accept.at_once(request, context, lifecycle.destroy)

    def ResetDomain(self, request: job_pb2.ResetDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainReset."""
        return self._accept.existing(request, context, lifecycle.reset)

    def SendKey(self, request: job_pb2.SendKeyRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSendKey."""
        return self._accept.existing(request, context, keys.send_key)

    def InjectNmi(self, request: job_pb2.InjectNmiRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainInjectNMI."""
        return self._accept.existing(request, context, keys.inject_nmi)

    def PowerManagementSuspend(self, request: job_pb2.PowerManagementSuspendRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainPMSuspendForDuration."""
        return self._accept.existing(request, context, lifecycle.power_management_suspend)

    def PowerManagementWakeup(self, request: job_pb2.PowerManagementWakeupRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainPMWakeup."""
        return self._accept.existing(request, context, lifecycle.power_management_wakeup)

    def ManagedSaveDomain(self, request: job_pb2.ManagedSaveDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainManagedSave."""
        return self._accept.existing(request, context, lifecycle.managed_save)

    def SaveDomain(self, request: job_pb2.SaveDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSaveFlags."""
        return self._accept.existing(request, context, files.save)

    def RestoreDomain(self, request: job_pb2.RestoreDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainRestoreFlags."""
        return self._accept.making(request, context, request.host, files.restore)

    def DumpCore(self, request: job_pb2.DumpCoreRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainCoreDumpWithFormat."""
        return self._accept.existing(request, context, files.dump_core)

    def DefineSaveImage(self, request: job_pb2.DefineSaveImageRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSaveImageDefineXML."""
        return self._accept.making(request, context, request.host, images.define_save_image)

    def DefineManagedSaveImage(self, request: job_pb2.DefineManagedSaveImageRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainManagedSaveDefineXML."""
        return self._accept.existing(request, context, images.define_managed_save_image)

    def DefineDomain(self, request: job_pb2.DefineDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainDefineXMLFlags."""
        return self._accept.defining(request, context, definition.define)

    def RenameDomain(self, request: job_pb2.RenameDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainRename."""
        return self._accept.existing(request, context, definition.rename)

    def SetMetadata(self, request: job_pb2.SetMetadataRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetMetadata."""
        return self._accept.existing(request, context, definition.set_metadata)

    def SetAutostart(self, request: job_pb2.SetAutostartRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetAutostart."""
        return self._accept.existing(request, context, definition.set_autostart)

    def CreateDomain(self, request: job_pb2.CreateDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainCreateXML."""
        return self._accept.defining(request, context, definition.create)

    def UndefineDomain(self, request: job_pb2.UndefineDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainUndefineFlags."""
        return self._accept.existing(request, context, definition.undefine)

    def AttachDevice(self, request: job_pb2.AttachDeviceRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainAttachDeviceFlags."""
        return self._accept.changing(request, context, devices.attach_device)

    def DetachDevice(self, request: job_pb2.DetachDeviceRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainDetachDeviceFlags; ends when the device is gone."""
        return self._accept.changing(request, context, devices.detach_device)

    def UpdateDevice(self, request: job_pb2.UpdateDeviceRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainUpdateDeviceFlags."""
        return self._accept.changing(request, context, devices.update_device)

    def SetMemory(self, request: job_pb2.SetMemoryRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetMemoryFlags."""
        return self._accept.existing(request, context, settings.set_memory)

    def SetVcpus(self, request: job_pb2.SetVcpusRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetVcpusFlags."""
        return self._accept.existing(request, context, settings.set_vcpus)

    def SetMemoryStatsPeriod(self, request: job_pb2.SetMemoryStatsPeriodRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetMemoryStatsPeriod."""
        return self._accept.existing(request, context, settings.set_memory_stats_period)

    def PinVcpu(self, request: job_pb2.PinVcpuRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainPinVcpuFlags."""
        return self._accept.existing(request, context, tuning.pin_vcpu)

    def PinEmulator(self, request: job_pb2.PinEmulatorRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainPinEmulator."""
        return self._accept.existing(request, context, tuning.pin_emulator)

    def AddIoThread(self, request: job_pb2.AddIoThreadRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainAddIOThread."""
        return self._accept.existing(request, context, tuning.add_io_thread)

    def DeleteIoThread(self, request: job_pb2.DeleteIoThreadRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainDelIOThread."""
        return self._accept.existing(request, context, tuning.delete_io_thread)

    def PinIoThread(self, request: job_pb2.PinIoThreadRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainPinIOThread."""
        return self._accept.existing(request, context, tuning.pin_io_thread)

    def SetBlockIoTune(self, request: job_pb2.SetBlockIoTuneRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetBlockIoTune."""
        return self._accept.existing(request, context, tuning.set_block_io_tune)

    def SetInterfaceParameters(self, request: job_pb2.SetInterfaceParametersRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetInterfaceParameters."""
        return self._accept.existing(request, context, tuning.set_interface_parameters)

    def SetSchedulerParameters(self, request: job_pb2.SetSchedulerParametersRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetSchedulerParametersFlags."""
        return self._accept.existing(request, context, resources.set_scheduler_parameters)

    def SetMemoryParameters(self, request: job_pb2.SetMemoryParametersRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetMemoryParameters."""
        return self._accept.existing(request, context, resources.set_memory_parameters)

    def SetNumaParameters(self, request: job_pb2.SetNumaParametersRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetNumaParameters."""
        return self._accept.existing(request, context, resources.set_numa_parameters)

    def SetBlkioParameters(self, request: job_pb2.SetBlkioParametersRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetBlkioParameters."""
        return self._accept.existing(request, context, resources.set_blkio_parameters)

    def SetLifecycleAction(self, request: job_pb2.SetLifecycleActionRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetLifecycleAction."""
        return self._accept.existing(request, context, tuning.set_lifecycle_action)

    def SetIoThreadParameters(self, request: job_pb2.SetIoThreadParametersRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetIOThreadParams."""
        return self._accept.existing(request, context, tuning.set_io_thread_parameters)

    def SetVcpu(self, request: job_pb2.SetVcpuRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetVcpu."""
        return self._accept.existing(request, context, tuning.set_vcpu)

    def SetPerfEvents(self, request: job_pb2.SetPerfEventsRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetPerfEvents."""
        return self._accept.existing(request, context, tuning.set_perf_events)

    def SetBlockThreshold(self, request: job_pb2.SetBlockThresholdRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetBlockThreshold."""
        return self._accept.existing(request, context, settings.set_block_threshold)

    def SendProcessSignal(self, request: job_pb2.SendProcessSignalRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSendProcessSignal."""
        return self._accept.existing(request, context, keys.send_process_signal)

    def StartDirtyRateCalculation(self, request: job_pb2.StartDirtyRateCalculationRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainStartDirtyRateCalc."""
        return self._accept.existing(request, context, tuning.start_dirty_rate_calculation)

    def ResizeBlock(self, request: job_pb2.ResizeBlockRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainBlockResize."""
        return self._accept.existing(request, context, settings.resize_block)

    def PullBlock(self, request: job_pb2.PullBlockRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainBlockPull, virDomainBlockRebase; ends when the block job ends."""
        return self._accept.existing(request, context, blocks.pull_block)

    def CopyBlock(self, request: job_pb2.CopyBlockRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainBlockCopy; ends when the mirror has been finished."""
        return self._accept.existing(request, context, blocks.copy_block)

    def CommitBlock(self, request: job_pb2.CommitBlockRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainBlockCommit; ends when the block job ends."""
        return self._accept.existing(request, context, blocks.commit_block)

    def SetUserPassword(self, request: job_pb2.SetUserPasswordRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetUserPassword, through the guest agent."""
        return self._accept.existing(request, context, agent.set_user_password)

    def FreezeFilesystems(self, request: job_pb2.FreezeFilesystemsRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainFSFreeze, through the guest agent."""
        return self._accept.existing(request, context, agent.freeze_filesystems)

    def ThawFilesystems(self, request: job_pb2.ThawFilesystemsRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainFSThaw, through the guest agent."""
        return self._accept.existing(request, context, agent.thaw_filesystems)

    def TrimFilesystems(self, request: job_pb2.TrimFilesystemsRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainFSTrim, through the guest agent."""
        return self._accept.existing(request, context, agent.trim_filesystems)

    def SetGuestTime(self, request: job_pb2.SetGuestTimeRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetTime, through the guest agent."""
        return self._accept.existing(request, context, agent.set_guest_time)

    def SetGuestVcpus(self, request: job_pb2.SetGuestVcpusRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSetGuestVcpus, through the guest agent."""
        return self._accept.existing(request, context, agent.set_guest_vcpus)

    def SetAuthorizedSshKeys(self, request: job_pb2.SetAuthorizedSshKeysRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainAuthorizedSSHKeysSet, through the guest agent."""
        return self._accept.existing(request, context, agent.set_authorized_ssh_keys)

    def CreateSnapshot(self, request: job_pb2.CreateSnapshotRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainSnapshotCreateXML."""
        return self._accept.existing(request, context, snapshots.create_snapshot)

    def RevertToSnapshot(self, request: job_pb2.RevertToSnapshotRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainRevertToSnapshot."""
        return self._accept.existing(request, context, snapshots.revert_to_snapshot)

    def CreateCheckpoint(self, request: job_pb2.CreateCheckpointRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainCheckpointCreateXML."""
        return self._accept.existing(request, context, checkpoints.create_checkpoint)

    def DeleteCheckpoint(self, request: job_pb2.DeleteCheckpointRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainCheckpointDelete."""
        return self._accept.existing(request, context, checkpoints.delete_checkpoint)

    def BackupDomain(self, request: job_pb2.BackupDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainBackupBegin."""
        return self._accept.existing(request, context, backup.backup_domain)

    def MigrateDomain(self, request: job_pb2.MigrateDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """virDomainMigrateToURI3."""
        return self._accept.migrating(request, context, self._migrations.order)

    async def GetJob(self, request: job_pb2.GetJobRequest, context: aio.ServicerContext[Any, Any]) -> job_pb2.GetJobResponse:
        """A job, as it was last told."""
        job = self._seen.known(request.job_id)
        message = self._seen.message(job)
        if request.include_samples:
            message.samples.extend(sample_messages(job))
        return job_pb2.GetJobResponse(job=message)

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: aio.ServicerContext[Any, Any]) -> job_pb2.ListJobsResponse:
        """Jobs, newest first."""
        fits = job_filter(request.filter, self._lookup, self._seen)
        place = self._pager.open(request)
        ids = job_ids(request.filter, self._jobs)

        def rows(after: Key | None) -> Iterator[Row[types_pb2.Job]]:
            return (((job.id,), self._seen.message(job) if fits(job) else None) for job in known(after))

        def known(after: Key | None) -> Iterator[Job]:
            return (job for job_id in newest_first(ids, after) if (job := self._jobs.get(job_id)) is not None)

        async def ready(after: Key | None) -> None:
            if self._seen.sight.policed:
                await self._seen.learn(list(islice(known(after), ROWS)))

        page = await place.cut_long(rows, ready)
        unreachable = [unreachable_message(host) for host in self._lookup.unreachable(request.filter.hosts)]
        return job_pb2.ListJobsResponse(jobs=page.messages, next_page_token=page.next_page_token, unreachable=unreachable)

    def WatchJob(self, request: job_pb2.WatchJobRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:
        """Follow one job to its end; ends OK whatever became of the job."""
        return self._accept.watching(request)

    def WatchJobs(self, request: job_pb2.WatchJobsRequest, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[job_pb2.WatchJobsResponse]:
        """Follow many jobs."""
        return self._watches.jobs(request)  # type: ignore[return-value]  # the transport takes bytes

    async def TuneMigration(self, request: job_pb2.TuneMigrationRequest, context: aio.ServicerContext[Any, Any]) -> job_pb2.TuneMigrationResponse:
        """virDomainMigrateSetMaxDowntime and its neighbours; answered at once."""
        job = await tune(self._jobs, self._seen.steered(request.job_id).id, tuning_of(request))
        return job_pb2.TuneMigrationResponse(job=self._seen.message(job))

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: aio.ServicerContext[Any, Any]) -> job_pb2.CancelJobResponse:
        """Ask a job to stop; answered at once."""
        job, outcome = await self._jobs.cancel(self._seen.steered(request.job_id).id)
        message = CANCEL_MESSAGES[outcome] or job.abort_reason
        return job_pb2.CancelJobResponse(job=self._seen.message(job), outcome=CANCEL_OUTCOMES[outcome], message=message)

    async def FinishBlockJob(self, request: job_pb2.FinishBlockJobRequest, context: aio.ServicerContext[Any, Any]) -> job_pb2.FinishBlockJobResponse:
        """virDomainBlockJobAbort, with PIVOT or without; answered at once."""
        job = await steer(self._jobs, self._seen.steered(request.job_id).id, blocks.finish(request))
        return job_pb2.FinishBlockJobResponse(job=self._seen.message(job))

    async def SetJobSpeed(self, request: job_pb2.SetJobSpeedRequest, context: aio.ServicerContext[Any, Any]) -> job_pb2.SetJobSpeedResponse:
        """virDomainBlockJobSetSpeed; answered at once."""
        job = await steer(self._jobs, self._seen.steered(request.job_id).id, blocks.speed(request))
        return job_pb2.SetJobSpeedResponse(job=self._seen.message(job))
