"""The cases, one file a subject; importing the package registers them all."""

from tests.hypervisors.cases import agent, definition, files, jobs, lifecycle, migration, queries, settings, snapshots, tuning

__all__ = ["agent", "definition", "files", "jobs", "lifecycle", "migration", "queries", "settings", "snapshots", "tuning"]
from tests.hypervisors.cases import blocks

__all__ = ["agent", "blocks", "definition", "files", "jobs", "lifecycle", "queries", "settings", "snapshots"]
