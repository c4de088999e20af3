"""The cases, one file a subject; importing the package registers them all."""

from tests.hypervisors.cases import (
    agent,
    blocks,
    checkpoints,
    definition,
    files,
    images,
    jobs,
    lifecycle,
    migration,
    queries,
    resources,
    settings,
    snapshots,
    tuning,
)

__all__ = [
    "agent",
    "blocks",
    "checkpoints",
    "definition",
    "files",
    "images",
    "jobs",
    "lifecycle",
    "migration",
    "queries",
    "resources",
    "settings",
    "snapshots",
    "tuning",
]
