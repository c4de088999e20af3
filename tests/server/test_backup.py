"""Backups below the transport, on virtual time: who waits for one, who does not, and what is refused before there is a job."""

from __future__ import annotations

import pytest

from tests.server.world import World, until, virtual
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers import operations as op
from virtrpc_drivers.values import Phase, Steering
from virtrpc_server.errors import Refusal
from virtrpc_server.listening import Listener
from virtrpc_server.orders.backup import backup_domain
from virtrpc_server.records import JobState, WaitingFor
from virtrpc_server.steering import steer

STOP = Steering(finish="stop")
DISK = t.BackupDisk(device="vda", path="/images/scratch")


def pull(world: World, name: str = "scratch") -> Listener:
    """A backup of the first guest that is served until it is told to stop."""
    xml = (
        "<domainbackup mode='pull'><server transport='unix' socket='/images/nbd'/>"
        f"<disks><disk name='vda'><scratch file='/images/{name}'/></disk></disks></domainbackup>"
    )
    return world.accept(op.Backup(uuid=world.guest().uuid, xml=xml), wait_limit=100.0)


async def ready(listener: Listener) -> None:
    """Return once it is served."""
    await until(lambda: listener.job.phase is Phase.READY)


@virtual
async def test_what_cannot_run_beside_it_waits_and_names_it() -> None:
    """A save has its turn on the domain and waits for the backup's end, those behind it for the save; the guest's agent for neither."""
    async with World() as world:
        uuid = world.guest().uuid
        backup = pull(world)
        await ready(backup)
        assert (await world.run(op.Suspend(uuid=uuid))).state is JobState.SUCCEEDED
        save = world.accept(op.ManagedSave(uuid=uuid))
        await until(lambda: save.job.waiting_for is WaitingFor.CONDITION)
        resume = world.accept(op.Resume(uuid=uuid))
        await until(lambda: resume.job.waiting_for is WaitingFor.CONDITION)
        assert [holder.job_id for holder in save.job.holders] == [backup.job.id]
        assert [(holder.job_id, holder.waiting_for) for holder in resume.job.holders] == [(save.job.id, WaitingFor.CONDITION)]
        assert (await world.run(op.FreezeFilesystems(uuid=uuid))).state is JobState.SUCCEEDED
        await steer(world.jobs, backup.job.id, STOP)
        assert (await world.end(backup)).state is JobState.SUCCEEDED
        assert (await world.end(save)).state is JobState.SUCCEEDED
        assert (await world.end(resume)).state is JobState.FAILED
        assert list(world.jobs.conditions) == []


@virtual
async def test_a_second_backup_waits_without_the_domain() -> None:
    """It waits for the first and holds up nobody; a save that came between runs before it."""
    async with World() as world:
        uuid = world.guest().uuid
        first = pull(world)
        await ready(first)
        save = world.accept(op.ManagedSave(uuid=uuid), wait_limit=100.0)
        second = pull(world, "other")
        await until(lambda: second.job.waiting_for is WaitingFor.CONDITION)
        assert [holder.job_id for holder in second.job.holders] == [first.job.id]
        await steer(world.jobs, first.job.id, STOP)
        assert (await world.end(save)).state is JobState.SUCCEEDED
        ended = await world.end(second)
        assert (ended.state, ended.problem and ended.problem.reason) == (JobState.FAILED, "WRONG_STATE")
        assert list(world.jobs.conditions) == []


@virtual
async def test_a_destroy_ends_it_and_frees_all_that_wait() -> None:
    """The backup and the save behind it end PREEMPTED, and nothing is left held."""
    async with World() as world:
        uuid = world.guest().uuid
        backup = pull(world)
        await ready(backup)
        save = world.accept(op.ManagedSave(uuid=uuid))
        await until(lambda: save.job.waiting_for is WaitingFor.CONDITION)
        assert (await world.run(op.Destroy(uuid=uuid))).state is JobState.SUCCEEDED
        assert (await world.end(backup)).state is JobState.PREEMPTED
        assert (await world.end(save)).state is JobState.PREEMPTED
        assert list(world.jobs.conditions) == []


@virtual
async def test_what_it_cannot_be_told() -> None:
    """It has no speed and no mirror to pivot; a push has nothing to finish."""
    async with World("sim://a/?domains=4&running=2&block_seconds=5") as world:
        backup = pull(world)
        await ready(backup)
        xml = "<domainbackup><disks><disk name='vda'><target file='/images/full'/></disk></disks></domainbackup>"
        push = world.accept(op.Backup(uuid=world.guest(2).uuid, xml=xml))
        await until(lambda: push.job.phase is Phase.BACKGROUND)
        told = [(backup, Steering(bandwidth_bytes_per_second=1)), (backup, Steering(finish="pivot")), (push, STOP)]
        for listener, steering in told:
            with pytest.raises(Refusal) as caught:
                await steer(world.jobs, listener.job.id, steering)
            assert caught.value.problem.reason == "INVALID_ARGUMENT"
        listener_job = push.job
        assert listener_job.backup is not None
        assert [disk.path for disk in listener_job.backup.disks] == ["/images/full"]


