"""PlanMigration: what would stand in the way, asked at both ends and of this server; nothing is changed, and no domain is held."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from virtrpc.v1 import snapshot_pb2, types_pb2
from virtrpc_drivers.migration import Facts, Obstacle
from virtrpc_drivers.operations import Migrate
from virtrpc_drivers.values import Slot
from virtrpc_server import verbs
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.jobs import Jobs
from virtrpc_server.messages.common import identity_message
from virtrpc_server.migration import Migrations
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.slow import SlowReads

Found = tuple[str, Obstacle]
"""The host, and what was found there."""
TARGET = frozenset({"MIGRATION_TARGET_NOT_ALLOWED", "HOST_NOT_CONFIGURED", "HOST_READ_ONLY", "UNSUPPORTED_BY_HYPERVISOR"})
"""What is wrong with a destination is an answer; what is wrong with the settings is an error."""


class Plans:
    """Looks at both ends of a migration."""

    def __init__(self, jobs: Jobs, seen: JobSight, migrations: Migrations, slow: SlowReads) -> None:
        self._hosts = jobs.hosts
        self._jobs = jobs
        self._seen = seen
        self._migrations = migrations
        self._slow = slow

    async def plan(self, entry: Entry, settings: types_pb2.MigrationSettings) -> snapshot_pb2.PlanMigrationResponse:
        """What stands in the way. Raises Refusal where the settings are wrong, or the source does not answer."""
        try:
            operation, to = self._migrations.of(settings, entry)
        except Refusal as refusal:
            if refusal.problem.reason not in TARGET:
                raise
            return _answer(entry, [(settings.host, _obstacle(refusal))])
        self._seen.sight.check_at(entry, to, operation.new_name)
        found = list(self._here(entry, operation, to))
        departure = await self._slow.ask(entry, lambda: self._hosts[entry.host].driver.departure(operation))
        found += ((entry.host, obstacle) for obstacle in departure.obstacles)
        if departure.facts is not None:
            found += await self._there(entry, operation, to, departure.facts)
        return _answer(entry, found)

    def _here(self, entry: Entry, operation: Migrate, to: str) -> Iterator[Found]:
        """What this server knows by itself."""
        if self._hosts[entry.host].config.read_only:
            yield entry.host, Obstacle(reason="HOST_READ_ONLY", message=f"host {entry.host} is configured read-only")
        for limit in self._hosts.limits(operation.verb, Slot.CONDITION, entry.host, to):
            if limit.busy_with is not None:
                yield entry.host, Obstacle(reason="BUSY", message="as many migrations run as may: this one would queue (HOST_LIMIT)", fatal=False)
        for key in verbs.conditions(operation, Slot.CONDITION, entry.host, to, entry.name):
            held = self._jobs.conditions.peek(key)
            if held is not None:
                holder = f"job {held.busy_with}" if self._seen.knows_of(held.busy_with or "") else "another job"
                message = f"{holder} holds the domain, or its name, on host {key[0]}: this one would queue"
                yield key[0], Obstacle(reason="BUSY", message=message, fatal=False)

    async def _there(self, entry: Entry, operation: Migrate, to: str, facts: Facts) -> list[Found]:
        if not to:
            return await self._arrival("", entry, self._hosts[entry.host], operation, facts, operation.destination_uri)
        host = self._hosts[to]
        found = await self._arrival(to, entry, host, operation, facts)
        if host.connected and host.freshness is not Freshness.LIVE:
            found.append((to, Obstacle(reason="HOST_UNREACHABLE", message=f"what is known of host {to} may be out of date", fatal=False)))
        return found

    async def _arrival(self, named: str, entry: Entry, asked: Host, operation: Migrate, facts: Facts, uri: str = "") -> list[Found]:
        # On a place of the budget of the host that is asked.
        about = msgspec.structs.replace(entry, host=asked.name)
        try:
            arrival = await self._slow.ask(about, lambda: asked.driver.arrival(operation, facts, uri))
        except Refusal as refusal:
            return [(named, _obstacle(refusal))]
        return [(named, obstacle) for obstacle in arrival.obstacles]


def _obstacle(refusal: Refusal) -> Obstacle:
    return Obstacle(reason=refusal.problem.reason, message=refusal.problem.message)


def _answer(entry: Entry, found: list[Found]) -> snapshot_pb2.PlanMigrationResponse:
    return snapshot_pb2.PlanMigrationResponse(
        domain=identity_message(entry),
        feasible=not any(obstacle.fatal for _, obstacle in found),
        obstacles=[
            snapshot_pb2.MigrationObstacle(host=host, reason=obstacle.reason, message=obstacle.message, fatal=obstacle.fatal)
            for host, obstacle in found
        ],
    )
