"""What lint cannot hold about the contract: names, shapes and comments that clients and later issues rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from virtrpc.v1 import devices_pb2, job_pb2, query_pb2, resources_pb2, snapshot_pb2, spec_pb2, types_pb2
from virtrpc_server.contract import METHODS, waits_for

PROTO = Path(__file__).resolve().parent.parent / "proto"
FILES: tuple[FileDescriptor, ...] = (
    devices_pb2.DESCRIPTOR,
    spec_pb2.DESCRIPTOR,
    resources_pb2.DESCRIPTOR,
    types_pb2.DESCRIPTOR,
    query_pb2.DESCRIPTOR,
    job_pb2.DESCRIPTOR,
    snapshot_pb2.DESCRIPTOR,
)
SERVICES = {service.name: service for file in FILES for service in file.services_by_name.values()}

# Every RPC, and what it may wait for. Those of tier 1 in api-map.tsv are here under the names given there.
WAITS_FOR = {
    "QueryService": {
        "NOTHING": {
            "GetDomain",
            "ListDomains",
            "GetDomainXml",
            "GetMetadata",
            "GetHostStats",
            "ListVcpus",
            "GetBlockStats",
            "GetInterfaceStats",
            "GetMemoryStats",
            "ListDomainStats",
            "WatchDomains",
            "ListHosts",
            "GetHost",
        },
    },
    "JobService": {
        "NOTHING": {"GetJob", "ListJobs", "WatchJob", "WatchJobs"},
        "CONTROL": {"CancelJob", "DestroyDomain", "FinishBlockJob", "SetJobSpeed", "TuneMigration"},
        "CONDITION": {
            "SuspendDomain",
            "ResumeDomain",
            "StartDomain",
            "ShutdownDomain",
            "RebootDomain",
            "DefineDomain",
            "UndefineDomain",
            "CreateDomain",
            "AttachDevice",
            "DetachDevice",
            "UpdateDevice",
            "SetUserPassword",
            "ManagedSaveDomain",
            "SetMemory",
            "ResetDomain",
            "SaveDomain",
            "RestoreDomain",
            "DumpCore",
            "DefineSaveImage",
            "DefineManagedSaveImage",
            "SetGuestVcpus",
            "SetAuthorizedSshKeys",
            "FreezeFilesystems",
            "ThawFilesystems",
            "TrimFilesystems",
            "SetGuestTime",
            "SendKey",
            "InjectNmi",
            "PowerManagementSuspend",
            "PowerManagementWakeup",
            "RenameDomain",
            "SetMetadata",
            "SetAutostart",
            "SetVcpus",
            "SetMemoryStatsPeriod",
            "ResizeBlock",
            "PinVcpu",
            "PinEmulator",
            "AddIoThread",
            "DeleteIoThread",
            "PinIoThread",
            "SetBlockIoTune",
            "SetInterfaceParameters",
            "SetLifecycleAction",
            "SetSchedulerParameters",
            "SetMemoryParameters",
            "SetNumaParameters",
            "SetBlkioParameters",
            "SetIoThreadParameters",
            "SetVcpu",
            "SetPerfEvents",
            "StartDirtyRateCalculation",
            "SetBlockThreshold",
            "SendProcessSignal",
            "PullBlock",
            "CopyBlock",
            "CommitBlock",
            "CreateSnapshot",
            "RevertToSnapshot",
            "CreateCheckpoint",
            "DeleteCheckpoint",
            "BackupDomain",
            "MigrateDomain",
        },
    },
    "SnapshotService": {
        "HYPERVISOR": {
            "ListSnapshots",
            "GetSnapshot",
            "GetSnapshotXml",
            "GetCurrentSnapshot",
            "ListCheckpoints",
            "GetCheckpoint",
            "GetCheckpointXml",
            "PlanMigration",
            "GetGuestInfo",
            "TakeScreenshot",
            "GetDomainCapabilities",
            "GetSaveImage",
            "GetManagedSaveImage",
            "GetGuestVcpus",
            "GetAuthorizedSshKeys",
            "GetResourceParameters",
            "GetDirtyRate",
        },
        "CONDITION": {"DeleteSnapshot", "RemoveManagedSave"},
    },
}
WATCHES = {"WatchDomains", "WatchJobs"}
NOT_VERBS = {"GetJob", "ListJobs", "WatchJob", "WatchJobs", "CancelJob", "FinishBlockJob", "SetJobSpeed", "TuneMigration"}
STATISTICS = {
    "CpuStats",
    "MemoryStats",
    "BlockDeviceStats",
    "InterfaceDeviceStats",
    "Vcpu",
    "VcpuCounts",
    "HostStats",
    "NodeInfo",
    "JobProgress",
    "MigrationProgress",
    "DaemonBudget",
}
# Numbers that are no measure: counts, ordinals and codes. A number that is neither here nor ends in a unit is a mistake.
UNITLESS = re.compile(
    r"(requests|screen_number|filesystems|vcpus|keycodes|prefix_bits|errors|faults|packets|drops|allocations|failures|cpus|domains|children|nodes|_per_(node|socket|core)|max_vcpus|restarts|places|used|waiting"
    r"|connections|threads|_level|_pages|_misses|_overflows|steps_taken"
    r"|cpu_shares|weight|poll_grow|poll_shrink|helper_threads_minimum|helper_threads_maximum"
    r"|boot_order|port|tls_port|vlan_id"
    r"|live|config|maximum|maximum_config|id|pid|number|host_cpu|revision|queue_position|memory_iteration|page_size|total_size|code|libvirt_code|libvirt_domain)$"
)
UNIT = re.compile(r"(_bytes|_bytes_per_second|_operations_per_second|_hertz|^percent|_percent)$")
CODES = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "UNKNOWN",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "UNAVAILABLE",
    "INTERNAL",
    "UNIMPLEMENTED",
}
SAYS_ROLE = re.compile(r"Who may\s+call:\s+(viewer|operator|admin)\b")
INT32 = {"page_size", "code", "libvirt_code", "libvirt_domain"}
TIME = re.compile(r"(_time|_timeout|_age|^age|^eta|^elapsed)$")


def verbs() -> list[MethodDescriptor]:
    """RPCs that make a job."""
    return [method for method in METHODS if method.output_type.name == "JobUpdate" and method.name != "WatchJob"]


def messages() -> list[Descriptor]:
    """All messages of the package but the entries of maps."""
    return [message for file in FILES for message in file.message_types_by_name.values()]


def fields() -> Iterator[FieldDescriptor]:
    """All fields of the package."""
    for message in messages():
        yield from message.fields


def enums() -> list[EnumDescriptor]:
    """All enums of the package."""
    return [enum for file in FILES for enum in file.enum_types_by_name.values()]


def type_name(field: FieldDescriptor) -> str:
    """The full name of a field's message; empty where it is no message."""
    return field.message_type.full_name if field.message_type else ""


