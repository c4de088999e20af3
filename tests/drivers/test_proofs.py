"""What becomes of each verb's call whose caller died, on every driver: proven where its effect shows, and never guessed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from tests.drivers.bed import GUARD, SIM, Bed, Embed, Kind, LibvirtTest, SimInDaemon, SimInProcess, call_of
from tests.drivers.conftest import HYPERVISORS
from tests.drivers.proof_cases import CASES, ELSEWHERE, Case, Scene
from tests.drivers.test_conformance import example
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt.proofs import PROOFS
from virtrpc_drivers.protocol import Call, HostDown, HostUp
from virtrpc_drivers.proving import MADE, UNPROVABLE
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.values import Outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")

LATER = 5.0
"""Seconds by which a call is made to have begun after what it finds."""


class Quick(Kind):
    """A simulated hypervisor in a driver process, that forgets the calls it ended."""

    @property
    def uri(self) -> str:
        return SIM.replace("save_seconds=1", "save_seconds=0.05&block_seconds=0.05&remembers=0")


class QuickInProcess(Quick, SimInProcess):
    """The same in this process: the hypervisor lives on when its driver process dies."""


class QuickInDaemon(SimInDaemon):
    """The same in a process of its own."""

    @property
    def uri(self) -> str:
        return self.daemon.uri("", running=1, save_seconds=0.05, block_seconds=0.05, remembers=0)


QUICK: dict[str, type[Kind]] = {"sim": QuickInProcess, "sim-process": Quick, "sim-daemon": QuickInDaemon, "test": LibvirtTest, "embed": Embed}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one directory that files may lie in."""
    return tmp_path_factory.mktemp("proofs")


@pytest_asyncio.fixture(params=HYPERVISORS, scope="module", loop_scope="module")
async def shared_bed(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[Bed]:
    """A driver of each kind that may write there."""
    bed = await Bed.open(QUICK[request.param](), path_roots=(str(root),))
    yield bed
    await bed.close()


@dataclass
class Play:
    """One case on one hypervisor: what was done, and what was said of it each time."""

    case: Case
    scene: Scene
    call: Call = field(init=False)
    outcome: Outcome = field(init=False)
    said: dict[str, str] = field(default_factory=dict)

    async def ask(self, when: str, call: Call | None = None) -> None:
        """Resume the call, or another, and note what is said."""
        try:
            async with asyncio.timeout(GUARD):
                outcome = await self.scene.bed.driver.resume(call or self.call)
        except TimeoutError:
            self.said[when] = "no answer"
        except DriverError as error:
            self.said[when] = f"{error.reason}: {error.fault.message}"
        else:
            same = call is not None or replace(outcome, stamp=None) == replace(self.outcome, stamp=None)
            self.said[when] = "proven" if same else f"another outcome: {outcome} is not {self.outcome}"

    def operation(self) -> ops.AnyOperation:
        """The case's."""
        return self.case.does(self.scene)

    async def do(self) -> None:
        """Ask of a call that was never sent; then send one, and ask of that."""
        for make in self.case.first:
            await self.scene.bed.run(make(self.scene))
        await self.ask("never sent", call_of((self.case.never or self.case.does)(self.scene)))
        self.call = call_of(self.operation())
        async with asyncio.timeout(GUARD):
            self.outcome = await self.scene.bed.driver.run(self.call)
        await self.ask("done")
        await self.ask("there before", call_of(self.operation(), began=time.time() + LATER))

    async def undo(self) -> None:
        """Ask after somebody else has undone it."""
        if self.case.undo is not None:
            await self.scene.bed.run(self.case.undo(self.scene))
            await self.ask("undone since")

    def expected(self, *, outlived: bool) -> dict[str, str]:
        """What is true of it, by the case."""
        case, kind = self.case, self.scene.bed.kind.name
        done = kind not in case.unknown_to
        kept = kind not in case.lost_with or self.scene.bed.kind.outlives
        held = {
            "never sent": False,
            "done": done,
            "there before": done and case.counts_what_was_there,
            "done, and its process died": done and kept,
            "undone since": False,
            "gone": case.proves_by_being_gone,
            "made anew": case.stays_shown and kept,
        }
        if not outlived:
            del held["done, and its process died"]
        if case.undo is None:
            del held["undone since"]
        return {when: "proven" if proven else "INTERRUPTED: " for when, proven in held.items()}

    def wrong(self, *, outlived: bool) -> dict[str, str]:
        """What was said and is not true."""
        expected = self.expected(outlived=outlived)
        assert set(self.said) == set(expected)
        return {when: said for when, said in self.said.items() if not said.startswith(expected[when])}


@pytest.mark.timeout(600)  # it starts a dozen guests, on a machine that may be loaded
async def test_what_is_said_of_a_lost_call(bed: Bed, root: Path) -> None:
    """A call is proven where its effect shows, with what it would have answered; not where it was not sent, undone, or lost with its domain."""
    cases = {verb: case for verb, case in CASES.items() if bed.kind.name in case.only and has(bed, verb)}
    scenes = {case.shares or verb: (Scene(bed, root), case) for verb, case in cases.items()}
    plays = {verb: Play(case, scenes[case.shares or verb][0]) for verb, case in cases.items()}
    outlived = bed.kind.name == "qemu" or bed.kind.outlives
    await asyncio.gather(*(scene.prepare(case) for scene, case in scenes.values()))
    for play in plays.values():
        await play.do()
    if outlived:
        await die(bed)
        await ask_all(plays, "done, and its process died")
    for play in plays.values():
        await play.undo()
    if outlived:
        await asyncio.gather(*(scene.remove() for scene, _ in scenes.values()))
    else:
        await die(bed)  # and the hypervisor with it
    await ask_all(plays, "gone")
    await asyncio.gather(*(scene.define() for scene, _ in scenes.values()))
    await ask_all(plays, "made anew")
    assert {verb: wrong for verb, play in plays.items() if (wrong := play.wrong(outlived=outlived))} == {}


async def ask_all(plays: dict[str, Play], when: str) -> None:
    """Ask of each call."""
    for play in plays.values():
        await play.ask(when)


async def test_what_leaves_nothing_to_be_read(bed: Bed) -> None:
    """What cannot be proven is INTERRUPTED, and the evidence says why it cannot."""
    uuid = await bed.defined()
    for verb, why in UNPROVABLE.items():
        if has(bed, verb):
            with pytest.raises(DriverError) as caught:
                await bed.driver.resume(call_of(example(verb, uuid)))
            assert (caught.value.reason, why in caught.value.fault.message) == (Reason.INTERRUPTED, True), verb


async def test_no_verb_is_forgotten() -> None:
    """Each verb that can be proven has a case, which says of what was there before what the rule says."""
    assert set(CASES) | set(ELSEWHERE) == set(PROOFS)
    assert {verb for verb, case in CASES.items() if not case.counts_what_was_there} == MADE


def has(bed: Bed, verb: str) -> bool:
    """Whether this hypervisor has the verb."""
    row = bed.info.support(verb)
    return row is not None and row.supported


async def die(bed: Bed) -> None:
    """Kill the driver process, and wait for the next one."""
    assert isinstance(bed.driver, ProcessDriver | SimDriver)
    mark = len(bed.notices.seen)
    bed.driver.kill()
    down = await bed.notices.until(HostDown, since=mark)
    await bed.notices.until(HostUp, since=bed.notices.seen.index(down))
