"""What else can be done to a guest, one verb after the other: each is a job, and each is looked at afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.timestamp_pb2 import Timestamp

from tests.demo.stage import Stage
from virtrpc import AgentUnresponsive, AsyncClient, Unsupported
from virtrpc.jobs import AsyncJobHandle
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

NOON = Timestamp(seconds=1_900_000_000)
Say = Callable[[str], None]


async def tour(client: AsyncClient, here: Stage, say: Say) -> None:
    """Names it, asks its agent, backs up its disk, saves it to a file and brings it back; says what each step brought."""
    await _done(client.set_metadata(here.domain, title="the demo's guest"))
    say(f"titled: {(await client.get_metadata(here.domain)).title!r}")
    await _agent(client, here, say)
    await _backup(client, here, say)
    path = str(here.directory / "demo.save")
    saved = await _done(client.save_domain(here.domain, path=path))
    size = f"{saved.progress.total_bytes >> 20} MiB" if saved.progress.total_bytes else "its memory"
    image = (await client.get_save_image(path=path)).domain
    say(f"saved to a file: {size} of {image.name}, which is {_state(saved.file_result.domain)}")
    restored = await _done(client.restore_domain(path=path, uuid=image.uuid, name=image.name))
    say(f"brought back from it: {_state(restored.domain_result.domain)}")
    await _done(client.reset_domain(here.domain))
    table = (await client.get_host(host="demo")).verbs
    say(f"reset; of the {len(table)} RPCs that some hypervisor lacks, this one has {sum(row.supported for row in table)} (virtrpc host)")


async def _agent(client: AsyncClient, here: Stage, say: Say) -> None:
    try:
        info = await client.get_guest_info(here.domain)
        frozen = await _done(client.freeze_filesystems(here.domain))
        thawed = await _done(client.thaw_filesystems(here.domain))
        await _done(client.set_guest_time(here.domain, guest_time=NOON))
    except (AgentUnresponsive, Unsupported) as refused:
        say(f"its agent does not answer: {refused.message}")
        return
    counts = frozen.filesystems_result.filesystems, thawed.filesystems_result.filesystems
    say(f"its agent says that it is {info.hostname!r}; froze {counts[0]} file systems and thawed {counts[1]}; set its clock")


async def _backup(client: AsyncClient, here: Stage, say: Say) -> None:
    """All of its disk, and then what was written since."""
    for name, since in (("monday", ""), ("tuesday", "monday")):
        disks = [t.BackupDisk(device="vda", path=str(here.directory / f"{name}.qcow2"))]
        whole = j.BackupDefinition(disks=disks, incremental=since)
        job = await _done(client.backup_domain(here.domain, definition=whole, checkpoint=j.CheckpointDefinition(name=name)))
        what = f"what was written since {since}" if since else "its disk"
        say(f"backed up {what}, at checkpoint {job.backup_domain_result.checkpoint.name}, while it ran")
    await _done(client.delete_checkpoint(here.domain, name="monday", children=True))


async def _done(verb: Awaitable[AsyncJobHandle]) -> t.Job:
    return await (await verb).wait()


def _state(domain: t.Domain) -> str:
    return f"{t.DomainState.Name(domain.state).removeprefix('DOMAIN_STATE_').lower()} ({domain.state_reason})"
