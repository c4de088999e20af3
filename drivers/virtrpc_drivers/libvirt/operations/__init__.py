"""Every operation's blocking libvirt call, by its tag; one file a subject, each with its own table."""

from __future__ import annotations

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import migration
from virtrpc_drivers.libvirt.operations import (
    agent,
    backup,
    blocks,
    checkpoints,
    definition,
    devices,
    dirty_rate,
    files,
    images,
    keys,
    lifecycle,
    resize,
    resources,
    settings,
    snapshots,
    tuning,
)
from virtrpc_drivers.libvirt.operations.common import DONE, Verb

VERBS: dict[str, Verb] = {
    **lifecycle.VERBS,
    **definition.VERBS,
    **devices.VERBS,
    **settings.VERBS,
    **agent.VERBS,
    **snapshots.VERBS,
    **keys.VERBS,
    **resize.VERBS,
    **resources.VERBS,
    **dirty_rate.VERBS,
    **blocks.VERBS,
    **backup.VERBS,
    **checkpoints.VERBS,
    **files.VERBS,
    **images.VERBS,
    **tuning.VERBS,
    "Migrate": migration.migrate,
}
"""Every operation's call."""

_FUNCTIONS: dict[str, str] = {
    **lifecycle.FUNCTIONS,
    **definition.FUNCTIONS,
    **devices.FUNCTIONS,
    **settings.FUNCTIONS,
    **snapshots.FUNCTIONS,
    **keys.FUNCTIONS,
    **resize.FUNCTIONS,
    **resources.FUNCTIONS,
    **dirty_rate.FUNCTIONS,
    **blocks.FUNCTIONS,
    **backup.FUNCTIONS,
    **checkpoints.FUNCTIONS,
    **files.FUNCTIONS,
    **images.FUNCTIONS,
    **agent.FUNCTIONS,
    **tuning.FUNCTIONS,
    "Migrate": "virDomainMigrateToURI3",
}


def function(operation: ops.Operation) -> str:
    """The libvirt function behind an operation, for traces."""
    return _FUNCTIONS.get(operation.verb, f"virDomain{operation.verb}")


__all__ = ["DONE", "VERBS", "Verb", "function"]
