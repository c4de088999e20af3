"""Whether a migration gets on, and which step of its schedule is due: a value that each reading replaces. What it means stands at MigrationStep.

The server runs the schedule and not the driver process: it outlives that process, knows what the job was asked for, and stops it as any cancel does.
"""

from __future__ import annotations

import sys

import msgspec

from virtrpc_drivers.migration import Step

LONGEST_GAP = 2.0
"""Of longer times without a reading no more than this counts: nobody knows whether the move got on."""
UNBOUNDED = sys.float_info.max
"""Not infinity, which JSON lacks."""
LESS = 0.9
"""A pass counts that begins with no more than this part of what each one before it began with."""


class Convergence(msgspec.Struct, frozen=True):
    """How a move gets on, up to the last reading. Seconds of the loop's clock, bytes."""

    stalled: float = 0.0
    """How long it has not got on."""
    waited: float = 0.0
    """The part of it since the last step: a step has its time to work."""
    read: float | None = None
    iteration: int = 0
    counts: bool = True
    """Whether the present pass counts."""
    least_begun: float = UNBOUNDED
    """What the smallest pass that counts began with."""
    least_left: float = UNBOUNDED
    """The least that was left in the present pass."""
    taken: int = 0
    last_step_time: float | None = None
    """Wall time in seconds."""
    last_step_error: str = ""

    def after(self, now: float, remaining: int, iteration: int) -> Convergence:
        """After a reading of what is left, in which pass."""
        passed = 0.0 if self.read is None else min(LONGEST_GAP, now - self.read)
        state = self._entered(remaining, iteration) if iteration > self.iteration else self
        got_on = state.counts and remaining < state.least_left
        return msgspec.structs.replace(
            state,
            stalled=0.0 if got_on else self.stalled + passed,
            waited=0.0 if got_on else self.waited + passed,
            read=now,
            least_left=min(state.least_left, remaining),
        )

    def _entered(self, remaining: int, iteration: int) -> Convergence:
        counts = iteration <= 1 or remaining <= LESS * self.least_begun
        begun = min(self.least_begun, remaining) if counts else self.least_begun
        return msgspec.structs.replace(self, iteration=iteration, counts=counts, least_begun=begun, least_left=UNBOUNDED)

    def due(self, schedule: tuple[Step, ...]) -> Step | None:
        """The step that is to be taken now."""
        if self.taken < len(schedule) and self.waited >= schedule[self.taken].after:
            return schedule[self.taken]
        return None

    def took(self, wall: float) -> Convergence:
        """The next step was taken."""
        return msgspec.structs.replace(self, taken=self.taken + 1, waited=0.0, last_step_time=wall, last_step_error="")

    def in_vain(self, why: str) -> Convergence:
        """The last step had no effect."""
        return msgspec.structs.replace(self, last_step_error=why)
