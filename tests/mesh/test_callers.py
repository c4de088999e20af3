"""Callers by gRPC, gRPC-Web and JSON do their work through Envoy: the same jobs, the same errors."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.beds.envoy import Envoy
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.grpc_web import TextCall, WebCall, WebError
from tests.mesh.json_calls import JsonCall, ask
from virtrpc import Cancelled, Client, NotFound, WrongState
from virtrpc.v1 import job_pb2, query_pb2
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.mesh
BIG = 200_000
"""More than Envoy's buffers hold at once."""


@pytest.fixture
def client(envoy: Envoy) -> Iterator[Client]:
    """Our client, which knows nothing of Envoy."""
    with Client(envoy.address) as client:
        yield client


@pytest.fixture
def guest(server: Server) -> str:
    """A simulated guest that runs."""
    with server.blocking() as direct:
        if direct.get_domain("guest-1").state != t.DOMAIN_STATE_RUNNING:
            direct.start_domain("guest-1").wait()
    return "guest-1"


def ref(name: str) -> t.DomainRef:
    """A domain by its name."""
    return t.DomainRef(name=name)


# gRPC


def test_the_client_saves_a_guest(client: Client, guest: str) -> None:
    """A managed save is followed to its end, and its effect is there."""
    save = client.managed_save_domain(guest)
    assert [job.state for job in save][-1] == t.JOB_STATE_SUCCEEDED
    assert client.get_domain(guest).has_managed_save


def test_the_client_cancels(client: Client, guest: str) -> None:
    """A cancel reaches the job, and the caller hears of it as without Envoy."""
    save = client.managed_save_domain(guest)
    save.cancel()
    with pytest.raises(Cancelled):
        save.wait()
    assert client.get_domain(guest).state == t.DOMAIN_STATE_RUNNING


def test_the_client_raises_the_same_errors(client: Client, guest: str) -> None:
    """What is refused before acceptance has its reason."""
    with pytest.raises(WrongState):
        client.start_domain(guest).wait()
    with pytest.raises(NotFound):
        client.get_domain("try/nobody")


