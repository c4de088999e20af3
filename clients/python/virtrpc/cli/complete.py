"""Shell completion of names that only the server knows: within half a second, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import typer

from virtrpc.errors import VirtrpcError
from virtrpc.sync import Client
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

DEADLINE_SECONDS = 0.5
RECENT = 100


def domains(ctx: typer.Context, incomplete: str) -> list[str]:
    """Domain names that begin so; HOST/NAME where several hosts have them, or where a slash was typed."""

    def ask(client: Client) -> Iterator[str]:
        host = ctx.params.get("host") or ""
        glob = "" if "/" in incomplete else f"{incomplete}*"
        found = _first_page(client.list_domains(filter=t.DomainFilter(name_glob=glob, hosts=[host] if host else [])).pages())
        names = [domain.name for domain in found]
        for domain in found:
            unique = names.count(domain.name) == 1 and "/" not in incomplete
            yield domain.name if unique else f"{domain.host}/{domain.name}"

    return _complete(ctx, incomplete, ask)


def hosts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of configured hosts that begin so."""
    return _complete(ctx, incomplete, lambda client: (host.name for host in client.list_hosts()))


def jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of jobs that have not ended."""
    going = j.JobFilter(states=[t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING])
    return _complete(ctx, incomplete, lambda client: (job.job_id for job in client.list_jobs(filter=going)))


def recent_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the newest jobs, whether or not they have ended."""
    return _complete(ctx, incomplete, lambda client: (job.job_id for job in islice(client.list_jobs(page_size=RECENT), RECENT)))


def of(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Those of these words that begin so."""
    known = sorted(words)

    def begun(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return begun


def _first_page(pages: Iterator[q.ListDomainsResponse]) -> list[t.Domain]:
    return [domain for page in [next(pages)] for domain in page.domains]


def _complete(ctx: typer.Context, incomplete: str, ask: Callable[[Client], Iterable[str]]) -> list[str]:
    address = ctx.params.get("address") or ctx.find_root().params.get("address")
    try:
        with Client(address, timeout=DEADLINE_SECONDS) as client:
            return sorted(name for name in ask(client) if name.startswith(incomplete))
    except (VirtrpcError, ValueError):
        return []  # a shell has no place for an error between two keys
