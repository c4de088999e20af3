"""The cases, one file a subject; importing the package registers them all."""

from tests.hypervisors.cases import (
    agent,
    backup,
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
    "backup",
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
