"""What the tests of behaviour share: guests that are stopped or held in the middle of a save, and every query asked at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt
import libvirt_qemu

from tests.beds.domain import domain_xml, make_disk
from tests.beds.embed import EmbedRoot
from tests.beds.processes import alive, pids_with_argument
from tests.beds.steps import step_until
from tests.beds.wait import wait_for_console, wait_until
from tests.e2e.server import GUARD, Guest, Server, eventually
from virtrpc import AsyncClient, AsyncJobHandle, is_final, job_options
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

MIB = 1 << 20
BEGUN_BYTES = 4 * MIB
"""An image of this size holds memory: what comes before is smaller."""
DETACHED = job_options(on_disconnect="detach")
_numbers = itertools.count(1)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process is stopped (SIGSTOP) while the context lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        let_go_on(pid)


def let_go_on(pid: int) -> None:
    """SIGCONT, where the process still exists."""
    if alive(pid):
        os.kill(pid, signal.SIGCONT)


def writers(name: str) -> list[int]:
    """The processes that write a guest's managed-save image for libvirt."""
    return writers_of(f"/{name}.save")


def writers_of(path: str) -> list[int]:
    """The processes that write memory for libvirt to a file whose path has this in it."""
    return pids_with_argument("libvirt_iohelper", path)


def held_writer(name: str, earlier: Sequence[int] = ()) -> AbstractContextManager[None]:
    """The writer of a guest's managed-save image is held, as by `held_writer_of`."""
    return held_writer_of(f"/{name}.save", earlier)


@contextmanager
def held_writer_of(path: str, earlier: Sequence[int] = (), written: int = BEGUN_BYTES) -> Iterator[None]:
    """The writer of this file, none of the `earlier` ones, is stopped as soon as it has written so many bytes, and goes on afterwards."""
    found: list[int] = []

    def begun() -> list[int]:
        found[:] = [pid for pid in writers_of(path) if pid not in earlier]
        return found

    wait_until(begun, f"the writing of {path} to begin", GUARD)
    with stopped(found[0]):
        _let_write(found[0], written)
        yield


def _let_write(writer: int, written: int) -> None:
    """Let a stopped writer write until its image has so many bytes."""
    # Its standard output is the image: /proc shows it past any mount namespace.
    image = Path(f"/proc/{writer}/fd/1")
    step_until(writer, lambda: image.stat().st_size >= written)


@asynccontextmanager
async def save_held_midway(client: AsyncClient, name: str) -> AsyncIterator[AsyncJobHandle]:
    """A managed save whose disk has stopped taking data: memory is being written, and does not end before the context does.

    QEMU itself and its monitor go on as with any slow disk. The guest must have more memory to save than BEGUN_BYTES.
    """
    earlier = writers(name)  # of a save that was called off, on its way out
    handle = await client.managed_save_domain(name, options=DETACHED)
    with held_writer(name, earlier):
        await eventually(lambda: has_progress(client, handle.job_id), "the save to report bytes")
        yield handle


async def abort_has_arrived(guest: Guest) -> None:
    """Return once QEMU has been told to give up what it is writing: it can do so only when its disk takes data again."""

    def cancelling() -> bool:
        answer = json.loads(libvirt_qemu.qemuMonitorCommand(guest.domain, '{"execute": "query-migrate"}', 0))
        return str(answer["return"].get("status")).startswith("cancel")

    await eventually(cancelling, "the abort to reach QEMU")


async def has_progress(client: AsyncClient, job_id: str) -> bool:
    """Whether a running job has said how far it is."""
    job = await client.get_job(job_id=job_id)
    assert not is_final(job), job
    return job.progress.HasField("total_bytes")


async def job_in(client: AsyncClient, job_id: str, *states: t.JobState.ValueType) -> t.Job:
    """The job once it is in one of these states, and where it is queued says what for; fails where it ends in another."""
    seen: list[t.Job] = []

    async def there() -> bool:
        seen[:] = [await client.get_job(job_id=job_id)]
        assert seen[0].state in states or not is_final(seen[0]), seen[0]
        # What it waits for is told a moment later than that it was taken.
        return seen[0].state in states and (seen[0].state != t.JOB_STATE_QUEUED or seen[0].waiting_for != t.JOB_WAITING_FOR_UNSPECIFIED)

    await eventually(there, f"job {job_id} to become {', '.join(map(t.JobState.Name, states))}")
    return seen[0]


async def last(client: AsyncClient, job_id: str) -> t.Job:
    """The job's final form."""
    *_, job = [job async for job in client.watch_job(job_id)]
    assert is_final(job)
    return job


