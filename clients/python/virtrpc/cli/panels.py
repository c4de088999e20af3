"""The headings that commands stand under in `virtrpc --help`."""

from __future__ import annotations

QUERIES = "Queries: answered at once"
STATISTICS = "Statistics: answered at once"
LIFECYCLE = "Start and stop"
CHANGES = "Definitions, devices and memory"
AGENT = "The guest's agent"
TUNING = "Tuning: threads, limits, what becomes of a domain"
SNAPSHOTS = "Snapshots"
MIGRATION = "Migration"
JOBS = "Jobs"
WATCHES = "Watches"