def is_number(field: FieldDescriptor) -> bool:
    """Whether a field holds numbers that people read."""
    return field.type not in {
        FieldDescriptor.TYPE_MESSAGE,
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BYTES,
        FieldDescriptor.TYPE_BOOL,
        FieldDescriptor.TYPE_ENUM,
    }


@pytest.fixture(scope="module")
def comments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The leading comments of services, RPCs and enum values: "Service", "Service.Method", "Enum.VALUE"."""
    image = tmp_path_factory.mktemp("contract") / "image.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}", "--include_source_info", f"--descriptor_set_out={image}"]
    subprocess.run([*command, *(f"{file.name}" for file in FILES)], check=True, cwd=PROTO)
    found: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(image.read_bytes()).file:
        for location in file.source_code_info.location:
            if name := commented(file, list(location.path)):
                found[name] = location.leading_comments
    return found


def commented(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str | None:
    """The name under which `comments` keeps the thing at a source path, if it keeps it."""
    match path:
        case [6, service]:
            return file.service[service].name
        case [6, service, 2, method]:
            return f"{file.service[service].name}.{file.service[service].method[method].name}"
        case [5, enum, 2, value]:
            return f"{file.enum_type[enum].name}.{file.enum_type[enum].value[value].name}"
        case _:
            return None


def test_rpcs_and_what_they_wait_for() -> None:
    """The contract has exactly the RPCs that were agreed on, each with the option that says how it may wait."""
    found: dict[str, dict[str, set[str]]] = {}
    for method in METHODS:
        found.setdefault(method.containing_service.name, {}).setdefault(waits_for(method), set()).add(method.name)
    assert found == WAITS_FOR


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_role_of_an_rpc_is_the_one_that_its_comment_names(method: MethodDescriptor, comments: dict[str, str]) -> None:
    """At the RPC itself, or at its service where that names one for all its reads."""
    service = method.containing_service.name
    said = SAYS_ROLE.search(comments[f"{service}.{method.name}"]) or SAYS_ROLE.search(comments[service])
    assert said is not None
    role = types_pb2.Role.Name(method.GetOptions().Extensions[types_pb2.role])
    deletion = service == "SnapshotService" and method.output_type.name == "JobUpdate"
    assert role == ("ROLE_OPERATOR" if deletion else f"ROLE_{said[1].upper()}")


def test_one_file_a_service() -> None:
    """Each service stands in the file of its own name, and types.proto has none."""
    assert {service.name: service.file.name for service in SERVICES.values()} == {
        "QueryService": "virtrpc/v1/query.proto",
        "JobService": "virtrpc/v1/job.proto",
        "SnapshotService": "virtrpc/v1/snapshot.proto",
    }


def test_verbs_stream_their_job() -> None:
    """Each change of a domain streams JobUpdate; nothing else does, but WatchJob."""
    deletions = {"DeleteSnapshot", "RemoveManagedSave"}
    jobs = {method.name for method in SERVICES["JobService"].methods} - NOT_VERBS
    assert {method.name for method in verbs()} == jobs | deletions
    assert {method.name for method in METHODS if method.output_type.name == "JobUpdate"} - jobs - deletions == {"WatchJob"}


def test_streams() -> None:
    """Verbs and watches stream their answers, and a picture comes in pieces; everything else is unary, and nobody streams requests."""
    streaming = {method.name for method in METHODS if method.server_streaming}
    assert streaming == {method.name for method in verbs()} | WATCHES | {"WatchJob", "TakeScreenshot"}
    assert not any(method.client_streaming for method in METHODS)


@pytest.mark.parametrize("method", verbs(), ids=lambda method: method.name)
def test_verbs_take_options(method: MethodDescriptor) -> None:
    """A verb's request says first what it is about and then how to run the job, under the same numbers everywhere."""
    numbers = method.input_type.fields_by_number
    assert numbers[2].name == "options"
    assert type_name(numbers[2]) == "virtrpc.v1.JobOptions"
    assert numbers[1].name == ("host" if method.name in {"DefineDomain", "CreateDomain", "RestoreDomain", "DefineSaveImage"} else "domain")


