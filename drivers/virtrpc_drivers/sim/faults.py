"""What goes wrong, and where: rules that a test or a control command switches on.

A rule matches calls by verb and domain and acts at one step of them. Operations count their steps: 0 before the hypervisor
has seen the call, 1 and more inside it, -1 once it is applied and only the answer is missing. Reads have 0 and -1.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import msgspec

from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.values import Value

ANY = "*"


class Rule(Value, frozen=True):
    """One thing that goes wrong. It takes time first, then wedges, then dies or fails; without any of these it does nothing."""

    verb: str = ANY
    """An operation's tag, or connect, list, read, sample, pulses, snapshots, snapshot_xml, current_snapshot,
    checkpoints, checkpoint_xml, cancel, steer, probe."""
    uuid: str = ANY
    step: int = 0
    seconds: float = 0.0
    wedge: bool = False
    """It does not come back until it is released, or its guest destroyed (unless `stubborn`)."""
    stubborn: bool = False
    reason: Reason | None = None
    message: str = "injected fault"
    dies: bool = False
    """The driver process ends."""
    times: int | None = None
    """How often it strikes; None: always."""
    chance: float = 1.0


class Wedged:
    """A call that a rule holds."""

    def __init__(self, rule: int, verb: str, uuid: str, step: int, stubborn: bool) -> None:
        self.rule, self.verb, self.uuid, self.step, self.stubborn = rule, verb, uuid, step, stubborn
        self.gate = asyncio.Event()


class Faults:
    """The rules of one simulated host."""

    def __init__(self, seed: int, die: Callable[[], None]) -> None:
        self._random, self._die = random.Random(seed), die
        self._rules: dict[int, Rule] = {}
        self._ids = itertools.count(1)
        self.wedged: list[Wedged] = []
        """The calls that hang at present."""

    def add(self, rule: Rule) -> int:
        """Switch a rule on; returns the number by which to remove it."""
        number = next(self._ids)
        self._rules[number] = rule
        return number

    def remove(self, number: int) -> None:
        """Switch a rule off and let go what it holds."""
        self._rules.pop(number, None)
        for held in [held for held in self.wedged if held.rule == number]:
            held.gate.set()

    def clear(self) -> None:
        """Switch all rules off and let everything go."""
        self._rules.clear()
        self.release()

    def release(self, uuid: str = ANY, verb: str = ANY, *, killed: bool = False) -> int:
        """Let go the wedged calls that match; says how many. `killed`: only those that the guest's end frees."""
        free = [held for held in self.wedged if uuid in (ANY, held.uuid) and verb in (ANY, held.verb) and not (killed and held.stubborn)]
        for held in free:
            held.gate.set()
        return len(free)

    async def strike(self, verb: str, uuid: str = ANY, step: int = 0) -> None:
        """Suffer what the rules have for this step of this call. Raises DriverError where one says so."""
        if not self._rules:
            return
        for number, rule in list(self._rules.items()):
            if number not in self._rules:
                continue  # switched off while another struck
            if rule.step == step and rule.verb in (ANY, verb) and rule.uuid in (ANY, uuid) and self._random.random() < rule.chance:
                self._count(number, rule)
                await self._suffer(number, rule, verb, uuid)

    def _count(self, number: int, rule: Rule) -> None:
        if rule.times is None or number not in self._rules:
            return
        if rule.times <= 1:
            del self._rules[number]
        else:
            self._rules[number] = msgspec.structs.replace(rule, times=rule.times - 1)

    async def _suffer(self, number: int, rule: Rule, verb: str, uuid: str) -> None:
        if rule.seconds:
            await asyncio.sleep(rule.seconds)
        if rule.wedge:
            held = Wedged(number, verb, uuid, rule.step, rule.stubborn)
            self.wedged.append(held)
            try:
                await held.gate.wait()
            finally:
                self.wedged.remove(held)
        if rule.dies:
            self._die()
        if rule.reason is not None:
            raise DriverError(Fault(reason=rule.reason, message=rule.message))
