"""What is told of a migration beyond its bytes, what can be changed while it runs, and what stands in the way of one: values of the protocol."""

from __future__ import annotations

from virtrpc_drivers.values import Value

MIB = 1 << 20


class Reading(Value, frozen=True):
    """A migration's own statistics, as one look saw them: bytes, seconds. None: this look does not say."""

    memory_iteration: int | None = None
    dirty_rate_bytes_per_second: int | None = None
    memory_page_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_processed_bytes: int | None = None
    memory_remaining_bytes: int | None = None
    memory_rate_bytes_per_second: int | None = None
    memory_constant_bytes: int | None = None
    memory_normal_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_processed_bytes: int | None = None
    disk_remaining_bytes: int | None = None
    disk_rate_bytes_per_second: int | None = None
    expected_downtime_seconds: float | None = None
    downtime_seconds: float | None = None
    """How long the guest stood still: known at the end only."""
    setup_seconds: float | None = None
    auto_converge_percent: int | None = None
    compression_cache_bytes: int | None = None
    compression_bytes: int | None = None
    compression_pages: int | None = None
    compression_cache_misses: int | None = None
    compression_overflows: int | None = None
    post_copy_requests: int | None = None
    max_downtime_seconds: float | None = None
    """What is set now; looked at less often than the rest, as the next one is."""
    bandwidth_bytes_per_second: int | None = None
    """What is set now; None also where there is no limit."""


class Tuning(Value, frozen=True):
    """What is to change in a migration that runs; None: it stays. Made in this order, post-copy last."""

    max_downtime_seconds: float | None = None
    bandwidth_bytes_per_second: int | None = None
    compression_cache_bytes: int | None = None
    post_copy_bandwidth_bytes_per_second: int | None = None
    start_post_copy: bool = False
    pause: bool = False
    """Hold the guest still until it is at the destination (virDomainSuspend)."""


class TuneAnswer(Value, frozen=True):
    """What became of one attempt to tune."""

    sent: bool
    """Whether the hypervisor made the changes to this very migration. What it refused is raised, not told here."""
    message: str = ""
    """Why not: it is not at a point where it can be tuned."""


class Step(Value, frozen=True):
    """One step of a convergence schedule: `after` so many seconds in which the move does not get on, this is done."""

    after: float
    tuning: Tuning = Tuning()
    abort: bool = False


class Facts(Value, frozen=True):
    """What a destination must know of a guest, to say whether it could take it."""

    uuid: str
    name: str
    """At the destination."""
    hypervisor: str
    """As virConnectGetType names it, in lower case."""
    running: bool = True
    """Off, only its definition moves."""
    memory_bytes: int | None = None
    arch: str = ""
    machine: str = ""
    virt_type: str = ""
    """"kvm", "qemu" …: the domain's type."""
    emulator: str = ""
    """The program's path at the source; empty: whichever is the destination's own."""
    cpu_xml: str = ""
    """Its processor as the guest sees it, where it is described."""


class Obstacle(Value, frozen=True):
    """Something in the way of a migration; `reason` is a word of the contract's ErrorReason."""

    reason: str
    message: str
    fatal: bool = True


class Departure(Value, frozen=True):
    """What the source says: facts for the destination (None where the guest cannot be described), and what stands in the way here."""

    facts: Facts | None = None
    obstacles: tuple[Obstacle, ...] = ()


class Arrival(Value, frozen=True):
    """What the destination says."""

    obstacles: tuple[Obstacle, ...] = ()
