"""The server's core on simulated hosts, with a record of all that passes its borders."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from tests.model import requests
from tests.model.expected import Expected
from tests.model.journal import Journal
from tests.model.record import Record
from tests.model.watched import Judge, WatchedDriver
from tests.virtual_time import wall
from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.events import LoopDeliverer
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_server.core import Core
from virtrpc_server.records import Job
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings

AUDIT_SECONDS = 20.0
SAMPLE_SECONDS = 5.0
GUESTS = {"a": (3, 2, 0), "b": (2, 1, 1), "c": (2, 2, 1)}
"""Of each host: domains, how many of them run, how many of those are transient."""
TIMES = {"save_seconds": 4, "migrate_seconds": 4, "shutdown_seconds": 2, "lock_seconds": 2}
NEW = ("new1", "new2")


class World:
    """Hosts a and b, and c, which has no events. `parameters` are added to the sim: URIs of all, `workers` limits a's daemon."""

    def __init__(self, judge: Judge, parameters: dict[str, object], workers: int, hosts: str) -> None:
        self.record = Record()
        self.expected = Expected()
        self.journal = Journal(self.record.now)
        self.generations: dict[tuple[str, str], str] = {}
        """The newest generation that was seen of each domain, by host and uuid."""
        self.sims: dict[str, SimHypervisor] = {}
        self.drivers: dict[str, WatchedDriver] = {}
        self._judge, self._network = judge, dict[str, SimHypervisor]()
        self.workers = workers
        self.settings = Settings(
            hosts=tuple(HostSettings(name=name, uri=self._uri(name, parameters), **_LIMITS) for name in hosts),  # type: ignore[arg-type]
            socket=Path("/nowhere"),
        )
        self.core = Core(self.settings, self._driver, self.journal.open(), wall)
        self.uuids = self._labels()

    @property
    def remembers(self) -> bool:
        """Whether hypervisors know what became of a call, whoever asks; if not, what the domain is like may prove it."""
        return self.sims["a"].options.remembers

    @property
    def shape(self) -> str:
        """Whose habits the hosts have."""
        return self.sims["a"].options.shape

    def home(self, guest: str) -> str:
        """The host on which a guest is: where it runs, if it is on two; where it began, if it is on none."""
        uuid = self.uuids[guest]
        at = [name for name, sim in self.sims.items() if uuid in sim.domains]
        running = [name for name in at if self.sims[name].domains[uuid].active]
        return (running or at or [guest[0] if guest[0] in self.sims else "a"])[0]

    async def start(self) -> None:
        """Connect."""
        await self.core.start(lambda _host: None)

    async def close(self) -> None:
        """Switch everything off."""
        await self.core.close()
        for sim in self.sims.values():
            await sim.close()

    async def kill(self, taken: int) -> None:
        """End this life of the server, as `kill -9` does: the hypervisors go on, and so does the journal, with `taken` of what was being written."""
        for driver in self.drivers.values():
            driver.cut()
        self.journal.end_life(taken)
        self.record.server_ended(self.journal.held.values())
        await self.core.close()

    async def begin_again(self) -> None:
        """The next life of the server."""
        self.expected.begin_again()
        self.core = Core(self.settings, self._driver, self.journal.open(), wall)
        await self.start()
        # Until then all that concerns jobs is refused.
        await self.journal.was_read.wait()

    def let_go(self) -> None:
        """End whatever goes wrong, and whatever others do."""
        self.journal.seconds, self.journal.failures = 0.0, 0
        for driver in self.drivers.values():
            driver.mend()
        for name, sim in self.sims.items():
            for uuid in sim._foreign:
                self.end_foreign(name, uuid)
            sim.faults.clear()
            sim.events.rules.clear()
            sim.events.flush()
            for uuid, domain in list(sim.domains.items()):
                sim.continue_guest(uuid)
                if domain.reason == "user":
                    # A paused guest never does what it is asked to.
                    effects.unpause(sim, domain)

    def finish_abandoned(self) -> None:
        """End the mirrors whose jobs are over: whoever finds one would have to."""
        for job in [job for sim in self.sims.values() for job in sim.jobs.values() if job.block is not None and not job.done]:
            kept = self.journal.held.get(job.id.partition(".")[0])
            if job.block is not None and job.block.finish == "wait" and (kept is None or kept.finished):
                job.block.finish = "stop"
                job.block.steered.set()

    def applied(self, job: Job) -> bool:
        """Whether a job's effect is there, whatever was told of it."""
        return any(call.applied for name, call in self.sims[job.host].jobs.items() if name.partition(".")[0] == job.id)

    def end_foreign(self, host: str, uuid: str) -> None:
        """End others' jobs; the incoming half of a migration is ours."""
        for job in [job for job in self.sims[host]._foreign.get(uuid, ()) if job.verb != "MigrateIncoming"]:
            job.end()

    def _uri(self, name: str, parameters: dict[str, object]) -> str:
        own = dict(zip(("domains", "running", "transient"), GUESTS[name], strict=True))
        more = {"a": {"workers": self.workers}, "c": {"events": 0}}.get(name, {})
        return f"sim://{name}/?{urlencode({**TIMES, **own, **parameters, **more})}"

    def _driver(self, settings: DriverSettings) -> WatchedDriver:
        options = from_uri(settings.uri)
        if options.host not in self.sims:
            sim = SimHypervisor(options, deliverer=LoopDeliverer(spread=0.0), wall=wall, network=self._network)
            self._give_disks(sim)
            self.sims[options.host] = sim
        driver = self.drivers[options.host] = WatchedDriver(settings, self.sims[options.host], self.record, self.expected, self._judge)
        return driver

    def _give_disks(self, sim: SimHypervisor) -> None:
        for domain in sim.domains.values():
            domain.document = Document.given(requests.with_disks(domain.document.text))
            domain.live = domain.document if domain.active else None

    def _labels(self) -> dict[str, str]:
        labels = {f"{name}{number}": uuid for name, sim in self.sims.items() for number, uuid in enumerate(sim.domains, 1)}
        return labels | {label: f"aaaaaaaa-0000-4000-8000-00000000000{number}" for number, label in enumerate(NEW)}


_LIMITS = {"migrations": 1, "saves": 1, "audit_seconds": AUDIT_SECONDS, "sample_seconds": SAMPLE_SECONDS}
