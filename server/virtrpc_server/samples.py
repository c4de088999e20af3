"""How a long job went: some of its readings, evenly over its whole life however long that is. A value that each reading replaces."""

from __future__ import annotations

import zlib

import msgspec

from virtrpc_drivers.migration import Reading
from virtrpc_drivers.values import Phase
from virtrpc_server.progress import Progress

MOST = 64
FIRST_PACE = 1.0


class Sample(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A reading that is kept: `progress.observed` says when it was made."""

    phase: Phase
    progress: Progress
    migration: Reading | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[Sample, ...])


class Samples(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most MOST samples: the first reading and the last, and between them some that are `pace` seconds apart at least.

    Whenever there would be more, every second one goes and the pace doubles. So a job that was read often enough has half as many at least.
    """

    kept: tuple[Sample, ...] = ()
    pace: float = FIRST_PACE
    packed: bytes = b""
    """All of them, once there will be no more: a sixteenth of the memory."""

    def after(self, sample: Sample) -> Samples:
        """With a new reading. The last one stays only where it is `pace` after the one before: till then it is replaced."""
        kept, pace = self.kept, self.pace
        if len(kept) > 1 and abs(_when(kept[-1]) - _when(kept[-2])) < pace:
            kept = kept[:-1]
        elif len(kept) == MOST:
            kept, pace = kept[::2], pace * 2
        return Samples((*kept, sample), pace)

    def at_rest(self) -> Samples:
        """As a finished job keeps them, since thousands of finished jobs are kept."""
        return Samples(packed=zlib.compress(_ENCODER.encode(self.kept))) if self.kept else self

    def all(self) -> tuple[Sample, ...]:
        """The samples, oldest first."""
        return _DECODER.decode(zlib.decompress(self.packed)) if self.packed else self.kept


NO_SAMPLES = Samples()


def _when(sample: Sample) -> float:
    return sample.progress.observed or 0.0
