"""Bad requests, and how each must be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

NOBODY = "9a5b0d6a-0000-4000-8000-3a1f0001dead"
LAUGHS = "<!DOCTYPE domain [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><domain><name>&b;</name></domain>"
LEAK = "<!DOCTYPE domain [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><domain><name>&f;</name></domain>"
HUGE = f"<domain><name>huge</name><description>{'x' * (2 << 20)}</description></domain>"

RUNNING = t.DomainRef(host="sim", name="guest-1")
OFF = t.DomainRef(host="sim", name="guest-2")
MOCK = t.DomainRef(host="mock", name="test")


@dataclass(frozen=True)
class Bad:
    """A request, and its refusal: the reason, words of the message, and pairs of the metadata."""

    name: str
    rpc: str
    request: Message
    reason: str
    words: tuple[str, ...]
    pairs: dict[str, str]


def bad(name: str, rpc: str, request: Message, reason: str, *words: str, **pairs: str) -> Bad:
    """One row."""
    return Bad(name, rpc, request, reason, words, pairs)


def migrate(**settings: Any) -> j.MigrateDomainRequest:
    """A migration of a running domain."""
    return j.MigrateDomainRequest(domain=RUNNING, settings=t.MigrationSettings(**settings))


def waiting(**options: Any) -> j.SuspendDomainRequest:
    """A harmless verb with options."""
    return j.SuspendDomainRequest(domain=RUNNING, options=t.JobOptions(**options))


UNKNOWN = [
    bad(
        "domain by name",
        "GetDomain",
        q.GetDomainRequest(domain=t.DomainRef(host="sim", name="nobody")),
        "DOMAIN_NOT_FOUND",
        "nobody",
        "sim",
        domain="nobody",
    ),
    bad(
        "domain by uuid",
        "GetMemoryStats",
        q.GetMemoryStatsRequest(domain=t.DomainRef(host="sim", uuid=NOBODY)),
        "DOMAIN_NOT_FOUND",
        NOBODY,
        domain=NOBODY,
    ),
    bad("domain by id", "GetDomain", q.GetDomainRequest(host_domain_id=q.HostDomainId(host="sim", id=4711)), "DOMAIN_NOT_FOUND", "4711"),
    bad("domain of a verb", "SuspendDomain", j.SuspendDomainRequest(domain=t.DomainRef(host="sim", name="nobody")), "DOMAIN_NOT_FOUND", "nobody"),
    bad(
        "host", "GetDomain", q.GetDomainRequest(domain=t.DomainRef(host="nowhere", name="guest-1")), "HOST_NOT_CONFIGURED", "nowhere", host="nowhere"
    ),
    bad("host of a filter", "ListDomains", q.ListDomainsRequest(filter=t.DomainFilter(hosts=["sim", "nowhere"])), "HOST_NOT_CONFIGURED", "nowhere"),
    bad("host of a migration", "MigrateDomain", migrate(host="nowhere"), "HOST_NOT_CONFIGURED", "nowhere"),
    bad("device", "GetBlockStats", q.GetBlockStatsRequest(domain=RUNNING, device="vdz"), "DEVICE_NOT_FOUND", "vdz"),
    bad(
        "snapshot", "GetSnapshot", s.GetSnapshotRequest(domain=MOCK, name="never-taken"), "SNAPSHOT_NOT_FOUND", "never-taken", snapshot="never-taken"
    ),
    bad("snapshot's XML", "GetSnapshotXml", s.GetSnapshotXmlRequest(domain=MOCK, name="never-taken"), "SNAPSHOT_NOT_FOUND", "never-taken"),
    bad("current snapshot", "GetCurrentSnapshot", s.GetCurrentSnapshotRequest(domain=MOCK), "SNAPSHOT_NOT_FOUND", "test"),
    bad("job", "GetJob", j.GetJobRequest(job_id="never-was"), "JOB_NOT_FOUND", "never-was", job_id="never-was"),
    bad("job to watch", "WatchJob", j.WatchJobRequest(job_id="never-was"), "JOB_NOT_FOUND", "never-was"),
    bad("job to cancel", "CancelJob", j.CancelJobRequest(job_id="never-was"), "JOB_NOT_FOUND", "never-was"),
]
UNREACHED = [
    bad("query", "GetDomain", q.GetDomainRequest(domain=t.DomainRef(host="never", name="web")), "HOST_UNREACHABLE", "never", "web", host="never"),
    bad("name that may be there", "GetDomainXml", q.GetDomainXmlRequest(domain=t.DomainRef(name="web")), "HOST_UNREACHABLE", "never"),
    bad("verb", "StartDomain", j.StartDomainRequest(domain=t.DomainRef(host="never", name="web")), "HOST_UNREACHABLE", "never"),
    bad("definition", "DefineDomain", j.DefineDomainRequest(host="never", xml="<domain><name>web</name></domain>"), "HOST_UNREACHABLE", "never"),
    bad("snapshots", "ListSnapshots", s.ListSnapshotsRequest(domain=t.DomainRef(host="never", name="web")), "HOST_UNREACHABLE", "never"),
]
UNNAMED = [
    bad("no reference", "GetDomain", q.GetDomainRequest(), "INVALID_ARGUMENT", "name", field="domain"),
    bad("empty reference", "GetDomainXml", q.GetDomainXmlRequest(domain=t.DomainRef()), "INVALID_ARGUMENT", field="domain"),
    bad("host alone", "SuspendDomain", j.SuspendDomainRequest(domain=t.DomainRef(host="sim")), "INVALID_ARGUMENT", field="domain"),
    bad("empty name", "ListSnapshots", s.ListSnapshotsRequest(domain=t.DomainRef(name="")), "INVALID_ARGUMENT", field="domain"),
    bad("malformed uuid", "GetDomain", q.GetDomainRequest(domain=t.DomainRef(uuid="1234")), "INVALID_ARGUMENT", "1234", field="domain.uuid"),
    bad("several fit a query", "GetDomain", q.GetDomainRequest(domain=t.DomainRef(name="guest-1")), "AMBIGUOUS_NAME", "guest-1", "sim/", "twin/"),
    bad("several fit a verb", "DestroyDomain", j.DestroyDomainRequest(domain=t.DomainRef(name="guest-1")), "AMBIGUOUS_NAME", "sim/", "twin/"),
    bad(
        "host of a definition",
        "DefineDomain",
        j.DefineDomainRequest(xml="<domain><name>web</name></domain>"),
        "INVALID_ARGUMENT",
        "sim",
        "twin",
        field="host",
    ),
    bad("NUL in a name", "GetDomain", q.GetDomainRequest(domain=t.DomainRef(name="nul\0nul")), "INVALID_ARGUMENT", "NUL", field="domain.name"),
    bad(
        "NUL in a list",
        "SetAuthorizedSshKeys",
        j.SetAuthorizedSshKeysRequest(domain=RUNNING, user="a", keys=["b", "\0"]),
        "INVALID_ARGUMENT",
        field="keys",
    ),
    bad("empty snapshot name", "DeleteSnapshot", s.DeleteSnapshotRequest(domain=RUNNING), "INVALID_ARGUMENT", field="name"),
    bad("empty user", "SetUserPassword", j.SetUserPasswordRequest(domain=RUNNING, password="secret-word"), "INVALID_ARGUMENT", field="user"),
    bad("no destination", "MigrateDomain", migrate(), "INVALID_ARGUMENT", field="settings.destination"),
]
NUMBERS = [
    bad("negative page", "ListDomains", q.ListDomainsRequest(page_size=-1), "INVALID_ARGUMENT", "-1", field="page_size"),
    bad("negative page of jobs", "ListJobs", j.ListJobsRequest(page_size=-1), "INVALID_ARGUMENT", "-1", field="page_size"),
    bad("negative page of snapshots", "ListSnapshots", s.ListSnapshotsRequest(domain=MOCK, page_size=-1), "INVALID_ARGUMENT", field="page_size"),
    bad("negative id", "GetDomain", q.GetDomainRequest(host_domain_id=q.HostDomainId(host="sim", id=-1)), "INVALID_ARGUMENT", "-1"),
    bad("negative memory", "SetMemory", j.SetMemoryRequest(domain=RUNNING, memory_bytes=-(1 << 30)), "INVALID_ARGUMENT", field="memory_bytes"),
    bad("no memory", "SetMemory", j.SetMemoryRequest(domain=RUNNING), "INVALID_ARGUMENT", field="memory_bytes"),
    bad(
        "memory above the maximum",
        "SetMemory",
        j.SetMemoryRequest(domain=RUNNING, memory_bytes=1 << 62),
        "INVALID_ARGUMENT",
        "maximum",
        field="memory_bytes",
    ),
    bad(
        "more vcpus than calls count",
        "SetVcpus",
        j.SetVcpusRequest(domain=OFF, vcpus=1 << 16, maximum=True),
        "INVALID_ARGUMENT",
        "65535",
        field="vcpus",
    ),
    bad("negative wait", "SuspendDomain", waiting(wait_timeout=Duration(seconds=-1)), "INVALID_ARGUMENT", field="options.wait_timeout"),
    bad("no time to run", "SuspendDomain", waiting(run_timeout=Duration()), "INVALID_ARGUMENT", field="options.run_timeout"),
    bad("long request_id", "SuspendDomain", waiting(request_id="x" * 129), "INVALID_ARGUMENT", "128", field="options.request_id"),
    bad(
        "negative bandwidth",
        "MigrateDomain",
        migrate(host="twin", bandwidth_bytes_per_second=-1),
        "INVALID_ARGUMENT",
        field="settings.bandwidth_bytes_per_second",
    ),
    bad("too many uuids", "ListDomains", q.ListDomainsRequest(filter=t.DomainFilter(uuids=[NOBODY] * 1001)), "INVALID_ARGUMENT", "1000"),
]
XML = [
    bad("malformed", "DefineDomain", j.DefineDomainRequest(host="sim", xml="<domain><name>half"), "XML_INVALID", "well-formed"),
    bad("none", "CreateDomain", j.CreateDomainRequest(host="sim"), "INVALID_ARGUMENT", field="xml"),
    bad(
        "another root", "DefineDomain", j.DefineDomainRequest(host="sim", xml="<network><name>x</name></network>"), "XML_INVALID", "network", "domain"
    ),
    bad("without a name", "CreateDomain", j.CreateDomainRequest(host="sim", xml="<domain/>"), "XML_INVALID", "name"),
    bad("bad uuid", "DefineDomain", j.DefineDomainRequest(host="sim", xml="<domain><name>x</name><uuid>7</uuid></domain>"), "XML_INVALID", "uuid"),
    bad("2 MiB", "DefineDomain", j.DefineDomainRequest(host="sim", xml=HUGE), "XML_TOO_LARGE", "1048576"),
    bad("2 MiB of device", "AttachDevice", j.AttachDeviceRequest(domain=RUNNING, xml=HUGE), "XML_TOO_LARGE"),
    bad("2 MiB of snapshot", "CreateSnapshot", j.CreateSnapshotRequest(domain=RUNNING, xml=HUGE), "XML_TOO_LARGE"),
    bad("entities", "DefineDomain", j.DefineDomainRequest(host="sim", xml=LAUGHS), "XML_INVALID", "entities"),
    bad("external entity", "CreateDomain", j.CreateDomainRequest(host="sim", xml=LEAK), "XML_INVALID", "entities"),
    bad("entities of a device", "UpdateDevice", j.UpdateDeviceRequest(domain=RUNNING, xml=LAUGHS), "XML_INVALID", "entities"),
    bad("entities of a snapshot", "CreateSnapshot", j.CreateSnapshotRequest(domain=RUNNING, xml=LAUGHS), "XML_INVALID", "entities"),
    bad("malformed device", "DetachDevice", j.DetachDeviceRequest(domain=RUNNING, xml="<disk"), "XML_INVALID", "well-formed"),
]
STATES = [
    bad("suspend off", "SuspendDomain", j.SuspendDomainRequest(domain=OFF), "WRONG_STATE", "guest-2", "shutoff", state="shutoff"),
    bad("start running", "StartDomain", j.StartDomainRequest(domain=RUNNING), "WRONG_STATE", "guest-1", "running", state="running"),
    bad("resume running", "ResumeDomain", j.ResumeDomainRequest(domain=RUNNING), "WRONG_STATE", "running", state="running"),
    bad("save off", "ManagedSaveDomain", j.ManagedSaveDomainRequest(domain=OFF), "WRONG_STATE", "shutoff", state="shutoff"),
    bad("destroy off", "DestroyDomain", j.DestroyDomainRequest(domain=OFF), "WRONG_STATE", "shutoff", state="shutoff"),
    bad(
        "live memory off",
        "SetMemory",
        j.SetMemoryRequest(domain=OFF, memory_bytes=1 << 20, scope=t.CHANGE_SCOPE_LIVE),
        "WRONG_STATE",
        state="shutoff",
    ),
    bad(
        "lacks devices", "AttachDevice", j.AttachDeviceRequest(domain=MOCK, xml="<disk/>"), "UNSUPPORTED_BY_HYPERVISOR", "mock", method="AttachDevice"
    ),
    bad(
        "lacks migration",
        "MigrateDomain",
        j.MigrateDomainRequest(domain=MOCK, settings=t.MigrationSettings(host="sim")),
        "UNSUPPORTED_BY_HYPERVISOR",
        "mock",
    ),
]
TARGETS = [
    bad(name, "MigrateDomain", migrate(**settings), "MIGRATION_TARGET_NOT_ALLOWED", "not allowed")
    for name, settings in {
        "runs a command": {"uri": "qemu+ext://host/system?command=/tmp/evil"},
        "runs a command, no query": {"uri": "qemu+ext://host/system"},
        "ssh": {"uri": "qemu+ssh://root@host/system"},
        "query": {"uri": "qemu+tcp://host/system?pkipath=/tmp"},
        "fragment": {"uri": "qemu+tcp://host/system#x"},
        "password": {"uri": "qemu+tcp://user:secret-word@host/system"},
        "local": {"uri": "qemu:///system"},
        "no host": {"uri": "qemu+tcp:///system"},
        "no URI": {"uri": "::::"},
        "control characters": {"uri": "qemu+tcp://host/sys\ntem"},
        "memory elsewhere": {"uri": "qemu+tcp://host/system", "migrate_uri": "unix:/tmp/socket"},
        "memory with a query": {"uri": "qemu+tcp://host/system", "migrate_uri": "tcp://host:1?x=y"},
    }.items()
]
EVERY = [*UNKNOWN, *UNREACHED, *UNNAMED, *NUMBERS, *XML, *STATES, *TARGETS]
