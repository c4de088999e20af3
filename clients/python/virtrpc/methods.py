"""The table of methods: every RPC of the contract, once, for the asynchronous and the blocking client."""

from __future__ import annotations

from virtrpc.table import Lister, Pieces, Read, Verb, Watcher, for_domain
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import snapshot_pb2 as s


def joined_picture(pieces: list[s.TakeScreenshotResponse]) -> s.TakeScreenshotResponse:
    """A picture whole: one message with its kind and all of its bytes."""
    whole = s.TakeScreenshotResponse(data=b"".join(piece.data for piece in pieces))
    whole.mime_type, whole.total_bytes = pieces[0].mime_type, pieces[0].total_bytes
    return whole


class Methods:
    """Reads give the answer's one message, or the whole answer where it has several. Lists are iterated. Verbs give a job handle once the server
    has accepted them. Watches are iterated and resume by themselves."""

    get_domain = Read("QueryService/GetDomain", for_domain(q.GetDomainRequest), q.GetDomainResponse, lambda a: a.domain)
    get_domain_by_id = Read("QueryService/GetDomain", q.GetDomainRequest, q.GetDomainResponse, lambda a: a.domain)
    list_domains = Lister("QueryService/ListDomains", q.ListDomainsRequest, q.ListDomainsResponse, lambda a: a.domains)
    get_domain_xml = Read("QueryService/GetDomainXml", for_domain(q.GetDomainXmlRequest), q.GetDomainXmlResponse, lambda a: a)
    get_metadata = Read("QueryService/GetMetadata", for_domain(q.GetMetadataRequest), q.GetMetadataResponse, lambda a: a)
    list_vcpus = Lister("QueryService/ListVcpus", for_domain(q.ListVcpusRequest), q.ListVcpusResponse, lambda a: a.vcpus)
    get_block_stats = Read("QueryService/GetBlockStats", for_domain(q.GetBlockStatsRequest), q.GetBlockStatsResponse, lambda a: a)
    get_interface_stats = Read("QueryService/GetInterfaceStats", for_domain(q.GetInterfaceStatsRequest), q.GetInterfaceStatsResponse, lambda a: a)
    get_memory_stats = Read("QueryService/GetMemoryStats", for_domain(q.GetMemoryStatsRequest), q.GetMemoryStatsResponse, lambda a: a)
    list_domain_stats = Lister("QueryService/ListDomainStats", q.ListDomainStatsRequest, q.ListDomainStatsResponse, lambda a: a.stats)
    watch_domains = Watcher("QueryService/WatchDomains", q.WatchDomainsRequest, q.WatchDomainsResponse)
    list_hosts = Lister("QueryService/ListHosts", q.ListHostsRequest, q.ListHostsResponse, lambda a: a.hosts)
    get_host = Read("QueryService/GetHost", q.GetHostRequest, q.GetHostResponse, lambda a: a.host)
    get_host_stats = Read("QueryService/GetHostStats", q.GetHostStatsRequest, q.GetHostStatsResponse, lambda a: a.stats)

    start_domain = Verb("JobService/StartDomain", for_domain(j.StartDomainRequest))
    shutdown_domain = Verb("JobService/ShutdownDomain", for_domain(j.ShutdownDomainRequest))
    reboot_domain = Verb("JobService/RebootDomain", for_domain(j.RebootDomainRequest))
    suspend_domain = Verb("JobService/SuspendDomain", for_domain(j.SuspendDomainRequest))
    resume_domain = Verb("JobService/ResumeDomain", for_domain(j.ResumeDomainRequest))
    destroy_domain = Verb("JobService/DestroyDomain", for_domain(j.DestroyDomainRequest))
    reset_domain = Verb("JobService/ResetDomain", for_domain(j.ResetDomainRequest))
    send_key = Verb("JobService/SendKey", for_domain(j.SendKeyRequest))
    inject_nmi = Verb("JobService/InjectNmi", for_domain(j.InjectNmiRequest))
    power_management_suspend = Verb("JobService/PowerManagementSuspend", for_domain(j.PowerManagementSuspendRequest))
    power_management_wakeup = Verb("JobService/PowerManagementWakeup", for_domain(j.PowerManagementWakeupRequest))
    managed_save_domain = Verb("JobService/ManagedSaveDomain", for_domain(j.ManagedSaveDomainRequest))
    save_domain = Verb("JobService/SaveDomain", for_domain(j.SaveDomainRequest))
    restore_domain = Verb("JobService/RestoreDomain", j.RestoreDomainRequest)
    dump_core = Verb("JobService/DumpCore", for_domain(j.DumpCoreRequest))
    define_save_image = Verb("JobService/DefineSaveImage", j.DefineSaveImageRequest)
    define_managed_save_image = Verb("JobService/DefineManagedSaveImage", for_domain(j.DefineManagedSaveImageRequest))
    define_domain = Verb("JobService/DefineDomain", j.DefineDomainRequest)
    undefine_domain = Verb("JobService/UndefineDomain", for_domain(j.UndefineDomainRequest))
    rename_domain = Verb("JobService/RenameDomain", for_domain(j.RenameDomainRequest))
    set_metadata = Verb("JobService/SetMetadata", for_domain(j.SetMetadataRequest))
    set_autostart = Verb("JobService/SetAutostart", for_domain(j.SetAutostartRequest))
    create_domain = Verb("JobService/CreateDomain", j.CreateDomainRequest)
    attach_device = Verb("JobService/AttachDevice", for_domain(j.AttachDeviceRequest))
    detach_device = Verb("JobService/DetachDevice", for_domain(j.DetachDeviceRequest))
    update_device = Verb("JobService/UpdateDevice", for_domain(j.UpdateDeviceRequest))
    set_memory = Verb("JobService/SetMemory", for_domain(j.SetMemoryRequest))
    set_vcpus = Verb("JobService/SetVcpus", for_domain(j.SetVcpusRequest))
    set_memory_stats_period = Verb("JobService/SetMemoryStatsPeriod", for_domain(j.SetMemoryStatsPeriodRequest))
    pin_vcpu = Verb("JobService/PinVcpu", for_domain(j.PinVcpuRequest))
    pin_emulator = Verb("JobService/PinEmulator", for_domain(j.PinEmulatorRequest))
    add_io_thread = Verb("JobService/AddIoThread", for_domain(j.AddIoThreadRequest))
    delete_io_thread = Verb("JobService/DeleteIoThread", for_domain(j.DeleteIoThreadRequest))
    pin_io_thread = Verb("JobService/PinIoThread", for_domain(j.PinIoThreadRequest))
    set_block_io_tune = Verb("JobService/SetBlockIoTune", for_domain(j.SetBlockIoTuneRequest))
    set_interface_parameters = Verb("JobService/SetInterfaceParameters", for_domain(j.SetInterfaceParametersRequest))
    set_lifecycle_action = Verb("JobService/SetLifecycleAction", for_domain(j.SetLifecycleActionRequest))
    set_scheduler_parameters = Verb("JobService/SetSchedulerParameters", for_domain(j.SetSchedulerParametersRequest))
    set_memory_parameters = Verb("JobService/SetMemoryParameters", for_domain(j.SetMemoryParametersRequest))
    set_numa_parameters = Verb("JobService/SetNumaParameters", for_domain(j.SetNumaParametersRequest))
    set_blkio_parameters = Verb("JobService/SetBlkioParameters", for_domain(j.SetBlkioParametersRequest))
    set_io_thread_parameters = Verb("JobService/SetIoThreadParameters", for_domain(j.SetIoThreadParametersRequest))
    set_vcpu = Verb("JobService/SetVcpu", for_domain(j.SetVcpuRequest))
    set_perf_events = Verb("JobService/SetPerfEvents", for_domain(j.SetPerfEventsRequest))
    set_block_threshold = Verb("JobService/SetBlockThreshold", for_domain(j.SetBlockThresholdRequest))
    send_process_signal = Verb("JobService/SendProcessSignal", for_domain(j.SendProcessSignalRequest))
    start_dirty_rate_calculation = Verb("JobService/StartDirtyRateCalculation", for_domain(j.StartDirtyRateCalculationRequest))
    resize_block = Verb("JobService/ResizeBlock", for_domain(j.ResizeBlockRequest))
    pull_block = Verb("JobService/PullBlock", for_domain(j.PullBlockRequest))
    copy_block = Verb("JobService/CopyBlock", for_domain(j.CopyBlockRequest))
    commit_block = Verb("JobService/CommitBlock", for_domain(j.CommitBlockRequest))
    set_user_password = Verb("JobService/SetUserPassword", for_domain(j.SetUserPasswordRequest))
    freeze_filesystems = Verb("JobService/FreezeFilesystems", for_domain(j.FreezeFilesystemsRequest))
    thaw_filesystems = Verb("JobService/ThawFilesystems", for_domain(j.ThawFilesystemsRequest))
    trim_filesystems = Verb("JobService/TrimFilesystems", for_domain(j.TrimFilesystemsRequest))
    set_guest_time = Verb("JobService/SetGuestTime", for_domain(j.SetGuestTimeRequest))
    set_guest_vcpus = Verb("JobService/SetGuestVcpus", for_domain(j.SetGuestVcpusRequest))
    set_authorized_ssh_keys = Verb("JobService/SetAuthorizedSshKeys", for_domain(j.SetAuthorizedSshKeysRequest))
    create_snapshot = Verb("JobService/CreateSnapshot", for_domain(j.CreateSnapshotRequest))
    revert_to_snapshot = Verb("JobService/RevertToSnapshot", for_domain(j.RevertToSnapshotRequest))
    create_checkpoint = Verb("JobService/CreateCheckpoint", for_domain(j.CreateCheckpointRequest))
    delete_checkpoint = Verb("JobService/DeleteCheckpoint", for_domain(j.DeleteCheckpointRequest))
    backup_domain = Verb("JobService/BackupDomain", for_domain(j.BackupDomainRequest))
    migrate_domain = Verb("JobService/MigrateDomain", for_domain(j.MigrateDomainRequest))

    get_job = Read("JobService/GetJob", j.GetJobRequest, j.GetJobResponse, lambda a: a.job)
    list_jobs = Lister("JobService/ListJobs", j.ListJobsRequest, j.ListJobsResponse, lambda a: a.jobs)
    watch_jobs = Watcher("JobService/WatchJobs", j.WatchJobsRequest, j.WatchJobsResponse)
    cancel_job = Read("JobService/CancelJob", j.CancelJobRequest, j.CancelJobResponse, lambda a: a)
    finish_block_job = Read("JobService/FinishBlockJob", j.FinishBlockJobRequest, j.FinishBlockJobResponse, lambda a: a.job)
    set_job_speed = Read("JobService/SetJobSpeed", j.SetJobSpeedRequest, j.SetJobSpeedResponse, lambda a: a.job)

    tune_migration = Read("JobService/TuneMigration", j.TuneMigrationRequest, j.TuneMigrationResponse, lambda a: a.job)

    list_snapshots = Lister("SnapshotService/ListSnapshots", for_domain(s.ListSnapshotsRequest), s.ListSnapshotsResponse, lambda a: a.snapshots)
    get_snapshot = Read("SnapshotService/GetSnapshot", for_domain(s.GetSnapshotRequest), s.GetSnapshotResponse, lambda a: a.snapshot)
    get_snapshot_xml = Read("SnapshotService/GetSnapshotXml", for_domain(s.GetSnapshotXmlRequest), s.GetSnapshotXmlResponse, lambda a: a)
    get_current_snapshot = Read(
        "SnapshotService/GetCurrentSnapshot", for_domain(s.GetCurrentSnapshotRequest), s.GetCurrentSnapshotResponse, lambda a: a.snapshot
    )
    list_checkpoints = Lister(
        "SnapshotService/ListCheckpoints", for_domain(s.ListCheckpointsRequest), s.ListCheckpointsResponse, lambda a: a.checkpoints
    )
    get_checkpoint = Read("SnapshotService/GetCheckpoint", for_domain(s.GetCheckpointRequest), s.GetCheckpointResponse, lambda a: a.checkpoint)
    get_checkpoint_xml = Read("SnapshotService/GetCheckpointXml", for_domain(s.GetCheckpointXmlRequest), s.GetCheckpointXmlResponse, lambda a: a)
    delete_snapshot = Verb("SnapshotService/DeleteSnapshot", for_domain(s.DeleteSnapshotRequest))
    remove_managed_save = Verb("SnapshotService/RemoveManagedSave", for_domain(s.RemoveManagedSaveRequest))
    get_guest_info = Read("SnapshotService/GetGuestInfo", for_domain(s.GetGuestInfoRequest), s.GetGuestInfoResponse, lambda a: a)
    take_screenshot = Pieces("SnapshotService/TakeScreenshot", for_domain(s.TakeScreenshotRequest), s.TakeScreenshotResponse, joined_picture)
    get_domain_capabilities = Read(
        "SnapshotService/GetDomainCapabilities", s.GetDomainCapabilitiesRequest, s.GetDomainCapabilitiesResponse, lambda a: a
    )
    get_save_image = Read("SnapshotService/GetSaveImage", s.GetSaveImageRequest, s.GetSaveImageResponse, lambda a: a)
    get_managed_save_image = Read(
        "SnapshotService/GetManagedSaveImage", for_domain(s.GetManagedSaveImageRequest), s.GetManagedSaveImageResponse, lambda a: a
    )
    get_guest_vcpus = Read("SnapshotService/GetGuestVcpus", for_domain(s.GetGuestVcpusRequest), s.GetGuestVcpusResponse, lambda a: a)
    get_authorized_ssh_keys = Read(
        "SnapshotService/GetAuthorizedSshKeys", for_domain(s.GetAuthorizedSshKeysRequest), s.GetAuthorizedSshKeysResponse, lambda a: a
    )
    get_resource_parameters = Read(
        "SnapshotService/GetResourceParameters", for_domain(s.GetResourceParametersRequest), s.GetResourceParametersResponse, lambda a: a
    )
    get_dirty_rate = Read("SnapshotService/GetDirtyRate", for_domain(s.GetDirtyRateRequest), s.GetDirtyRateResponse, lambda a: a)
    plan_migration = Read("SnapshotService/PlanMigration", for_domain(s.PlanMigrationRequest), s.PlanMigrationResponse, lambda a: a)