def test_health_and_reflection_are_there_too(envoy: Envoy) -> None:
    """What probes and grpcurl ask for goes through: the server is SERVING, and names its services."""
    with grpc.insecure_channel(envoy.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        answer = next(reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    assert {"virtrpc.v1.QueryService", "virtrpc.v1.JobService"} <= {service.name for service in answer.list_services_response.service}


# JSON


def test_json_lists_and_gets(envoy: Envoy) -> None:
    """A page of the list, and one domain, as JSON of the contract."""
    listed = ask(envoy.address, "QueryService/ListDomains", filter={"hosts": ["try"]}, pageSize=2)
    assert [domain["name"] for domain in listed["domains"]] == ["guest-1", "guest-2"]
    assert listed["nextPageToken"]
    told = ask(envoy.address, "QueryService/GetDomain", domain={"uuid": listed["domains"][1]["uuid"]})["domain"]
    assert (told["name"], told["host"]) == ("guest-2", "try")


def test_json_saves_a_guest(envoy: Envoy, guest: str) -> None:
    """A verb's stream is a line for each message, begun at once, the last one with the job's end."""
    call = JsonCall(envoy.address, "JobService/ManagedSaveDomain", {"domain": {"name": guest}, "options": {"requestId": "json-save"}})
    jobs = [line["job"] for line in call.lines()]
    assert call.status == 200
    assert call.headers["virtrpc-job-id"] == jobs[0]["jobId"]
    assert (jobs[0]["state"], jobs[-1]["state"]) in {(first, "JOB_STATE_SUCCEEDED") for first in ("JOB_STATE_QUEUED", "JOB_STATE_RUNNING")}
    assert ask(envoy.address, "QueryService/GetDomain", domain={"name": guest})["domain"]["hasManagedSave"]


def test_json_cancels(envoy: Envoy, guest: str) -> None:
    """The job's id is in the first line; the cancelled job's error is in the last."""
    lines = JsonCall(envoy.address, "JobService/ManagedSaveDomain", {"domain": {"name": guest}}).lines()
    job = next(lines)["job"]
    ask(envoy.address, "JobService/CancelJob", jobId=job["jobId"])
    last = [line["job"] for line in lines][-1]
    assert (last["state"], last["error"]["reason"]) == ("JOB_STATE_CANCELLED", "CANCELLED")


def test_json_attaches_to_a_job(envoy: Envoy, guest: str) -> None:
    """Who has hung up follows the job with WatchJob, to the same end."""
    call = JsonCall(envoy.address, "JobService/ManagedSaveDomain", {"domain": {"name": guest}})
    job = next(call.lines())["job"]["jobId"]
    call.leave()
    last = [line["job"] for line in JsonCall(envoy.address, "JobService/WatchJob", {"jobId": job}).lines()][-1]
    assert last["state"] == "JOB_STATE_SUCCEEDED"


def test_json_is_told_errors_as_json(envoy: Envoy, guest: str) -> None:
    """google.rpc.Status with code, message and ErrorInfo, under the HTTP status that goes with it."""
    call = JsonCall(envoy.address, "JobService/StartDomain", {"domain": {"name": guest}})
    status = call.answer()
    assert (call.status, status["code"]) == (400, StatusCode.FAILED_PRECONDITION.value[0])
    (info,) = status["details"]
    assert (info["reason"], info["domain"]) == ("WRONG_STATE", "virtrpc")
    call = JsonCall(envoy.address, "QueryService/GetDomain", {"domain": {"name": "nobody", "host": "try"}})
    assert (call.status, call.answer()["details"][0]["reason"]) == (404, "DOMAIN_NOT_FOUND")


def test_json_may_be_long(envoy: Envoy, client: Client) -> None:
    """A definition that is longer than Envoy's buffers goes in, and comes out again."""
    name = "wordy"
    xml = f"<domain type='kvm'><name>{name}</name><description>{'x' * BIG}</description><memory>65536</memory><os><type>hvm</type></os></domain>"
    call = JsonCall(envoy.address, "JobService/DefineDomain", {"host": "try", "xml": xml})
    assert [line["job"]["state"] for line in call.lines()][-1] == "JOB_STATE_SUCCEEDED"
    assert len(ask(envoy.address, "QueryService/GetDomainXml", domain={"name": name})["xml"]) > BIG
    client.undefine_domain(name).wait()


# gRPC-Web


def test_grpc_web_lists_and_gets(envoy: Envoy) -> None:
    """Unary calls, as a page's script makes them."""
    request = query_pb2.ListDomainsRequest(filter=t.DomainFilter(hosts=["try"]), page_size=2)
    (page,) = WebCall(envoy.address, "/virtrpc.v1.QueryService/ListDomains", request).messages(query_pb2.ListDomainsResponse)
    call = WebCall(envoy.address, "/virtrpc.v1.QueryService/GetDomain", query_pb2.GetDomainRequest(domain=ref(page.domains[0].name)))
    (told,) = call.messages(query_pb2.GetDomainResponse)
    assert told.domain.uuid == page.domains[0].uuid


@pytest.mark.parametrize("way", [WebCall, TextCall])
def test_grpc_web_saves_a_guest(envoy: Envoy, guest: str, way: type[WebCall]) -> None:
    """The job's id comes in the headers, its states as they are, the status at the end; as bytes and as text."""
    call = way(envoy.address, "/virtrpc.v1.JobService/ManagedSaveDomain", job_pb2.ManagedSaveDomainRequest(domain=ref(guest)))
    jobs = [update.job for update in call.messages(t.JobUpdate)]
    assert call.headers["virtrpc-job-id"] == jobs[-1].job_id
    assert jobs[-1].state == t.JOB_STATE_SUCCEEDED


def test_grpc_web_cancels(envoy: Envoy, guest: str) -> None:
    """The stream's last message is the cancelled job, and its status says so too."""
    request = job_pb2.ManagedSaveDomainRequest(domain=ref(guest))
    updates = WebCall(envoy.address, "/virtrpc.v1.JobService/ManagedSaveDomain", request).messages(t.JobUpdate)
    job = next(updates).job
    list(WebCall(envoy.address, "/virtrpc.v1.JobService/CancelJob", job_pb2.CancelJobRequest(job_id=job.job_id)).messages(job_pb2.CancelJobResponse))
    seen: list[int] = []
    with pytest.raises(WebError) as raised:
        seen.extend(update.job.state for update in updates)
    assert (raised.value.code, seen[-1:]) == (StatusCode.ABORTED, [t.JOB_STATE_CANCELLED]) or seen == []


def test_grpc_web_is_told_errors(envoy: Envoy, guest: str) -> None:
    """Status and details come as headers where there is no message."""
    with pytest.raises(WebError) as raised:
        list(WebCall(envoy.address, "/virtrpc.v1.JobService/StartDomain", job_pb2.StartDomainRequest(domain=ref(guest))).messages(t.JobUpdate))
    assert raised.value.code is StatusCode.FAILED_PRECONDITION
    assert raised.value.headers["grpc-status-details-bin"]


@pytest.mark.parametrize(("origin", "allowed"), [("http://localhost:8080", True), ("https://elsewhere.example", False)])
def test_only_listed_pages_may_call(envoy: Envoy, origin: str, allowed: bool) -> None:
    """A browser's question is answered for the origins that are listed, and for no others."""
    connection = http.client.HTTPConnection(envoy.address, timeout=60)
    asked = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type,x-grpc-web"}
    connection.request("OPTIONS", "/virtrpc.v1.QueryService/GetDomain", headers=asked)
    answer = connection.getresponse()
    connection.close()
    assert answer.getheader("access-control-allow-origin") == (origin if allowed else None)


# What goes along


def test_the_trace_goes_on(server: Server, envoy: Envoy) -> None:
    """A caller's traceparent reaches the server: its span is of the caller's trace."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    call = JsonCall(envoy.address, "QueryService/ListHosts", {}, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert call.answer()["hosts"]
    wait_until(lambda: trace in server.log, "the server's span to be exported")


def test_the_access_log_tells_of_jobs(envoy: Envoy, guest: str) -> None:
    """One line of JSON for each call: its route, its status and the job that it made."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    call = JsonCall(envoy.address, "JobService/SuspendDomain", {"domain": {"name": guest}}, traceparent=trace)
    last = list(call.lines())[-1]["job"]
    list(JsonCall(envoy.address, "JobService/ResumeDomain", {"domain": {"name": guest}}).lines())

    def entry() -> list[dict[str, object]]:
        return [entry for entry in envoy.calls if entry["job_id"] == last["jobId"]]

    wait_until(entry, "the access log to have the call")
    assert [(told["route"], told["traceparent"], told["http_status"]) for told in entry()] == [("SuspendDomain", trace, 200)]


def test_what_the_contract_lacks_goes_no_further(envoy: Envoy) -> None:
    """An unknown method is UNIMPLEMENTED to a gRPC caller and 404 to others; the server does not hear of it."""
    with grpc.insecure_channel(envoy.address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/virtrpc.v1.JobService/Explode", request_serializer=bytes)(b"")
    assert raised.value.code() is StatusCode.UNIMPLEMENTED
    assert WebCall(envoy.address, "/virtrpc.v1.JobService/Explode", job_pb2.GetJobRequest()).status == 404
    assert [JsonCall(envoy.address, path, {}).status for path in ("JobService/Explode", "NoService/Explode")] == [404, 404]

    def exploded() -> list[dict[str, object]]:
        return [entry for entry in envoy.calls if entry["path"].endswith("/Explode")]

    wait_until(lambda: len(exploded()) == 4, "the access log to have the calls")
    assert [entry["server"] for entry in exploded()] == [None] * 4


def test_headers_have_a_limit(envoy: Envoy) -> None:
    """Oversized ones are refused by Envoy (431); the next call is answered."""
    assert JsonCall(envoy.address, "QueryService/ListHosts", {}, padding="x" * 20_000).status == 431
    assert ask(envoy.address, "QueryService/ListHosts")["hosts"]


def test_json_that_is_none_is_refused(envoy: Envoy) -> None:
    """What cannot be transcoded is the caller's fault."""
    connection = http.client.HTTPConnection(envoy.address, timeout=60)
    connection.request("POST", "/virtrpc.v1.QueryService/ListHosts", b"{not json", {"content-type": "application/json"})
    answer = connection.getresponse()
    connection.close()
    assert answer.status == 400