def test_each_verb_has_a_kind_of_job() -> None:
    """JobKind has one value for each verb, made of its name."""
    kinds = {re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).upper() for method in verbs()}
    assert {name.removeprefix("JOB_KIND_") for name in types_pb2.JobKind.keys()} - {"UNSPECIFIED"} == kinds  # noqa: SIM118 (an enum, no dict)


def test_a_domain_is_named_the_same_way_everywhere() -> None:
    """Every field `domain` of a request is a DomainRef, with host and uuid or name."""
    asking = [message for message in messages() if message.name.endswith(("Request", "Filter"))]
    refs = [message.fields_by_name["domain"] for message in asking if "domain" in message.fields_by_name]
    assert refs
    assert {type_name(field) for field in refs} == {"virtrpc.v1.DomainRef"}
    assert [field.name for field in types_pb2.DomainRef.DESCRIPTOR.oneofs_by_name["ref"].fields] == ["uuid", "name"]


@pytest.mark.parametrize("name", ["DefineDomain", "CreateDomain", "AttachDevice", "UpdateDevice", "DetachDevice"])
def test_definitions_are_a_oneof(name: str) -> None:
    """What is given as XML today can be given in typed form tomorrow."""
    assert "xml" in {field.name for field in job_pb2.DESCRIPTOR.message_types_by_name[f"{name}Request"].oneofs_by_name["source"].fields}


