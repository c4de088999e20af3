"""Leave to use files: the rules are asked about each that a request names, and about what it leads to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from virtrpc_drivers import operations as op
from virtrpc_drivers.values import FoundFile, NamedFile, SaveImage, Trail
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.policy.actions import REACH_OUTSIDE, READ_FILE, WRITE_FILE
from virtrpc_server.policy.decisions import BATCH, denied
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.sight import Sight
from virtrpc_server.policy.uses import Use
from virtrpc_server.slices import breathe


class Looking(Protocol):
    """Who looks at the files of hosts. Raises Refusal."""

    async def follow(self, host: str, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """Where they lead."""

    async def image(self, host: str, path: str) -> SaveImage:
        """Whose memory a file holds."""

    async def managed(self, host: str, uuid: str) -> str:
        """The definition in a managed-save image."""

    async def snapshot(self, host: str, uuid: str, name: str) -> str:
        """A snapshot with its definitions; empty where there is none yet."""


@dataclass(frozen=True, slots=True)
class Leads:
    """Where files lead that a caller may use."""

    outside: tuple[str, ...] = ()
    """What lies outside the roots, in words."""
    trail: Trail | None = None
    """What the driver holds the files to when the job runs; None: nobody has looked."""

    def __add__(self, other: Leads) -> Leads:
        trails = [trail for trail in (self.trail, other.trail) if trail is not None]
        files = tuple(file for trail in trails for file in trail.files)
        granted = tuple(path for trail in trails for path in trail.granted)
        held = Trail(files=files, granted=granted, holds="".join(trail.holds for trail in trails))
        return Leads(self.outside + other.outside, held if trails else None)


NOWHERE = Leads()


class Files:
    """Asks the rules on behalf of whoever the present task serves."""

    def __init__(self, sight: Sight, looking: Looking) -> None:
        self._sight = sight
        self._looking = looking

    @property
    def free(self) -> bool:
        """Whether the caller may use all files below the roots."""
        return not self._sight.policed or self._sight.all_seen(READ_FILE, WRITE_FILE)

    @property
    def unasked(self) -> bool:
        """Whether the caller may use whatever there is."""
        return self.free and (not self._sight.policed or self._sight.all_seen(REACH_OUTSIDE))

    async def judge(self, host: str, uses: Sequence[Use], declared: frozenset[str] = frozenset()) -> Leads:
        """To use these files of a host, and what they lead to but for what is `declared` already.

        Raises Refusal: PERMISSION_DENIED, and as Follow where they cannot be looked at.
        """
        if self.free:
            # Where a verb's own files lead its driver looks itself: it refuses what is outside the roots.
            uses = [use for use in uses if use.described or use.format != "raw"]
        if self.unasked or not uses:
            return NOWHERE
        # Before anybody looks at the files: of those that are not the caller's nothing is told, not even whether they are there.
        await self._demand(host, {(use.path, use.writes): (use.path, "") for use in uses if use.asked})
        files = tuple(dict.fromkeys(self._named(use) for use in uses))
        found = await self._looking.follow(host, files)
        writes = {use.path for use in uses if use.writes}
        further = [each for each in found if each.path != each.named or each.by]
        new = [each for each in further if each.path not in declared]
        await self._demand(host, {(each.path, not each.by and each.named in writes): (each.told, _leading(each)) for each in new if each.inside})
        own = {use.path for use in uses if not use.described}
        if fault := next((each.fault for each in found if each.fault is not None), None):
            raise Refusal(problem_of(fault, host=host))
        outside = tuple(f"{each.told!r}: {_leading(each)}" for each in new if not each.inside and (each.by or each.named not in own))
        return Leads(outside, Trail(files=files, granted=tuple(dict.fromkeys(each.path for each in found))))

    def _named(self, use: Use) -> NamedFile:
        # Who may use all files starts what others have described also where this server cannot look into it.
        opened = use.opened and (use.asked or not self.free)
        return NamedFile(path=use.path, format=use.format, backing=use.backing, opened=opened)

    async def check_read(self, host: str, path: str) -> None:
        """Raises PERMISSION_DENIED where the caller may not read a file, and as Looking."""
        await self.judge(host, [Use(path, writes=False, described=False)])

    async def image(self, host: str, operation: op.Restore) -> SaveImage:
        """The image of this domain that the caller may read. Raises INVALID_ARGUMENT where it is another's, and as Looking."""
        image = await self._looking.image(host, operation.path)
        if image.uuid != operation.uuid:
            # Whose it is may not be the caller's business.
            words = f"the image {operation.path!r} does not hold {operation.name} ({operation.uuid}): GetSaveImage tells whose it is"
            raise refuse("INVALID_ARGUMENT", words, field="uuid")
        return image

    async def kept(self, host: str, operation: op.AnyOperation, *, saved: bool) -> str:
        """What this operation brings back that was kept beside the definition; empty where it is the definition. Raises as Looking."""
        if isinstance(operation, op.Start) and saved and not operation.force_boot:
            return await self._looking.managed(host, operation.uuid)
        if isinstance(operation, op.RevertToSnapshot):
            return await self._looking.snapshot(host, operation.uuid, operation.name)
        return ""

    async def _demand(self, host: str, asked: dict[tuple[str, bool], tuple[str, str]]) -> None:
        """Asks for each path and whether it is written; with what is told of it, and why it is asked about where the request does not name it."""
        waiting = iter(() if self.free else asked.items())
        while batch := list(islice(waiting, BATCH)):
            self._ask(host, batch)
            await breathe()

    def _ask(self, host: str, batch: Iterable[tuple[tuple[str, bool], tuple[str, str]]]) -> None:
        wanted = [(WRITE_FILE if writes else READ_FILE, path, words) for (path, writes), words in batch]
        caller = self._sight.caller
        verdicts = self._sight.decisions.decided(caller, [(action, Resource(host, path=path)) for action, path, _ in wanted])
        for (action, _, (told, why)), verdict in zip(wanted, verdicts, strict=True):
            if not verdict.allowed:
                raise denied(caller, action, verdict, f"{told!r} of host {host}", why)


def _leading(found: FoundFile) -> str:
    return f"{found.by or found.named!r} leads there"
