"""What one job takes so that others wait, in the one order in which everybody takes it: slot, condition, host limit, budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.values import Slot
from virtrpc_server import verbs
from virtrpc_server.hosts import Host
from virtrpc_server.records import Job, WaitingFor
from virtrpc_server.slots import Conditions, Slots, Ticket

Key = tuple[str, ...]


class Places:
    """The places of one job. It keeps what it has while it waits for the next."""

    def __init__(self, job: Job, operation: AnyOperation, slot: Slot, host: Host, limits: list[Slots], conditions: Conditions[Key]) -> None:
        self._owner = job.id
        self._slot = slot
        self._host = host
        self._limits = limits
        self._conditions = conditions
        self._domain = (job.host, job.uuid)
        self._keys = verbs.conditions(operation, slot, job.host, job.destination_host, job.name)
        self._tickets: dict[Key | WaitingFor, Ticket] = {}
        self._held_off: list[Slots] = []

    def arrive(self) -> None:
        """Take the place in a queue now, and in the next where the one before is had at once: later ones are behind.

        A destroy takes none, and nothing begins on its domain from now on.
        """
        for key in self._keys:
            if not self._take(key, self._conditions.of(key)).granted.is_set():
                break
        self._hold_off()

    def hold(self) -> None:
        """Take all of them, whoever waits: the job had them when an earlier life of the server ended."""
        for key in self._keys:
            self._tickets[key] = self._conditions.of(key).hold(self._owner)
        for number, limit in enumerate(self._limits):
            self._tickets[_limit_key(number)] = limit.hold(self._owner)
        if self._slot is not Slot.DESTROY:
            self._tickets[WaitingFor.DAEMON_BUDGET] = self._host.budget.hold(self._owner)
        self._hold_off()

    def _hold_off(self) -> None:
        if self._slot is Slot.DESTROY:
            self._held_off = [self._conditions.of(self._domain), self._conditions.of((*self._domain, "agent"))]
            for slots in self._held_off:
                slots.hold_off(self._owner)

    def in_turn(self) -> Iterator[tuple[Ticket, WaitingFor]]:
        """Each place that must be waited for before the first call; the next is taken when the one before is granted."""
        for key in self._keys:
            yield self._take(key, self._conditions.of(key)), WaitingFor.CONDITION
        for number, limit in enumerate(self._limits):
            yield self._take(_limit_key(number), limit), WaitingFor.HOST_LIMIT

    def take_budget(self) -> Ticket | None:
        """A place at the daemon for one call; None for a destroy, which needs none."""
        return None if self._slot is Slot.DESTROY else self._take(WaitingFor.DAEMON_BUDGET, self._host.budget)

    def release_budget(self) -> None:
        """The call is over, and another may follow."""
        self._give_back(lambda key: key is WaitingFor.DAEMON_BUDGET)

    def release_call(self) -> None:
        """The call has returned, and what it began goes on without it: that needs neither the condition nor a worker of the daemon, only its slot."""
        self._give_back(lambda key: not verbs.outlasts_call(key))

    def release(self) -> None:
        """Give everything back."""
        self._give_back(lambda _key: True)
        for slots in self._held_off:
            slots.let_go(self._owner)

    def give_up(self) -> None:
        """Wait for nothing any more: no place goes to a job that will not use it."""
        for ticket in self._tickets.values():
            if not ticket.granted.is_set():
                ticket.release()

    @property
    def queues(self) -> list[Slots]:
        """The queues in which others wait for this job."""
        return [*(ticket.slots for ticket in self._tickets.values() if ticket.granted.is_set()), *self._held_off]

    def _take(self, key: Key | WaitingFor, slots: Slots) -> Ticket:
        ticket = self._tickets.get(key)
        if ticket is None:
            ticket = self._tickets[key] = slots.take(self._owner)
        return ticket

    def _give_back(self, chosen: Callable[[Key | WaitingFor], bool]) -> None:
        for key in [key for key in self._tickets if chosen(key)]:
            self._tickets.pop(key).release()


def _limit_key(number: int) -> Key:
    return (WaitingFor.HOST_LIMIT.value, str(number))