@pytest.mark.parametrize("name", ["WatchDomainsResponse", "WatchJobsResponse"])
def test_batches_of_a_watch(name: str) -> None:
    """Both watches send the same kind of batch, and can be resumed."""
    message = next(message for message in messages() if message.name == name)
    assert {"changes", "resume_token", "reset", "unreachable"} <= set(message.fields_by_name)
    request = next(message for message in messages() if message.name == name.replace("Response", "Request"))
    assert {"filter", "resume_token", "heartbeat"} == set(request.fields_by_name)


def test_lists_come_in_pages() -> None:
    """Every list takes a page size and a token, and answers with the next one."""
    for method in (method for method in METHODS if method.name.startswith("List")):
        assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name), method.name
        assert "next_page_token" in method.output_type.fields_by_name, method.name


def test_numbers_carry_their_unit() -> None:
    """A number's name ends in its unit, or the number is a count, an ordinal or a code."""
    wrong = [field.full_name for field in fields() if is_number(field) and not UNIT.search(field.name) and not UNITLESS.search(field.name)]
    assert wrong == []


def test_numbers_are_int64() -> None:
    """Numbers are int64, but for page sizes, the codes of others, and the per cent."""
    for field in filter(is_number, fields()):
        small = FieldDescriptor.TYPE_INT32 if field.name in INT32 else FieldDescriptor.TYPE_INT64
        assert field.type == (FieldDescriptor.TYPE_DOUBLE if field.name == "percent" else small), field.full_name


def test_times_are_typed() -> None:
    """Points in time are Timestamp and lengths of time are Duration, whatever their name; no number of seconds anywhere."""
    for field in fields():
        if TIME.search(field.name):
            assert type_name(field) in {"google.protobuf.Timestamp", "google.protobuf.Duration"}, field.full_name


def test_statistics_can_be_absent() -> None:
    """A statistic that was not read is unset, never zero."""
    found = [message for message in messages() if message.name in STATISTICS]
    assert {message.name for message in found} == STATISTICS
    for field in (field for message in found for field in message.fields):
        if is_number(field) and field.full_name != "virtrpc.v1.Vcpu.number":
            assert field.has_presence, field.full_name


def test_what_a_reading_may_lack_can_be_absent() -> None:
    """Numbers and flags of a domain have presence, so that UNKNOWN is told from zero and from no."""
    for field in types_pb2.Domain.DESCRIPTOR.fields:
        if is_number(field) or field.type == FieldDescriptor.TYPE_BOOL:
            assert field.has_presence, field.name


def test_groups_say_when_they_were_read() -> None:
    """State, configuration and each group of statistics carry an observation of their own."""
    assert {"state_observation", "configuration_observation"} <= set(types_pb2.Domain.DESCRIPTOR.fields_by_name)
    for message in (query_pb2.CpuStats, query_pb2.MemoryStats, query_pb2.BlockStats, query_pb2.InterfaceStats):
        assert type_name(message.DESCRIPTOR.fields_by_name["observation"]) == "virtrpc.v1.Observation"


def test_a_job_has_one_result_for_each_sort_of_verb() -> None:
    """Job.result is a oneof, so that another sort of result can be added without bending it."""
    results = {type_name(field).rpartition(".")[2] for field in types_pb2.Job.DESCRIPTOR.oneofs_by_name["result"].fields}
    assert results == {
        "DomainResult",
        "DefineDomainResult",
        "CreateSnapshotResult",
        "MigrateDomainResult",
        "FileResult",
        "FilesystemsResult",
        "BlockJobResult",
        "CreateCheckpointResult",
        "BackupDomainResult",
    }


def test_job_states() -> None:
    """The states of a job are the design's, no more and no fewer."""
    names = [value.name.removeprefix("JOB_STATE_") for value in types_pb2.JobState.DESCRIPTOR.values]
    assert names[1:] == ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "PREEMPTED", "INTERRUPTED", "OUTCOME_UNKNOWN"]


