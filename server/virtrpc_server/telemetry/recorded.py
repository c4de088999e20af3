"""What is counted while it happens, since nothing shows it afterwards: how long RPCs, waits and jobs took."""

from __future__ import annotations

from virtrpc_server.telemetry.points import Family, Histogram, Kind, Metric

SYSTEM = "grpc"

RPC_DURATION = Metric(
    "rpc.server.call.duration",
    Kind.HISTOGRAM,
    "s",
    "How long RPCs took, a stream to its end.",
    ("rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"),
)
JOB_DURATION = Metric(
    "virtrpc.job.duration", Kind.HISTOGRAM, "s", "How long jobs took from their acceptance to their end, their waits included.", ("kind", "outcome")
)
JOB_WAIT = Metric(
    "virtrpc.job.wait.duration",
    Kind.HISTOGRAM,
    "s",
    "How long jobs waited for each thing that they need, 0 where they had it at once.",
    ("waiting_for", "granted"),
)

RPC_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 60, 600, 3600)
"""The conventions' own, and some for what is quicker or is a stream."""
JOB_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
WAIT_BOUNDS = (0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Recorded:
    """The histograms of one server."""

    def __init__(self) -> None:
        self.rpcs = Histogram(RPC_DURATION, RPC_BOUNDS)
        self.jobs = Histogram(JOB_DURATION, JOB_BOUNDS)
        self.waits = Histogram(JOB_WAIT, WAIT_BOUNDS)

    def rpc(self, method: str, status: str, seconds: float) -> None:
        """An RPC ended with this status ("OK", "NOT_FOUND"); `method` is its whole name."""
        self.rpcs.record((SYSTEM, method, status, "" if status == "OK" else status), seconds)

    def job(self, verb: str, state: str, seconds: float) -> None:
        """A job ended."""
        self.jobs.record((verb, state), seconds)

    def wait(self, waiting_for: str, seconds: float, *, granted: bool) -> None:
        """A job has what it waited for, or waits no more."""
        self.waits.record((waiting_for, "yes" if granted else "no"), seconds)

    def families(self) -> list[Family]:
        """All of them."""
        return [histogram.family() for histogram in (self.rpcs, self.jobs, self.waits)]
