"""Metrics over a real endpoint: Prometheus' own library reads them, and they say what a server on simulated hosts does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.beds.certificates import Authority
from tests.beds.watched import SCRAPE, Scrape, watched
from tests.server.world import until
from virtrpc.errors import Cancelled, NotFound
from virtrpc_drivers.protocol import StuckCalls
from virtrpc_server.settings import Settings
from virtrpc_server.settings.identity import TlsSettings
from virtrpc_server.telemetry import endpoint
from virtrpc_server.telemetry.collecting import CATALOG
from virtrpc_server.telemetry.points import Distribution, Family, Histogram, Kind, Labels, Metric, Point, head, text

GET_DOMAIN = "virtrpc.v1.QueryService/GetDomain"
SAVE = "virtrpc.v1.JobService/ManagedSaveDomain"
GUARD_SECONDS = 60.0
GUEST = {"host": "try", "domain": "guest-1"}


def test_the_text_is_prometheus_own() -> None:
    """Names get their units, labels are escaped, histograms add up: Prometheus' library reads back what was measured."""
    gauge = Metric("virtrpc.some.age", Kind.GAUGE, "s", "x", ("a.b",))
    counted = Histogram(Metric("virtrpc.some.time", Kind.HISTOGRAM, "s", "x", ("kind",)), (0.1, 1))
    for seconds in (0.1, 0.5, 7):
        counted.record(("k",), seconds)
    odd = Labels(**{"a.b": 'a "\\\n b', "c": ""})
    lines = head(gauge) + text(Family(gauge, [Point(odd, 2.5)])) + head(counted.metric) + text(counted.family())
    scrape = Scrape(lines)
    assert scrape.value("virtrpc_some_age_seconds", a_b='a "\\\n b') == 2.5
    assert [scrape.value("virtrpc_some_time_seconds_bucket", le=le, kind="k") for le in ("0.1", "1", "+Inf")] == [1, 2, 3]
    assert (scrape.value("virtrpc_some_time_seconds_count"), scrape.value("virtrpc_some_time_seconds_sum")) == (3, 7.6)
    assert [point.value for point in counted.family().points] == [Distribution((0.1, 1), (1, 1, 1), 7.6)]


def test_every_metric_has_a_name_and_a_meaning_of_its_own() -> None:
    """No two have one name, and each says in a sentence what it is."""
    assert len({metric.prometheus for metric in CATALOG}) == len(CATALOG)
    assert [metric.name for metric in CATALOG if not metric.help.endswith(".")] == []
    assert [metric.name for metric in CATALOG if (metric.kind is Kind.COUNTER) != metric.prometheus.endswith("_total")] == []


async def test_what_was_done_is_counted(tmp_path: Path) -> None:
    """RPCs by method and status under the conventions' names, jobs by kind and outcome, and what they waited for."""
    async with watched(tmp_path) as bed, bed.client() as client:
        await client.get_domain("guest-1")
        with pytest.raises(NotFound):
            await client.get_domain("nobody")
        await (await client.managed_save_domain("guest-1")).wait()
        scrape = await bed.scrape()
    assert scrape.value("rpc_server_call_duration_seconds_count", rpc_method=GET_DOMAIN, rpc_response_status_code="OK") == 1
    lost = {"rpc_method": GET_DOMAIN, "rpc_response_status_code": "NOT_FOUND", "error_type": "NOT_FOUND", "rpc_system_name": "grpc"}
    assert scrape.value("rpc_server_call_duration_seconds_count", **lost) == 1
    assert scrape.value("rpc_server_call_duration_seconds_sum", rpc_method=SAVE) >= 0.2
    assert scrape.value("virtrpc_job_duration_seconds_count", kind="ManagedSave", outcome="succeeded") == 1
    waits = {name: scrape.value("virtrpc_job_wait_duration_seconds_count", waiting_for=name) for name in ("condition", "host_limit", "daemon_budget")}
    assert min(waits.values()) >= 1


async def test_a_queue_is_seen_while_it_lasts(tmp_path: Path) -> None:
    """Who waits is counted by what for; streams by what they watch."""
    async with watched(tmp_path, uris={"try": "sim://try/?domains=1&running=1&save_seconds=1000"}) as bed, bed.client() as client:
        saving = await client.managed_save_domain("guest-1")
        await until(lambda: bed.app.core.jobs.counts == (1, 0))
        waiting = await client.suspend_domain("guest-1")
        watch = client.watch_domains()
        await anext(stream := aiter(watch))
        await until(lambda: bed.app.core.watches.open["domains"])
        scrape = await bed.scrape()
        assert scrape.value("virtrpc_jobs", host="try", state="running") == 1
        assert scrape.value("virtrpc_jobs_waiting", host="try", waiting_for="condition") == 1
        assert scrape.value("virtrpc_daemon_budget_used", host="try") == 1
        assert scrape.value("virtrpc_watch_streams", of="domains") == 1
        assert scrape.value("virtrpc_rpc_active") >= 3
        for job in (waiting, saving):
            await job.cancel()
            with pytest.raises(Cancelled):
                await job.wait()
        await stream.aclose()
        assert set((await bed.scrape()).values("virtrpc_jobs_waiting")) == {0}