@pytest.mark.parametrize("enum", enums(), ids=lambda enum: enum.name)
def test_enums_begin_with_unspecified(enum: EnumDescriptor) -> None:
    """Zero means "not said", under the enum's own prefix, and has no other name."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
    assert [value.name for value in enum.values if value.number == 0] == [f"{prefix}_UNSPECIFIED"]
    assert all(value.name.startswith(prefix + "_") for value in enum.values)


def test_passwords_are_redacted() -> None:
    """A field that carries a secret is marked, so that debug output leaves it out."""
    secrets = [field for field in fields() if re.search(r"password|passphrase|secret", field.name)]
    assert [field.full_name for field in secrets] == ["virtrpc.v1.Graphics.password", "virtrpc.v1.SetUserPasswordRequest.password"]
    assert all(field.GetOptions().debug_redact for field in secrets)


def test_every_rpc_says_who_may_call(comments: dict[str, str]) -> None:
    """An RPC's comment, or its service's, names the role that it takes."""
    for method in METHODS:
        service = method.containing_service.name
        text = comments[f"{service}.{method.name}"] + ("" if service == "JobService" else comments[service])
        assert re.search(r"Who may call:[^.]*\b(viewer|operator|admin)\b", text.replace("\n", " ")), method.full_name


def test_every_reason_has_a_status(comments: dict[str, str]) -> None:
    """Each ErrorReason says which status carries it, and stands in the comment in the form that the server's table is held to."""
    for value in types_pb2.ErrorReason.DESCRIPTOR.values[1:]:
        code, _, text = comments[f"ErrorReason.{value.name}"].strip().partition(": ")
        assert code in CODES, value.name
        assert text, value.name


def test_reasons_in_comments_exist(comments: dict[str, str]) -> None:
    """An RPC's comment names only reasons that ErrorReason has, so that a client can look each of them up."""
    reasons = {value.name.removeprefix("ERROR_REASON_") for value in types_pb2.ErrorReason.DESCRIPTOR.values}
    rows = [(name, row) for name, text in comments.items() for row in re.findall(r"^ {3}[A-Z_, ]+? {2,}(.*)$", text, re.MULTILINE)]
    named = [(name, word) for name, row in rows for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", row)]
    assert len(named) > len(METHODS)
    assert [(name, word) for name, word in named if word not in reasons] == []


def test_only_unavailable_means_this_server(comments: dict[str, str]) -> None:
    """No trouble with a hypervisor is UNAVAILABLE, or a mesh would eject the server for one bad host."""
    unavailable = {name for name, text in comments.items() if name.startswith("ErrorReason.") and text.startswith(" UNAVAILABLE:")}
    assert unavailable == {"ErrorReason.ERROR_REASON_DRAINING"}


def test_stubs_are_in_step() -> None:
    """The committed stubs of each language whose tools are here are what protoc makes of the contract."""
    done = subprocess.run([sys.executable, str(PROTO / "generate.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_drift_is_told(tmp_path: Path) -> None:
    """A stub that was changed, lost or left over makes --check fail and say which."""
    copy = tmp_path / "proto"
    stubs = tmp_path / "clients/python/virtrpc/v1"
    for source, target in ((PROTO, copy), (PROTO.parent / "clients/python/virtrpc/v1", stubs)):
        for path in [path for path in source.rglob("*") if path.suffix in {".proto", ".py", ".pyi"}]:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    (stubs / "job_pb2.py").write_text("# changed\n")
    (stubs / "query_pb2.pyi").unlink()
    (stubs / "old_pb2.py").write_text("")
    done = subprocess.run([sys.executable, str(copy / "generate.py"), "--check", "python"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = {"differs: virtrpc/v1/job_pb2.py", "missing: virtrpc/v1/query_pb2.pyi", "left over: virtrpc/v1/old_pb2.py"}
    assert told <= set(done.stderr.splitlines())


def test_a_break_is_caught(tmp_path: Path) -> None:
    """A field that clients of the baseline rely on cannot be taken away unnoticed."""
    copy = tmp_path / "virtrpc/v1"
    copy.mkdir(parents=True)
    for path in (PROTO / "virtrpc/v1").glob("*.proto"):
        text = path.read_text(encoding="utf-8")
        (copy / path.name).write_text(text.replace("string state_reason = 12;", "string state_cause = 12;"), encoding="utf-8")
    (tmp_path / "buf.yaml").write_bytes((PROTO / "buf.yaml").read_bytes())
    buf = Path(sys.executable).parent / "buf"
    command = [str(buf), "breaking", str(tmp_path), "--against", str(PROTO / "baseline.binpb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "state_reason" in done.stdout