async def stuck_change(client: AsyncClient, guest: Guest) -> AsyncJobHandle:
    """A change sent to a stopped guest, once it hangs in the guest's monitor."""
    handle = await client.set_memory(guest.name, memory_bytes=96 * MIB, scope=t.CHANGE_SCOPE_LIVE, options=DETACHED)
    await job_in(client, handle.job_id, t.JOB_STATE_RUNNING)
    await eventually(lambda: guest.domain.controlInfo(0)[0] == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, "the call to reach the monitor")
    return handle


@dataclass(frozen=True)
class Answers:
    """One answer of each query."""

    domain: t.Domain
    domains: Sequence[t.Domain]
    xml: q.GetDomainXmlResponse
    memory: q.GetMemoryStatsResponse
    block: q.GetBlockStatsResponse
    stats: Sequence[q.DomainStats]
    job: t.Job
    jobs: Sequence[t.Job]

    @property
    def observations(self) -> list[t.Observation]:
        """How old the statistics of one domain are, in each answer that carries them."""
        (row,) = self.stats
        return [self.memory.stats.observation, self.block.stats.observation, row.memory.observation, row.block.observation]


async def ask_everything(client: AsyncClient, domain: str, job_id: str) -> Answers:
    """Every query that must answer whatever the domain does, asked at once."""
    found = await client.get_domain(domain)
    one = t.DomainFilter(hosts=[found.host], uuids=[found.uuid])
    of_domain = j.JobFilter(domain=t.DomainRef(host=found.host, uuid=found.uuid))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(client.get_domain(domain))
        domains = group.create_task(client.list_domains(filter=one).all())
        xml = group.create_task(client.get_domain_xml(domain))
        memory = group.create_task(client.get_memory_stats(domain))
        block = group.create_task(client.get_block_stats(domain))
        stats = group.create_task(client.list_domain_stats(filter=one).all())
        job = group.create_task(client.get_job(job_id=job_id))
        jobs = group.create_task(client.list_jobs(filter=of_domain).all())
    return Answers(asked.result(), domains.result(), xml.result(), memory.result(), block.result(), stats.result(), job.result(), jobs.result())


async def sampled(client: AsyncClient, *domains: str) -> None:
    """Return once the statistics of these guests have been read and are LIVE."""

    async def live() -> bool:
        answers = [(await client.get_memory_stats(domain), await client.get_block_stats(domain)) for domain in domains]
        return all(answer.stats.observation.freshness == t.FRESHNESS_LIVE for pair in answers for answer in pair)

    await eventually(live, f"the statistics of {', '.join(domains)} to be LIVE")


def when(observation: t.Observation) -> int:
    """The time of an observation in nanoseconds, to compare."""
    return observation.observed_time.ToNanoseconds()


@dataclass
class EmbedHost:
    """A server whose host `emb` is QEMU inside its driver process, with another host `calm` beside it."""

    server: Server
    root: EmbedRoot

    @asynccontextmanager
    async def guest(self, client: AsyncClient, fill_mib: int = 0) -> AsyncIterator[str]:
        """A running guest, by name: only the driver process reaches it, so that it is made through the server. With `fill_mib` it has booted."""
        name = f"embedded-{next(_numbers)}"
        console = self.root.console_log(name)
        disk = make_disk(self.root.path / f"{name}.qcow2")
        xml = domain_xml(name, console_log=console, disks=[disk], memory_mib=128 + 2 * fill_mib, fill_mib=fill_mib)
        await (await client.define_domain(host="emb", xml=xml)).wait()
        await (await client.start_domain(name)).wait()
        if fill_mib:
            await asyncio.to_thread(wait_for_console, console, "FILLED", GUARD)
        try:
            yield name
        finally:
            if (await client.get_domain(name)).active:
                await (await client.destroy_domain(name)).wait()
            await (await client.undefine_domain(name, managed_save=True)).wait()

    def qemu_pid(self, name: str) -> int:
        """The process of one running guest."""
        (pid,) = [pid for pid in pids_with_argument("qemu-system", f"guest={name},") if pid in self.root.qemu_pids()]
        return pid


@contextmanager
def embed_host() -> Iterator[EmbedHost]:
    """A server with a root of its own for `qemu:///embed`."""
    with EmbedRoot() as root:
        server = Server({"emb": root.uri, "calm": "sim:///"}, path_roots=[str(root.path)])
        server.search_path = root.search_path
        with server:
            server.wait_live()
            yield EmbedHost(server, root)
