"""From our values to the contract's messages: pure functions, a file for each noun."""

from __future__ import annotations

from virtrpc_server.messages.common import identity_message
from virtrpc_server.messages.domains import domain_message
from virtrpc_server.messages.hosts import host_message, unreachable_message
from virtrpc_server.messages.jobs import job_message
from virtrpc_server.messages.snapshots import snapshot_message

__all__ = ["domain_message", "host_message", "identity_message", "job_message", "snapshot_message", "unreachable_message"]