@pytest.mark.parametrize(
    "server",
    [
        t.BackupServer(),
        t.BackupServer(tcp=t.BackupEndpoint(host="localhost")),
        t.BackupServer(tcp=t.BackupEndpoint(port=-1)),
        t.BackupServer(tcp=t.BackupEndpoint(port=65536)),
        t.BackupServer(tcp=t.BackupEndpoint(port=99999)),
        t.BackupServer(tcp=t.BackupEndpoint(port=(1 << 63) - 1)),
        t.BackupServer(tcp=t.BackupEndpoint(host="0.0.0.0", port=10809)),  # refused: that is the point
        t.BackupServer(tcp=t.BackupEndpoint(host="host.example", port=10809)),
        t.BackupServer(socket="relative"),
    ],
)
def test_a_pull_that_anybody_could_read_from_is_refused(server: t.BackupServer) -> None:
    """Without TLS a socket or a loopback address with a port is needed; also where XML says it."""
    definition = j.BackupDefinition(mode=t.BACKUP_MODE_PULL, disks=[DISK], server=server)
    with pytest.raises(Refusal):
        backup_domain(j.BackupDomainRequest(definition=definition), "u")
    xml = "<domainbackup mode='pull'><server name='host.example' port='1'/><disks><disk name='vda'><scratch file='/s'/></disk></disks></domainbackup>"
    with pytest.raises(Refusal):
        backup_domain(j.BackupDomainRequest(xml=xml), "u")
    assert backup_domain(j.BackupDomainRequest(xml=xml.replace("<server", "<server tls='yes'")), "u").asked.pull


PORTS = ("", "0", "-1", "65536", "99999", str(1 << 63), str(10**22), "9" * 5000, "\N{ARABIC-INDIC DIGIT THREE}", "1e3", " 1")


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port[:20])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    """INVALID_ARGUMENT before there is a job, however long the number that XML has for it."""
    disks = "<disks><disk name='vda'><scratch file='/s'/></disk></disks>"
    xml = f"<domainbackup mode='pull'><server name='localhost' port='{port}'/>{disks}</domainbackup>"
    with pytest.raises(Refusal) as caught:
        backup_domain(j.BackupDomainRequest(xml=xml), "u")
    assert caught.value.problem.reason == "INVALID_ARGUMENT"
    assert backup_domain(j.BackupDomainRequest(xml=xml.replace(f"port='{port}'", "port='65535'")), "u").asked.pull


def test_a_relative_path_names_its_disk() -> None:
    """The field says which disk's it is."""
    definition = j.BackupDefinition(disks=[DISK, t.BackupDisk(device="vdb", path="full.qcow2")])
    with pytest.raises(Refusal, match=r"'full\.qcow2'") as caught:
        backup_domain(j.BackupDomainRequest(definition=definition), "u")
    assert caught.value.problem.metadata["field"] == "definition.disks[1].path"


@pytest.mark.parametrize(
    "request_",
    [
        j.BackupDomainRequest(),
        j.BackupDomainRequest(definition=j.BackupDefinition()),
        j.BackupDomainRequest(definition=j.BackupDefinition(disks=[t.BackupDisk(device="vda")])),
        j.BackupDomainRequest(definition=j.BackupDefinition(disks=[t.BackupDisk(path="/a")])),
        j.BackupDomainRequest(xml="<domainbackup/>"),
        j.BackupDomainRequest(xml="<domainbackup><disks><disk name='vda' backup='no'/></disks></domainbackup>"),
        j.BackupDomainRequest(xml="<domaincheckpoint/>"),
        j.BackupDomainRequest(definition=j.BackupDefinition(disks=[DISK]), checkpoint=j.CheckpointDefinition(name="a/b")),
        j.BackupDomainRequest(definition=j.BackupDefinition(disks=[DISK]), checkpoint_xml="<domaincheckpoint>"),
    ],
)
def test_what_is_missing_is_refused(request_: j.BackupDomainRequest) -> None:
    """Each disk with a file, XML of the right kind, and a checkpoint that can be one."""
    with pytest.raises(Refusal):
        backup_domain(request_, "u")