async def test_guests_have_the_exporters_names(tmp_path: Path) -> None:
    """A running guest's statistics stand under the names and labels of the exporters for libvirt; one that is off has its state alone."""
    async with watched(tmp_path) as bed:
        scrape = await bed.scrape()
        entry = bed.app.core.domains.by_name("guest-1")[0]
    assert entry.stats.block is not None
    disk = entry.stats.block.value[0].target
    assert scrape.value("libvirt_domain_info_state", uuid=entry.uuid, **GUEST) == 1
    assert scrape.value("libvirt_domain_block_stats_capacity_bytes", target_device=disk, **GUEST) == 8 << 30
    for name in (
        "libvirt_domain_info_cpu_time_seconds_total", "libvirt_domain_info_virtual_cpus", "libvirt_domain_info_maximum_memory_bytes",
        "libvirt_domain_memory_stats_rss_bytes", "libvirt_domain_memory_stats_usable_bytes", "libvirt_domain_block_stats_read_bytes_total",
        "libvirt_domain_block_stats_write_time_seconds_total", "libvirt_domain_interface_stats_receive_bytes_total",
        "libvirt_domain_interface_stats_transmit_drops_total", "libvirt_domain_vcpu_time_seconds_total",
    ):  # fmt: skip
        assert len(scrape.values(name, **GUEST)) == 1, name
    off = {sample.name for sample in scrape.samples if sample.labels.get("domain") == "guest-3"}
    assert "libvirt_domain_info_state" in off
    assert not {name for name in off if "_stats_" in name and not name.endswith("_info")}


async def test_every_value_is_in_the_catalogue(tmp_path: Path) -> None:
    """What a scrape has is in CATALOG, with its kind and no other labels."""
    known = {metric.prometheus: metric for metric in CATALOG}
    async with watched(tmp_path) as bed, bed.client() as client:
        await client.get_domain("guest-1")
        scrape = await bed.scrape()
    for family in scrape.families.values():
        metric = known[f"{family.name}_total" if family.type == "counter" else family.name]
        assert metric.kind == family.type
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} <= {label.replace(".", "_") for label in metric.labels}, metric.name


async def test_a_domain_that_is_gone_is_gone(tmp_path: Path) -> None:
    """Nothing of an undefined domain is told any more."""
    async with watched(tmp_path) as bed, bed.client() as client:
        assert (await bed.scrape()).values("libvirt_domain_info", domain="guest-3")
        await (await client.undefine_domain("guest-3")).wait()
        scrape = await bed.scrape()
    assert [sample for sample in scrape.samples if sample.labels.get("domain") == "guest-3"] == []
    assert scrape.value("libvirt_domains") == 2


async def test_a_wedged_guest_ages_and_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a guest hangs its host's sampling a scrape comes back; its own statistics are shown with their age, and then no more."""
    monkeypatch.setattr("virtrpc_server.telemetry.guests.KEPT_SECONDS", 2.0)
    async with watched(tmp_path) as bed:
        bed.sim("try").stop_guest(bed.app.core.domains.by_name("guest-1")[0].uuid)
        await bed.scraped(lambda scrape: scrape.value("libvirt_domain_stats_age_seconds", **GUEST) >= 1)
        await bed.scraped(lambda scrape: scrape.value("virtrpc_driver_stuck_threads", lane="stats") >= 1)
        scrape = await bed.scraped(lambda scrape: not scrape.values("libvirt_domain_info_cpu_time_seconds_total", **GUEST))
        await bed.scraped(lambda scrape: scrape.value("libvirt_domain_stats_age_seconds", domain="guest-2") < 2)
    assert scrape.value("libvirt_domain_info_state", **GUEST) == 1
    assert scrape.value("virtrpc_host_quarantined", host="try") == 1


async def test_a_host_that_is_away_does_not_keep_the_others_away(tmp_path: Path) -> None:
    """It is told to be down; the other one's guests are all there."""
    uris = {"near": "sim://near/?domains=2&running=2", "far": "sim://far/?domains=1&running=1"}
    async with watched(tmp_path, uris=uris) as bed:
        bed.driver("far").lose(stay_down=True)
        await until(lambda: not bed.app.hosts["far"].connected)
        scrape = await bed.scrape()
    assert (scrape.value("libvirt_up", host="far"), scrape.value("libvirt_up", host="near")) == (0, 1)
    assert scrape.value("virtrpc_host_freshness", host="far", freshness="stale") == 1
    assert len(scrape.values("libvirt_domain_info_cpu_time_seconds_total", host="near")) == 2


