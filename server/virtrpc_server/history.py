"""Which finished jobs are remembered, and for how long."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from virtrpc_server.records import Job

MAX_JOBS = 10_000
MAX_AGE_SECONDS = 7 * 86_400.0
REQUEST_ID_SECONDS = 3600.0
"""How long a request_id is remembered at least, and so its job, however many there are."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many finished jobs are remembered, and for how many seconds."""

    jobs: int = MAX_JOBS
    seconds: float = MAX_AGE_SECONDS


DEFAULT_RETENTION = Retention()


class History:
    """The finished jobs that are remembered, in the order in which they ended."""

    def __init__(self, retention: Retention, clock: Callable[[], float]) -> None:
        self._retention = retention
        self._clock = clock
        self._ended: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    def add(self, job: Job) -> None:
        """A job has ended, and nothing of it is out any more."""
        self._ended[job.id] = (job.ended or self._clock(), bool(job.request_id))

    def expired(self) -> Iterator[str]:
        """Take out, one after another, the jobs that are to be forgotten now, oldest first."""
        now = self._clock()
        while self._ended:
            ended, may_be_repeated = next(iter(self._ended.values()))
            age = now - ended
            beyond = len(self._ended) > self._retention.jobs or age > self._retention.seconds
            # One that ended in what is now the future, for the clock was set back, must not keep all that ended after it.
            if not beyond or (may_be_repeated and -REQUEST_ID_SECONDS < age < REQUEST_ID_SECONDS):
                return
            yield self._ended.popitem(last=False)[0]
