"""What the server's own process uses, under the names that Prometheus' clients use."""

from __future__ import annotations

import os
import resource
import time

from virtrpc_server.telemetry.points import NO_LABELS, Family, Kind, Metric, Point

CPU = Metric("process_cpu_seconds_total", Kind.COUNTER, "s", "Processor time that the server has used; driver processes have their own.")
MEMORY = Metric("process_resident_memory_bytes", Kind.GAUGE, "By", "Memory that the server holds.")
FILES = Metric("process_open_fds", Kind.GAUGE, "{file}", "Open file descriptors of the server.")
STARTED = Metric("process_start_time_seconds", Kind.GAUGE, "s", "When the server was started, in seconds since the epoch.")
PROCESS = (CPU, MEMORY, FILES, STARTED)

_BEGAN = time.time()
_PAGE = os.sysconf("SC_PAGE_SIZE")


def families() -> list[Family]:
    """As it is now. Asks the kernel alone, which does not wait."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:  # noqa: PTH123 # as quick as it gets: the loop waits for it
        pages = int(statm.read().split()[1])
    values = ((CPU, usage.ru_utime + usage.ru_stime), (MEMORY, pages * _PAGE), (FILES, len(os.listdir("/proc/self/fd"))), (STARTED, _BEGAN))  # noqa: PTH208
    return [Family(metric, [Point(NO_LABELS, value)]) for metric, value in values]