async def test_stuck_threads_are_the_drivers_count(tmp_path: Path) -> None:
    """What a driver process tells of its lanes is shown until it tells otherwise, or is lost, which is counted."""
    async with watched(tmp_path) as bed:
        bed.driver("try")._deliver(StuckCalls(lanes={"work": 2, "reads": 1}))
        scrape = await bed.scrape()
        assert [scrape.value("virtrpc_driver_stuck_threads", lane=lane) for lane in ("work", "reads", "stats")] == [2, 1, 0]
        assert scrape.value("virtrpc_driver_restarts_total") == 0
        bed.driver("try").lose(stay_down=True)
        scrape = await bed.scrape()
        assert scrape.values("virtrpc_driver_stuck_threads", lane="work") == []
        assert scrape.value("virtrpc_driver_restarts_total") == 1


async def test_rules_that_cannot_be_taken_and_an_ending_certificate_are_seen(tmp_path: Path) -> None:
    """Before somebody misses a right or a connection: 1 while the policy file cannot be used, and the seconds until the certificate ends."""
    ca = Authority(tmp_path)
    pair = ca.server()
    rules = tmp_path / "p.cedar"
    rules.write_text("permit(principal, action, resource);")
    tls = TlsSettings(certificate=pair.certificate, key=pair.key, client_ca=ca.path)
    async with watched(tmp_path, listen="127.0.0.1:0", tls=tls, policy=rules) as bed:
        before = await bed.scrape()
        rules.write_text("permit(")
        after = await bed.scraped(lambda scrape: scrape.value("virtrpc_policy_failing") == 1)
        rules.write_text("permit(principal, action, resource) ;")
        await bed.scraped(lambda scrape: scrape.value("virtrpc_policy_failing") == 0)
        assert bed.app.tls is not None
        lasts = bed.app.tls.remaining
    assert before.value("virtrpc_policy_failing") == 0
    left = [scrape.value("virtrpc_certificate_remaining_seconds") for scrape in (before, after)]
    assert left[0] > left[1] > lasts > 0


async def test_without_a_certificate_nothing_is_said_of_one(tmp_path: Path) -> None:
    """There is no value that an alert could take for one."""
    async with watched(tmp_path) as bed:
        assert (await bed.scrape()).values("virtrpc_certificate_remaining_seconds") == []


async def test_the_endpoint_speaks_http_and_little_of_it(tmp_path: Path) -> None:
    """GET and HEAD of /metrics, a page that leads there, and an answer to everything else."""
    async with watched(tmp_path) as bed:
        heads = [
            (await bed.get(request + b"\r\nHost: x\r\n\r\n"))[0].split(b"\r\n")[0]
            for request in (
                b"GET / HTTP/1.1",
                b"HEAD /metrics HTTP/1.1",
                b"GET /metrics?x=y HTTP/1.1",
                b"GET /else HTTP/1.1",
                b"POST /metrics HTTP/1.1",
                b"x",
            )
        ]
        assert await bed.get(b"x" * (64 << 10)) == (b"", b"")
        assert (await bed.get(b"HEAD /metrics HTTP/1.1\r\n\r\n"))[1] == b""
    assert [head.split()[1] for head in heads] == [b"200", b"200", b"200", b"404", b"405", b"400"]


async def test_who_does_not_ask_or_does_not_read_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing, and one that takes nothing, end by themselves; so many at once keep others out only so long."""
    monkeypatch.setattr(endpoint, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(endpoint, "MAX_CONNECTIONS", 2)
    async with watched(tmp_path, uris={"try": "sim://try/?domains=3000&running=0"}) as bed:
        assert bed.app.metrics is not None
        host, _, port = bed.app.metrics.address.rpartition(":")
        silent = await asyncio.open_connection(host, int(port))
        deaf = await asyncio.open_connection(host, int(port), limit=1)
        deaf[1].write(SCRAPE)
        assert await silent[0].read() == b""
        connections = bed.app.metrics._connections
        await until(lambda: not connections)
        for patience in ("REQUEST_SECONDS", "ANSWER_SECONDS"):
            monkeypatch.setattr(endpoint, patience, GUARD_SECONDS)
        assert (await bed.scrape()).value("libvirt_domains") == 3000
        for _, writer in (silent, deaf):
            writer.close()


async def test_nobody_listens_unless_asked(tmp_path: Path) -> None:
    """Without metrics_listen there is no endpoint, and no RPC is counted."""
    async with watched(tmp_path, metrics_listen=None) as bed, bed.client() as client:
        await client.get_domain("guest-1")
        assert bed.app.metrics is None
        assert bed.app.core.jobs.recorded.rpcs.family().points == []


def test_other_machines_need_a_word() -> None:
    """An address that others reach is refused unless metrics_insecure says so."""
    with pytest.raises(ValueError, match="metrics_insecure"):
        Settings(metrics_listen="0.0.0.0:9177")
    assert Settings(metrics_listen="0.0.0.0:9177", metrics_insecure=True).metrics_listen
