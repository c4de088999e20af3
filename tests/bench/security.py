"""What it costs to know who calls, to ask what that caller may do, and to write it down: servers with and without, called in turn."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.beds import certificates
from tests.beds.collector import collector
from tests.bench import forged
from tests.bench.child import Child
from tests.bench.figures import Figure
from tests.bench.processors import left_to_the_server
from tests.bench.stage import live_uuids

HOST = "bench"
DOMAINS = 1000
AT_ONCE = 20
"""Calls that are out at any moment."""
CALLS = 4000
"""Calls of one block."""
CONFIG = """
socket = "{directory}/s"
listen = "127.0.0.1:0"
state_dir = "{directory}/state"
drain_timeout = 1
{security}
[[hosts]]
name = "{host}"
uri = "sim://{host}/?domains={domains}&running={domains}"
sample_seconds = 60
[limits]
calls_per_second = {rate}
{tls}
"""
POLICY = f"""
@id("whoever holds a certificate operates the bench's domains")
permit (principal, action in Action::"operator", resource in Host::"{HOST}") when {{ principal.way == "tls" }};
@id("the bench itself looks")
permit (principal == Caller::"unix", action in Action::"viewer", resource);
"""
ENOUGH = 1_000_000
"""Calls a second: counted, and never reached."""

Say = Callable[[str], None]


@dataclass
class Costs:
    """Microseconds of processor time that a call took the server, in each round."""

    plain: list[float] = field(default_factory=list)
    secured: list[float] = field(default_factory=list)
    traced: list[float] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        """The ratios."""
        return [
            self._figure("with mTLS, policy and audit", self.secured, 1.5),
            self._figure("with those and 1 % of the traces", self.traced, 1.6),
        ]

    def _figure(self, what: str, cost: list[float], target: float) -> Figure:
        ratio = statistics.median(with_it / without for with_it, without in zip(cost, self.plain, strict=True))
        note = f"{statistics.median(cost):.0f} and {statistics.median(self.plain):.0f} µs"
        return Figure(f"server processor time for a GetDomain {what} / without", ratio, "ratio", target, note=note)


async def measure(rounds: int, say: Say) -> Costs:
    """The three servers in turn."""
    costs = Costs()
    with left_to_the_server() as processor, collector() as spans, TemporaryDirectory(prefix="virtrpc-bench-") as name:
        async with AsyncExitStack() as stack:
            servers = [
                (await stack.enter_async_context(_server(processor, Path(name, "plain"))), costs.plain),
                (await stack.enter_async_context(_server(processor, Path(name, "secured"), secured=True)), costs.secured),
                (await stack.enter_async_context(_server(processor, Path(name, "traced"), secured=True, traces=spans.address)), costs.traced),
            ]
            for number in range(1, rounds + 1):
                say(f"round {number} of {rounds}: security")
                for (server, callers), cost in servers:
                    cost.append(await _block(server, callers))
    return costs


async def _block(server: Child, callers: Child) -> float:
    before = await server.ask("processor_seconds")
    await callers.ask("rush", host=HOST, uuids=forged.uuids(HOST, DOMAINS), at_once=AT_ONCE, count=CALLS)
    return float(await server.ask("processor_seconds") - before) / CALLS * 1e6


@asynccontextmanager
async def _server(processor: int, directory: Path, *, secured: bool = False, traces: str = "") -> AsyncIterator[tuple[Child, Child]]:
    certificates.make(directory)
    config = directory / "virtrpcd.toml"
    words = _secured(directory, traces) if secured else {"security": "insecure = true", "rate": 0, "tls": ""}
    config.write_text(CONFIG.format(directory=directory, host=HOST, domains=DOMAINS, **words))
    async with Child("tests.bench.server", str(config)) as server:
        address = (await server.ask("addresses"))[0]
        async with Child("tests.bench.callers", address, *([str(directory)] if secured else [])) as callers:
            await live_uuids(f"unix:{directory}/s", HOST)
            await server.ask("move_to", processor=processor)
            # Both sides make what they make once: decisions are kept.
            await _block(server, callers)
            yield server, callers


def _secured(directory: Path, traces: str) -> dict[str, object]:
    (directory / "policy.cedar").write_text(POLICY)
    security = [f'policy = "{directory}/policy.cedar"', f'audit_log = "{directory}/audit.log"']
    if traces:
        security += ['tracing = "otlp"', f'tracing_endpoint = "{traces}"', "tracing_ratio = 0.01"]
    tls = ["[tls]", f'certificate = "{directory}/server.pem"', f'key = "{directory}/server.key"', f'client_ca = "{directory}/ca.pem"']
    return {"security": "\n".join(security), "rate": ENOUGH, "tls": "\n".join(tls)}
