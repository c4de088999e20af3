"""What holds once everything was let go: nobody waits, the cache is true, every watcher knows it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, cast

from tests.model.callers import Caller, Watcher
from tests.model.channel import Channel, LocalChannel, Rpc
from tests.model.holding import BACKGROUND
from tests.model.requests import FINISHES
from tests.model.wishes import Wishes
from tests.model.world import AUDIT_SECONDS, World
from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers.values import Phase
from virtrpc_server.messages.common import STATES

ROTATION_SECONDS, POLL_SECONDS = 600.0, 5.0
OVER_SECONDS = 400.0
"""Seconds after which whatever was let go must be over."""
TURNS_TO_REST = 20_000
"""Turns of the loop after which a moment that does not end is a fault."""
MOMENT = 1e-6


async def settled() -> bool:
    """Wait until nothing more happens at this moment; whether that came to be."""
    loop = cast("Any", asyncio.get_running_loop())
    due = False
    for _ in range(TURNS_TO_REST):
        # A timer of this moment may be due a nanosecond later, for the many digits of its time.
        await asyncio.sleep(MOMENT if due and not loop._ready else 0)
        due = loop._scheduled and loop._scheduled[0]._when <= loop.time() + MOMENT
        if not loop._ready and not due:
            return True
    return False


class Rest:
    """The end of one world."""

    def __init__(
        self,
        world: World,
        local: LocalChannel,
        channel: Channel,
        callers: Sequence[Caller],
        watchers: Sequence[Watcher],
        asked: Sequence[Rpc],
        wishes: Wishes,
    ) -> None:
        self._world, self._local, self._channel, self._wishes = world, local, channel, wishes
        self._callers, self._watchers = callers, watchers
        self._rpcs: list[Caller | Rpc] = [*callers, *asked]

    async def come(self) -> None:
        """Let everything go, and wait until all is over."""
        self._world.let_go()
        for watcher in self._watchers:
            watcher.hurry()
        loop = asyncio.get_running_loop()
        until = loop.time() + OVER_SECONDS
        while (out := self._still_out()) and loop.time() < until:
            self._finish_mirrors()
            await asyncio.sleep(1)
        assert not out, f"[never over] {out}"
        await asyncio.sleep(2 * AUDIT_SECONDS + 5)
        await self._polled()

    async def _polled(self) -> None:
        """A host without events is asked ever less often when it answers slowly, and read as a whole in ten minutes at the latest."""
        for _ in range(int(ROTATION_SECONDS / POLL_SECONDS)):
            with contextlib.suppress(AssertionError):
                self._check_cache()
                return
            await asyncio.sleep(POLL_SECONDS)

    def _finish_mirrors(self) -> None:
        """Nobody else is left to do it."""
        for job in [job for job in self._world.journal.held.values() if job.verb in BACKGROUND and not job.finished]:
            if self._world.core.jobs.known(job.id).phase is Phase.READY:
                finish = "pivot" if job.verb == "CommitBlock" else "stop"
                self._wishes.finishing.setdefault(job.id, set()).add(finish)
                self._rpcs.append(
                    self._channel.begin("FinishBlockJob", job_pb2.FinishBlockJobRequest(job_id=job.id, finish=FINISHES[finish]), _ignored)
                )
        self._world.finish_abandoned()

    def _still_out(self) -> str:
        jobs = [job.id for job in self._world.journal.held.values() if not job.finished]
        if jobs:
            return f"jobs {jobs}"
        if any(rpc.reason is None for rpc in self._rpcs):
            return "a caller"
        # A guest that was asked may never do it, and nobody holds anything for that.
        if any(not out.asked or out.operation.verb in BACKGROUND for out in self._world.record.inside) or any(self._world.record.reads_out.values()):
            return "a call at a hypervisor"
        away = [name for name, host in self._world.record.hosts.items() if not host.connected]
        return f"hosts {away}" if away else ""

    async def check(self) -> None:
        """All that must be true now."""
        self._check_cache()
        self._check_jobs()
        self._check_places()
        for watcher in self._watchers:
            self._check_watcher(watcher)

    def _domains(self) -> list[types_pb2.Domain]:
        return list(self._local.ask("ListDomains", query_pb2.ListDomainsRequest()).domains)

    def _check_cache(self) -> None:
        """Every domain that there is, as it is, and no other."""
        told = {(domain.host, domain.uuid): domain for domain in self._domains()}
        true = {(name, uuid): domain for name, sim in self._world.sims.items() for uuid, domain in sim.domains.items()}
        assert told.keys() == true.keys(), f"[true] {told.keys() ^ true.keys()} are told or there, and not both"
        for key, domain in true.items():
            shown = told[key]
            config = domain.config_value()
            there = (domain.name, STATES[domain.state], domain.id, domain.image is not None, config.persistent, config.autostart)
            seen = (shown.name, shown.state, shown.id if shown.HasField("id") else None, shown.has_managed_save, shown.persistent, shown.autostart)
            assert seen == there, f"[true] {key} is told as {seen}, and is {there}"
            for observation in (shown.state_observation, shown.configuration_observation):
                assert observation.freshness == types_pb2.FRESHNESS_LIVE, f"[true] {key} is not LIVE"

    def _check_jobs(self) -> None:
        held = self._world.journal.held
        listed: list[types_pb2.Job] = []
        token = ""
        while True:
            page = self._local.ask("ListJobs", job_pb2.ListJobsRequest(page_size=50, page_token=token))
            listed += page.jobs
            token = page.next_page_token
            if not token:
                break
        assert [job.job_id for job in listed] == sorted(held, reverse=True), "[one end] the list of jobs is not that of the store"
        for job in listed:
            assert job.revision == held[job.job_id].revision, f"[one end] job {job.job_id} is not told as it was stored"
        for caller in self._callers:
            caller.check_end()

    def _check_places(self) -> None:
        core = self._world.core
        assert list(core.jobs.conditions) == [], "[left behind] a condition"
        for host in core.hosts:
            for slots in (host.budget, host.destroys, *host.limits.values()):
                assert slots.idle, f"[left behind] a place on host {host.name}: {slots.holders} {slots.waiters}"

    def _check_watcher(self, watcher: Watcher) -> None:
        assert watcher.reason is None, f"[watchers] a watch ended: {watcher.reason}"
        told, true = dict[tuple[str, str], Any](), dict[tuple[str, str], Any]()
        if watcher.what == "WatchJobs":
            told = {key: job.revision for key, job in watcher.held.items()}
            true = {(job.id, ""): job.revision for job in self._world.journal.held.values()}
        else:
            told = {key: _seen(domain) for key, domain in watcher.held.items()}
            true = {(domain.host, domain.uuid): _seen(domain) for domain in self._domains()}
        assert told == true, f"[watchers] a watcher of {watcher.what} ends with {told}, and there is {true}"

    async def close(self) -> None:
        """Everybody leaves, the server ends: nothing is left."""
        for watcher in self._watchers:
            await watcher.close()
        for rpc in self._rpcs:
            rpc.leave()
        for rpc in self._rpcs:
            await rpc.over()
        await self._channel.close()
        await self._world.close()
        assert await settled(), "[rest] the loop has no rest after the end"
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"[left behind] {left}"
        loop = cast("Any", asyncio.get_running_loop())
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]
        assert not timers, f"[left behind] {timers}"


async def _ignored(_answer: Any) -> None:
    """Whatever it says."""


def _seen(domain: types_pb2.Domain) -> tuple[Any, ...]:
    return (domain.name, domain.generation, domain.state, domain.id, domain.persistent, domain.autostart)
