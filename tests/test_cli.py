"""The command line against a small fake server: what is asked of it, what is printed, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner, Result

from tests.beds.wait import wait_until
from tests.clients.fake import MODULES, WEB, Context, Fake, accepted, in_turn, job, refuse, serving_apart, then, until
from virtrpc.cli.main import app
from virtrpc.refs import duration
from virtrpc.v1 import devices_pb2 as d
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import spec_pb2
from virtrpc.v1 import types_pb2 as t

Run = Callable[..., Result]

DISK = "<disk/>"
NOW = datetime.now(UTC)
SUCCEEDED, RUNNING, QUEUED, CANCELLED = t.JOB_STATE_SUCCEEDED, t.JOB_STATE_RUNNING, t.JOB_STATE_QUEUED, t.JOB_STATE_CANCELLED


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A fake server."""
    with serving_apart() as server:
        yield server


@pytest.fixture
def run(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the program in this process, in a directory with a device in `d.xml`."""
    (tmp_path / "d.xml").write_text(DISK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTRPC_ADDRESS", fake.address)
    return lambda *words, stdin="": CliRunner().invoke(app, [str(word) for word in words], input=stdin)


COMMANDS: list[tuple[str, str]] = [
    ("list", "ListDomains"),
    ("show web", "GetDomain"),
    ("xml web", "GetDomainXml"),
    ("metadata web", "GetMetadata"),
    ("vcpus web", "ListVcpus"),
    ("block-stats web", "GetBlockStats"),
    ("interface-stats web", "GetInterfaceStats"),
    ("memory-stats web", "GetMemoryStats"),
    ("stats", "ListDomainStats"),
    ("hosts", "ListHosts"),
    ("host local", "GetHost"),
    ("host-stats local", "GetHostStats"),
    ("watch", "WatchDomains"),
    ("start web", "StartDomain"),
    ("shutdown web", "ShutdownDomain"),
    ("reboot web", "RebootDomain"),
    ("suspend web", "SuspendDomain"),
    ("resume web", "ResumeDomain"),
    ("destroy web", "DestroyDomain"),
    ("save-to web /s/web.save --overwrite", "SaveDomain"),
    ("restore /s/web.save", "RestoreDomain"),
    ("dump web /s/web.core --memory-only --format kdump-zlib", "DumpCore"),
    ("save-image /s/web.save", "GetSaveImage"),
    ("define-save-image /s/web.save d.xml --paused", "DefineSaveImage"),
    ("managed-save-image web", "GetManagedSaveImage"),
    ("define-managed-save-image web d.xml", "DefineManagedSaveImage"),
    ("guest-vcpus web", "GetGuestVcpus"),
    ("set-guest-vcpus web 1 2 --offline", "SetGuestVcpus"),
    ("ssh-keys web root", "GetAuthorizedSshKeys"),
    ("set-ssh-keys web root - --replace", "SetAuthorizedSshKeys"),
    ("screenshot web picture.ppm", "TakeScreenshot"),
    ("freeze web --mountpoint /", "FreezeFilesystems"),
    ("thaw web", "ThawFilesystems"),
    ("trim web --minimum 1MiB", "TrimFilesystems"),
    ("set-time web --to 2025-01-31T23:59:59+00:00", "SetGuestTime"),
    ("guest-info web --part os", "GetGuestInfo"),
    ("domain-capabilities local --arch x86_64", "GetDomainCapabilities"),
    ("reset web", "ResetDomain"),
    ("pm-suspend web disk", "PowerManagementSuspend"),
    ("pm-wakeup web", "PowerManagementWakeup"),
    ("send-key web KEY_LEFTCTRL 46", "SendKey"),
    ("inject-nmi web", "InjectNmi"),
    ("save web", "ManagedSaveDomain"),
    ("remove-save web", "RemoveManagedSave"),
    ("define d.xml", "DefineDomain"),
    ("undefine web", "UndefineDomain"),
    ("create d.xml", "CreateDomain"),
    ("attach web d.xml", "AttachDevice"),
    ("detach web d.xml", "DetachDevice"),
    ("update web d.xml", "UpdateDevice"),
    ("set-memory web 1GiB", "SetMemory"),
    ("set-vcpus web 2 --config", "SetVcpus"),
    ("set-stats-period web 10s", "SetMemoryStatsPeriod"),
    ("set-autostart web --disable", "SetAutostart"),
    ("set-metadata web --title short", "SetMetadata"),
    ("rename web new", "RenameDomain"),
    ("resize-block web vda 2GiB", "ResizeBlock"),
    ("pin-vcpu web 0 0-1,3", "PinVcpu"),
    ("pin-emulator web 0", "PinEmulator"),
    ("add-io-thread web 1 --config", "AddIoThread"),
    ("delete-io-thread web 1", "DeleteIoThread"),
    ("pin-io-thread web 1 0", "PinIoThread"),
    ("set-block-io-tune web vda --read 10MiB --write-operations 0", "SetBlockIoTune"),
    ("set-interface web 52:54:00:00:00:01 --inbound 1MiB", "SetInterfaceParameters"),
    ("set-scheduler web --shares 2048 --vcpu-period 100ms --vcpu-quota 50ms", "SetSchedulerParameters"),
    ("set-memory-limits web --hard 2GiB --swap-hard 0B", "SetMemoryParameters"),
    ("set-numa web --mode strict --nodes 0-1 --config", "SetNumaParameters"),
    ("set-blkio web --weight 500 --read /dev/sda=1000000", "SetBlkioParameters"),
    ("resources web", "GetResourceParameters"),
    ("set-io-thread web 1 --poll-max 1ms --live", "SetIoThreadParameters"),
    ("set-vcpu web 1-2 --disable", "SetVcpu"),
    ("set-perf-events web --enable cpu_cycles", "SetPerfEvents"),
    ("set-block-threshold web vda 8GiB", "SetBlockThreshold"),
    ("send-process-signal web 1 TERM", "SendProcessSignal"),
    ("start-dirty-rate web --period 2s", "StartDirtyRateCalculation"),
    ("dirty-rate web", "GetDirtyRate"),
    ("set-lifecycle-action web crash coredump-restart", "SetLifecycleAction"),
    ("pull-block web vda --base /images/base.qcow2", "PullBlock"),
    ("copy-block web vda --to /images/copy.qcow2 --pivot --bandwidth 10MiB", "CopyBlock"),
    ("commit-block web vda --keep-mirroring", "CommitBlock"),
    ("set-password web root --stdin", "SetUserPassword"),
    ("snapshot create web", "CreateSnapshot"),
    ("snapshot list web", "ListSnapshots"),
    ("snapshot show web s1", "GetSnapshot"),
    ("snapshot xml web s1", "GetSnapshotXml"),
    ("snapshot current web", "GetCurrentSnapshot"),
    ("snapshot revert web s1", "RevertToSnapshot"),
    ("snapshot delete web s1", "DeleteSnapshot"),
    ("checkpoint create web --without vdb", "CreateCheckpoint"),
    ("checkpoint list web", "ListCheckpoints"),
    ("checkpoint show web c1", "GetCheckpoint"),
    ("checkpoint xml web c1 --size", "GetCheckpointXml"),
    ("checkpoint delete web c1", "DeleteCheckpoint"),
    ("backup web --disk vda=/var/lib/libvirt/backups/vda.qcow2 --checkpoint c1", "BackupDomain"),
    ("migrate web other", "MigrateDomain"),
    ("plan-migration web other", "PlanMigration"),
    ("tune-migration job-1 --downtime 500ms", "TuneMigration"),
    ("jobs", "ListJobs"),
    ("job show job-1", "GetJob"),
    ("job watch job-1", "WatchJob"),
    ("job cancel job-1", "CancelJob"),
    ("job finish job-1 --stop", "FinishBlockJob"),
    ("job speed job-1 10MiB", "SetJobSpeed"),
    ("watch-jobs", "WatchJobs"),
]


def test_every_rpc_has_a_command() -> None:
    """No RPC of the contract is without a command in the list that the next test runs."""
    rpcs = {method.name for module, _ in MODULES for service in module.DESCRIPTOR.services_by_name.values() for method in service.methods}
    assert rpcs == {rpc for _, rpc in COMMANDS}


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(("words", "rpc"), COMMANDS)
def test_each_command_calls_its_rpc(fake: Fake, run: Run, words: str, rpc: str, as_json: bool) -> None:
    """Each command asks its RPC and ends with 0, as text and as JSON; everything on stdout is JSON then. A watch ends when it is refused."""
    fake.on["WatchDomains"] = ending(q.WatchDomainsResponse(caught_up=True))
    fake.on["WatchJobs"] = ending(j.WatchJobsResponse(caught_up=True))
    fake.on["TakeScreenshot"] = pieces
    fake.on["PlanMigration"] = lambda *_: s.PlanMigrationResponse(feasible=True)
    result = run(*words.split(), *(["--json"] if as_json else []), stdin="secret\n")
    assert result.exit_code == words.startswith("watch"), result.output
    assert len(fake.asked(rpc)) == 1
    if as_json:
        assert documents(result.stdout)


def test_a_table_of_domains(fake: Fake, run: Run) -> None:
    """`list` prints a table without control codes, and warns on stderr of hosts that are not live."""
    down = t.UnreachableHost(host="b", freshness=t.FRESHNESS_STALE, reason="HOST_UNREACHABLE", message="connection refused")
    fake.on["ListDomains"] = lambda *_: q.ListDomainsResponse(domains=[WEB], unreachable=[down])
    result = run("list", "--state", "running", "--active", "--host", "local")
    assert result.stdout.splitlines()[1].split()[:4] == ["local", "7", "web", "running"]
    assert "host b is not live [HOST_UNREACHABLE]: connection refused" in result.stderr
    assert "\x1b" not in result.output
    assert fake.asked("ListDomains") == [q.ListDomainsRequest(filter=t.DomainFilter(hosts=["local"], states=[t.DOMAIN_STATE_RUNNING], active=True))]


def test_pages_become_one_document(fake: Fake, run: Run) -> None:
    """`list --json` asks for every page, and prints one document with the contract's field names."""
    pages = {"": q.ListDomainsResponse(domains=[WEB], next_page_token="2"), "2": q.ListDomainsResponse(domains=[t.Domain(name="db")])}
    fake.on["ListDomains"] = lambda request, _: pages[request.page_token]
    (document,) = documents(run("list", "--json").stdout)
    assert [domain["name"] for domain in document["domains"]] == ["web", "db"]
    assert document["next_page_token"] == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["web"], t.DomainRef(name="web")),
        (["a/web"], t.DomainRef(host="a", name="web")),
        (["web", "--host", "a"], t.DomainRef(host="a", name="web")),
        ([WEB.uuid], t.DomainRef(uuid=WEB.uuid)),
        ([f"a/{WEB.uuid.upper()}"], t.DomainRef(host="a", uuid=WEB.uuid.upper())),
    ],
)
def test_how_a_domain_is_named(fake: Fake, run: Run, words: list[str], expected: t.DomainRef) -> None:
    """A domain is a name or a UUID, with its host before a slash or in --host."""
    run("show", *words)
    assert fake.asked("GetDomain") == [q.GetDomainRequest(domain=expected)]


def test_hosts_that_contradict_each_other(fake: Fake, run: Run) -> None:
    """Where HOST/NAME and --host differ nothing is asked: a destroy must not hit another guest."""
    result = run("destroy", "a/web", "--host", "b")
    assert (result.exit_code, fake.asked("DestroyDomain")) == (2, [])
    assert run("destroy", "a/web", "--host", "a").exit_code == 0


@pytest.mark.parametrize("address", ["unix://run/virtrpc.sock", "http://localhost:50051", "localhost", "relative.sock", "[::1]"])
def test_addresses_that_are_none(run: Run, address: str) -> None:
    """What gRPC would look up as a name, or give a port of its own choice, is wrong usage, with the form that is meant."""
    result = run("list", "--address", address)
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr or "unix:///run/virtrpc.sock" in result.stderr


def test_a_running_domain_s_number(fake: Fake, run: Run) -> None:
    """`show --id` asks by number; what is no number is wrong usage."""
    assert run("show", "--id", "a/7").exit_code == 0
    assert fake.asked("GetDomain") == [q.GetDomainRequest(host_domain_id=q.HostDomainId(host="a", id=7))]
    assert run("show", "--id", "web").exit_code == 2


NBD_HOSTS = [d.NetworkDiskHost(name="h", port=10809)]


@pytest.mark.parametrize(
    ("words", "rpc", "expected"),
    [
        (
            "attach-disk web path=/b.qcow2,format=qcow2,target=vdb,readonly --live",
            "AttachDevice",
            {"disk": d.Disk(source=d.DiskSource(file="/b.qcow2"), format="qcow2", target="vdb", readonly=True), "scope": t.CHANGE_SCOPE_LIVE},
        ),
        (
            "attach-disk web network=nbd:x@h:10809,boot=1",
            "AttachDevice",
            {
                "disk": d.Disk(
                    source=d.DiskSource(network=d.NetworkDisk(protocol="nbd", name="x", hosts=[d.NetworkDiskHost(name="h", port=10809)])),
                    boot_order=1,
                )
            },
        ),
        ("attach-interface web network=default,model=virtio", "AttachDevice", {"interface": d.Interface(network="default", model="virtio")}),
        ("detach-disk web vdb --config", "DetachDevice", {"disk_target": "vdb", "scope": t.CHANGE_SCOPE_CONFIG}),
        ("detach-interface web 52:54:00:00:00:01", "DetachDevice", {"interface_mac": "52:54:00:00:00:01"}),
        (
            "update-disk web target=sda,empty --force",
            "UpdateDevice",
            {"disk": d.Disk(target="sda", source=d.DiskSource(empty=d.EmptyDisk())), "force": True},
        ),
        ("update-interface web mac=a,link=down,vlan=7", "UpdateDevice", {"interface": d.Interface(mac="a", link_state=d.LINK_STATE_DOWN, vlan_id=7)}),
    ],
)
def test_devices_in_words(fake: Fake, run: Run, words: str, rpc: str, expected: dict[str, Any]) -> None:
    """Disks and interfaces are said in words, without XML."""
    run(*words.split())
    (request,) = fake.asked(rpc)
    request.ClearField("options")
    assert request == type(request)(domain=t.DomainRef(name="web"), **expected)


def test_a_definition_in_words(fake: Fake, run: Run, tmp_path: Path) -> None:
    """A domain is defined by options, with the rest as an overlay; a file and a name exclude each other."""
    overlay = tmp_path / "rest.xml"
    overlay.write_text("<domain/>")
    words = f"--name web --memory 2GiB --vcpus 2 --disk path=/a,format=qcow2 --disk device=cdrom --interface network=default --overlay {overlay}"
    run("define", *words.split(), "--kernel", "/k", "--cmdline", "a b", "--graphics", "vnc,listen=0.0.0.0", "--replace", "--host", "a")
    (request,) = fake.asked("DefineDomain")
    assert (request.host, request.replace) == ("a", True)
    assert request.spec == spec_pb2.DomainSpec(
        name="web",
        memory_bytes=2 << 30,
        vcpus=2,
        disks=[d.Disk(source=d.DiskSource(file="/a"), format="qcow2"), d.Disk(device=d.DISK_DEVICE_CDROM)],
        interfaces=[d.Interface(network="default")],
        kernel=spec_pb2.KernelBoot(kernel="/k", cmdline="a b"),
        graphics=[d.Graphics(type=d.GRAPHICS_TYPE_VNC, listen_address="0.0.0.0")],
        xml_overlay="<domain/>",
    )
    run("create", str(overlay))
    assert fake.asked("CreateDomain")[0].xml == "<domain/>"
    for bad in ([], [str(overlay), "--name", "web"], ["--name", "web", "--kernel", "/k", "--uefi"]):
        assert run("define", *bad).exit_code == 2
    assert len(fake.asked("DefineDomain")) == 1


@pytest.mark.parametrize("words", ["attach-disk web colour=red", "attach-disk web boot=x", "update-interface web link=sideways"])
def test_words_that_no_device_has(fake: Fake, run: Run, words: str) -> None:
    """A word that means nothing is wrong usage, and nothing is asked."""
    result = run(*words.split())
    assert (result.exit_code, fake.asked("AttachDevice"), fake.asked("UpdateDevice")) == (2, [], [])


def test_a_domain_in_full(fake: Fake, run: Run) -> None:
    """`show --full` asks for the full view, and shows disks, interfaces and screens."""
    disk = d.Disk(target="vda", bus="virtio", format="qcow2", source=d.DiskSource(file="/a.qcow2"), readonly=True, device=d.DISK_DEVICE_DISK)
    interface = d.Interface(mac="52:54:00:00:00:01", network="default", link_state=d.LINK_STATE_DOWN)
    screen = d.Graphics(type=d.GRAPHICS_TYPE_VNC, listen_address="127.0.0.1", port=5901)
    full = t.Domain(host="a", name="web", disks=[disk], interfaces=[interface], graphics=[screen])
    fake.on["GetDomain"] = lambda _, __: q.GetDomainResponse(domain=full)
    shown = run("show", "web", "--full").stdout
    assert fake.asked("GetDomain")[0].view == t.DOMAIN_VIEW_FULL
    for word in ("/a.qcow2", "readonly", "network default", "down", "127.0.0.1", "5901"):
        assert word in shown


@pytest.mark.parametrize(("text", "size"), [("2GiB", 2 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("1GB", 10**9), ("4096B", 4096)])
def test_sizes_have_units(fake: Fake, run: Run, text: str, size: int) -> None:
    """Sizes are taken with a unit."""
    run("set-memory", "web", text, "--live", "--config")
    (request,) = fake.asked("SetMemory")
    assert (request.memory_bytes, request.scope) == (size, t.CHANGE_SCOPE_BOTH)


@pytest.mark.parametrize("text", ["2048", "much", "-1GiB", "2XB"])
def test_sizes_without_a_unit_are_refused(fake: Fake, run: Run, text: str) -> None:
    """A bare number is wrong usage: virsh would take it for KiB."""
    assert run("set-memory", "web", text).exit_code == 2
    assert not fake.calls


def test_job_options(fake: Fake, run: Run) -> None:
    """The three job options reach the request, and each call has a request id of its own."""
    run("suspend", "web", "--wait-timeout", "0", "--run-timeout", "2m", "--on-disconnect", "cancel")
    options = fake.asked("SuspendDomain")[0].options
    assert (options.wait_timeout.ToSeconds(), options.HasField("wait_timeout"), options.run_timeout.ToSeconds()) == (0, True, 120)
    assert options.on_disconnect == t.ON_DISCONNECT_CANCEL
    assert options.request_id
    assert run("suspend", "web", "--on-disconnect", "never").exit_code == 2


def test_the_password_comes_from_stdin(fake: Fake, run: Run) -> None:
    """A password is the first line of stdin; it is not printed, and an empty one is not sent."""
    result = run("set-password", "web", "root", stdin="s3cret word\n")
    assert fake.asked("SetUserPassword")[0].password == "s3cret word"
    assert "s3cret" not in result.output
    assert run("set-password", "web", "root", stdin="\n").exit_code == 2


def test_snapshot_specs(fake: Fake, run: Run) -> None:
    """virsh's memspec and diskspec make the typed definition."""
    run("snapshot", "create", "web", "--name", "s1", "--memspec", "/m,,m", "--diskspec", "vda,file=/d", "--diskspec", "vdb,snapshot=no")
    expected = j.SnapshotDefinition(
        name="s1",
        memory_location=j.SNAPSHOT_LOCATION_EXTERNAL,
        memory_path="/m,m",
        disks=[
            j.SnapshotDisk(device="vda", location=j.SNAPSHOT_LOCATION_EXTERNAL, path="/d"),
            j.SnapshotDisk(device="vdb", location=j.SNAPSHOT_LOCATION_NONE),
        ],
    )
    assert fake.asked("CreateSnapshot")[0].definition == expected
    assert run("snapshot", "create", "web", "--diskspec", "vda,driver=qcow2").exit_code == 2
    assert run("snapshot", "create", "web", "--xml", "d.xml", "--name", "s1").exit_code == 2


def test_migration_settings(fake: Fake, run: Run) -> None:
    """A destination is a host's name, or a URI where it looks like one; unset choices are left to the server."""
    run("migrate", "web", "qemu+tls://there/system", "--no-live", "--bandwidth", "100MiB", "--undefinesource")
    run("migrate", "web", "there")
    first, second = (request.settings for request in fake.asked("MigrateDomain"))
    assert first == t.MigrationSettings(uri="qemu+tls://there/system", live=False, bandwidth_bytes_per_second=100 << 20, undefine_source=True)
    assert second == t.MigrationSettings(host="there")


def test_ways_of_migration(fake: Fake, run: Run) -> None:
    """Downtime, ways and a schedule are said in options."""
    words = "--downtime 500ms --auto-converge --post-copy --parallel 4 --compress zstd --copy-storage inc --disk vda --tls"
    steps = "--step 30s:downtime=2s --step 1m:bandwidth=1GiB --step 5m:post-copy"
    run("migrate", "web", "there", *words.split(), *steps.split())
    assert fake.asked("MigrateDomain")[0].settings == t.MigrationSettings(
        host="there",
        max_downtime=Duration(nanos=500_000_000),
        auto_converge=t.MigrationAutoConverge(),
        post_copy=t.MigrationPostCopy(),
        parallel=t.MigrationParallel(connections=4),
        compression=t.MigrationCompression(methods=[t.MIGRATION_COMPRESSION_METHOD_ZSTD]),
        storage=t.MigrationStorage(copy=t.MIGRATION_STORAGE_COPY_INCREMENTAL, disks=["vda"]),
        tls=t.MigrationTls(),
        schedule=[
            t.MigrationStep(after=Duration(seconds=30), max_downtime=Duration(seconds=2)),
            t.MigrationStep(after=Duration(seconds=60), bandwidth_bytes_per_second=1 << 30),
            t.MigrationStep(after=Duration(seconds=300), post_copy=True),
        ],
    )
    for wrong in ("--step 30s", "--step 30s:throttle", "--step 30s:downtime", "--copy-storage some", "--disk vda", "--compress zip"):
        assert run("migrate", "web", "there", *wrong.split()).exit_code == 2, wrong


def test_a_migration_in_words(fake: Fake, run: Run) -> None:
    """`job show` tells what is special about a move: what the guest writes, downtimes, throttling, and its schedule."""
    moving = t.MigrationProgress(
        dirty_rate_bytes_per_second=8 << 20,
        auto_converge_percent=30,
        expected_downtime=Duration(seconds=2),
        max_downtime=Duration(nanos=300_000_000),
        stalled=Duration(seconds=5),
        steps_taken=1,
        last_step=t.MigrationStep(after=Duration(seconds=5), pause=True),
        last_step_error="refused",
    )
    fake.on["GetJob"] = lambda *_: j.GetJobResponse(job=t.Job(job_id="job-1", migration=moving))
    output = " ".join(run("job", "show", "job-1").output.split())
    for words in (
        "guest writes 8",
        "throttled by 30 %",
        "expected downtime 2",
        "at most 0.3",
        "no progress for 5",
        "step 1 taken: pause (refused)",
    ):
        assert words in output, (words, output)


def test_tune_migration(fake: Fake, run: Run) -> None:
    """A migration is tuned by its job, in units."""
    run("tune-migration", "job-1", "--downtime", "2s", "--bandwidth", "1GiB", "--post-copy")
    wanted = j.TuneMigrationRequest(job_id="job-1", max_downtime=Duration(seconds=2), bandwidth_bytes_per_second=1 << 30, start_post_copy=True)
    assert fake.asked("TuneMigration") == [wanted]


def test_limits_are_told_in_words(fake: Fake, run: Run) -> None:
    """Sizes with their units, lengths of time as such, and what is not limited as that."""
    told = s.GetResourceParametersResponse(scheduler_type="posix")
    told.scheduler.cpu_shares, told.memory.hard_limit_bytes, told.memory.soft_limit_bytes = 1024, 0, 1 << 30
    told.scheduler.vcpu_period.FromMilliseconds(100)
    told.scheduler.vcpu_quota.FromMilliseconds(0)
    fake.on["GetResourceParameters"] = lambda *_: told
    lines = dict(line.split("  ", 1) for line in run("resources", "web").stdout.splitlines() if "  " in line)
    assert {label: words.strip() for label, words in lines.items()} == {
        "Scheduler": "posix",
        "Cpu shares": "1024",
        "Vcpu period": "0.1 s",
        "Vcpu quota": "no limit",
        "Hard limit": "no limit",
        "Soft limit": "1.00 GiB",
    }


def test_a_host_that_is_to_be_named(fake: Fake, run: Run) -> None:
    """The advice names no option that the command may not have."""
    fake.on["GetHostStats"] = lambda _, context: refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "name one", {"field": "host"})
    assert "--help says where" in run("host-stats").stderr


def test_xml_is_read_from_a_file_or_stdin(fake: Fake, run: Run, tmp_path: Path) -> None:
    """XML comes from a file or stdin; a missing, oversized or garbled one is wrong usage and nothing is sent."""
    run("attach", "web", "d.xml")
    run("attach", "web", "-", stdin="<hostdev/>")
    assert [request.xml for request in fake.asked("AttachDevice")] == [DISK, "<hostdev/>"]
    (tmp_path / "big.xml").write_text("x" * (1024 * 1024 + 1))
    (tmp_path / "bad.xml").write_bytes(b"\xff\xfe")
    assert [run("define", name).exit_code for name in ("none.xml", "big.xml", "bad.xml")] == [2, 2, 2]
    assert not fake.asked("DefineDomain")


def test_progress_as_lines(fake: Fake, run: Run) -> None:
    """Without a terminal progress is a few plain lines on stderr: who is in the way, bytes, rate, time to go; stdout has the result alone."""
    holder = t.JobHolder(job_id="job-0", kind=t.JOB_KIND_SUSPEND_DOMAIN, owner="unix", age=duration(3))
    readings = [
        t.JobProgress(processed_bytes=percent << 20, total_bytes=100 << 20, percent=percent, rate_bytes_per_second=10 << 20, eta=duration(9))
        for percent in range(1, 100)
    ]
    fake.on["ManagedSaveDomain"] = then(
        job(QUEUED, 1, waiting_for=t.JOB_WAITING_FOR_CONDITION, holders=[holder]),
        *(job(RUNNING, 2 + index, progress=reading) for index, reading in enumerate(readings)),
        job(SUCCEEDED, 200, start_time=NOW, end_time=NOW + timedelta(seconds=12)),
    )
    result = run("save", "web")
    assert result.stdout == "managed save web: done in 12 s\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "virtrpc: managed save web: queued, waiting for the domain: suspend domain job-0, by unix, for 3.0 s"
    assert lines[1] == "virtrpc: managed save web: running, 1.00 MiB of 100 MiB, 10.0 MiB/s, 9.0 s left 1 %"
    assert len(lines) == 1 + 10 + 1
    assert "\x1b" not in result.output


SERVED = t.Backup(
    mode=t.BACKUP_MODE_PULL,
    disks=[t.BackupDisk(device="vda", path="/scratch"), t.BackupDisk(device="vdb", path="/other", export_name="data")],
    server=t.BackupServer(socket="/run/nbd"),
)


def test_a_backup_that_is_served(fake: Fake, run: Run) -> None:
    """Once it is READY it is said, one time, where each disk is fetched from and what ends it; also to who watches, and not as JSON."""
    ready = [job(RUNNING, revision, phase=t.JOB_PHASE_READY, backup=SERVED) for revision in (2, 3)]
    fake.on["BackupDomain"] = fake.on["WatchJob"] = then(job(RUNNING, 1), *ready, job(SUCCEEDED, 4))
    words = ("backup", "web", "--disk", "vda=/scratch", "--socket", "/run/nbd")
    for result in (run(*words), run("job", "watch", "job-1")):
        assert [line for line in result.stderr.splitlines() if "note" in line] == [
            "virtrpc: note: fetch vda from nbd+unix:///vda?socket=/run/nbd",
            "virtrpc: note: fetch vdb from nbd+unix:///data?socket=/run/nbd",
            "virtrpc: note: `virtrpc job finish job-1 --stop` ends the backup when all is fetched",
        ]
    assert not run(*words, "--json").stderr


@pytest.mark.parametrize(("finish", "notes"), [(t.BLOCK_JOB_FINISH_WAIT, 1), (t.BLOCK_JOB_FINISH_PIVOT, 0)])
def test_a_copy_that_is_ready(fake: Fake, run: Run, finish: t.BlockJobFinish.ValueType, notes: int) -> None:
    """The command that moves the guest over is named where the copy waits for it, and not where it does so by itself."""
    ready = job(RUNNING, 2, phase=t.JOB_PHASE_READY, block_job=t.BlockJob(disk="vda", finish=finish))
    fake.on["WatchJob"] = then(ready, job(SUCCEEDED, 3))
    assert run("job", "watch", "job-1").stderr.count("`virtrpc job finish job-1` moves the guest over") == notes


def test_a_mirror_that_cannot_be_finished(fake: Fake, run: Run) -> None:
    """What is in the way is said as long as it lasts, once."""
    refused = t.JobError(reason="OPERATION_FAILED", message="not ready yet")
    states = [job(RUNNING, revision, phase=t.JOB_PHASE_READY, trouble=refused) for revision in (2, 3)]
    fake.on["WatchJob"] = then(*states, job(SUCCEEDED, 4))
    assert run("job", "watch", "job-1").stderr.count("running, ready, tries again: not ready yet") == 1


def test_a_job_that_is_ready_in_the_list(fake: Fake, run: Run) -> None:
    """`jobs` says which of the running ones wait to be finished."""
    fake.on["ListJobs"] = lambda *_: j.ListJobsResponse(jobs=[job(RUNNING, 1, phase=t.JOB_PHASE_READY), job(RUNNING, 1)])
    assert run("jobs").stdout.count("running, ready") == 1


def test_jobs_of_a_time(fake: Fake, run: Run) -> None:
    """`jobs` and `watch-jobs` take times as so long ago, or as a moment, local unless it says another; what is no time is said."""
    run("jobs", "--since", "2h", "--until", "2026-11-27T10:00:00Z", "--ended-since", "2026-11-26", "--ended-until", "2026-11-27T11:30+01:00")
    fake.on["WatchJobs"] = ending(j.WatchJobsResponse(caught_up=True))
    run("watch-jobs", "--state", "failed", "--ended-since", "10:00")
    (listed,), (watched,) = fake.asked("ListJobs"), fake.asked("WatchJobs")
    ago = datetime.now(UTC) - listed.filter.created_after.ToDatetime(UTC)
    assert timedelta(hours=1, minutes=55) < ago < timedelta(hours=2, minutes=5)
    assert listed.filter.created_before.ToDatetime(UTC) == datetime(2026, 11, 27, 10, tzinfo=UTC)
    assert listed.filter.ended_after.ToDatetime(UTC) == datetime.fromisoformat("2026-11-26T00:00").astimezone()
    assert listed.filter.ended_before.ToDatetime(UTC) == datetime(2026, 11, 27, 10, 30, tzinfo=UTC)
    today = watched.filter.ended_after.ToDatetime(UTC).astimezone()
    assert (today.hour, today.minute, abs(today - NOW) < timedelta(days=2)) == (10, 0, True)
    for wrong in ("yesterday", "30", "2 fortnights", "25:00"):
        assert run("jobs", "--since", wrong).exit_code == 2, wrong


def test_a_table_of_jobs(fake: Fake, run: Run) -> None:
    """A row says what was done to what, by whom, when, for how long, and why it failed; one that goes on has no end."""
    error = t.JobError(code=10, reason="RUN_TIMEOUT", message="it ran for too long")
    failed = job(t.JOB_STATE_FAILED, 3, kind=t.JOB_KIND_MIGRATE_DOMAIN, owner="unix", error=error)
    failed.create_time.FromJsonString("2026-11-27T10:00:00Z")
    failed.end_time.FromJsonString("2026-11-27T11:02:30.5Z")
    going = job(RUNNING, 1, owner="unix")
    going.create_time.GetCurrentTime()
    fake.on["ListJobs"] = lambda *_: j.ListJobsResponse(jobs=[going, failed])
    head, first, second = (line.split() for line in run("jobs").stdout.splitlines())
    assert head == ["JOB", "KIND", "HOST", "DOMAIN", "STATE", "PROGRESS", "OWNER", "CREATED", "ENDED", "TOOK", "ERROR"]
    assert first[-3:] == ["-", "-", "-"]
    assert (second[1], second[-5:]) == ("migrate", ["1", "h", "2", "min", "RUN_TIMEOUT"])


def test_samples_of_a_job(fake: Fake, run: Run) -> None:
    """`job show --samples` draws how a job went, without the columns that nothing was told for; where there are none it says so."""
    samples = [
        t.ProgressSample(
            phase=t.JOB_PHASE_MIGRATION_COPY,
            progress=t.JobProgress(processed_bytes=number << 30, remaining_bytes=1 << 20, rate_bytes_per_second=1 << 20, memory_iteration=number),
            migration=t.MigrationProgress(dirty_rate_bytes_per_second=8 << 20, expected_downtime=Duration(seconds=number)),
        )
        for number in (1, 2)
    ]
    for sample in samples:
        sample.progress.observed_time.FromJsonString("2026-11-01T10:00:00Z")
    fake.on["GetJob"] = lambda request, _: j.GetJobResponse(job=job(CANCELLED, 3, samples=samples if request.include_samples else []))
    table = run("job", "show", "job-1", "--samples").stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ["TIME", "PHASE", "DONE", "LEFT", "RATE", "ROUND", "GUEST", "WRITES", "DOWNTIME"]
    assert [line.split()[4:] for line in table[1:]] == [
        f"{number}.00 GiB 1.00 MiB 1.00 MiB/s {number} 8.00 MiB/s {number}.0 s".split() for number in (1, 2)
    ]
    (document,) = documents(run("job", "show", "job-1", "--samples", "--json").stdout)
    assert len(document["samples"]) == 2
    assert "\n\n" not in run("job", "show", "job-1").stdout
    fake.on["GetJob"] = lambda *_: j.GetJobResponse(job=job(CANCELLED, 3))
    assert "no progress was reported" in run("job", "show", "job-1", "--samples").stderr


def test_jobs_are_completed(fake: Fake) -> None:
    """Words of kinds and states, and jobs that are over where one is shown; only those that go on where one is cancelled."""
    fake.on["ListJobs"] = lambda request, _: j.ListJobsResponse(jobs=[] if request.filter.states else [job(CANCELLED, 3)])
    assert completions(fake.address, "virtrpc jobs --state f") == ["failed"]
    assert completions(fake.address, "virtrpc jobs --kind managed") == ["managed-save"]
    assert completions(fake.address, "virtrpc job show j") == ["job-1"]
    assert completions(fake.address, "virtrpc job cancel j") == []


def test_json_lines_of_a_job(fake: Fake, run: Run) -> None:
    """`--json` prints every state of the job as a line, and nothing on stderr."""
    fake.on["StartDomain"] = then(job(QUEUED, 1), job(RUNNING, 2), job(SUCCEEDED, 3))
    result = run("start", "web", "--json")
    assert [line["state"] for line in documents(result.stdout)] == ["JOB_STATE_QUEUED", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    assert not result.stderr


def test_a_failed_job(fake: Fake, run: Run) -> None:
    """A failed job ends with 1 and one line: what happened, the reason, what is in the way, what to do next."""
    error = t.JobError(code=10, reason="WAIT_TIMEOUT", message="waited 30 s\nfor the domain", metadata={"holder_job_id": "job-0"})
    fake.on["SuspendDomain"] = then(job(t.JOB_STATE_FAILED, 1, kind=t.JOB_KIND_SUSPEND_DOMAIN, error=error))
    result = run("suspend", "web")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "virtrpc: error: suspend web: failed: waited 30 s for the domain [WAIT_TIMEOUT] (holder_job_id: job-0) - "
        "nothing was changed: retry, give a longer --wait-timeout, or cancel what is in the way"
    )


def test_a_refused_call(fake: Fake, run: Run) -> None:
    """A refusal ends with 1 and one line with its reason and advice."""
    fake.on["GetDomain"] = lambda _, context: refuse(context, grpc.StatusCode.NOT_FOUND, "DOMAIN_NOT_FOUND", "no domain web", {"domain": "web"})
    result = run("show", "web")
    assert result.exit_code == 1
    assert result.stderr == "virtrpc: error: no domain web [DOMAIN_NOT_FOUND] - `virtrpc list` names the domains\n"


@pytest.mark.parametrize("words", ["list", "start web", "watch", "job watch job-1"])
def test_no_server(words: str) -> None:
    """Where no server answers, every kind of command ends with 3 and says where it looked; what is tried for a while says so, once and first."""
    result = CliRunner().invoke(app, ["-a", "unix:///nowhere/s", *words.split(), "--timeout", "1s"])
    assert result.exit_code == 3
    assert "Traceback" not in result.output
    *notes, error = result.stderr.splitlines()
    assert error.startswith("virtrpc: error: cannot reach the virtrpc server at unix:///nowhere/s")
    assert [note.startswith("virtrpc: note: cannot reach the server") for note in notes] == [True] * (words != "list")


@pytest.mark.parametrize(("address", "said"), [("unix:///nowhere/s", False), ("localhost:1", True)])
def test_no_server_by_tcp_may_be_one_that_wants_tls(address: str, said: bool) -> None:
    """Of a name with several addresses gRPC tells what became of one alone, so that TLS is thought of wherever TCP is refused."""
    result = CliRunner().invoke(app, ["-a", address, "list", "--timeout", "1s"])
    assert (result.exit_code, "--client-certificate" in result.stderr) == (3, said)


def test_detach(fake: Fake, run: Run) -> None:
    """`--detach` asks the job to go on alone, prints its id and leaves."""
    fake.on["ManagedSaveDomain"] = running_until(threading.Event())
    result = run("save", "web", "--detach")
    assert (result.exit_code, result.stdout) == (0, "job-1\n")
    assert fake.asked("ManagedSaveDomain")[0].options.on_disconnect == t.ON_DISCONNECT_DETACH


def test_time_to_listen_is_up(fake: Fake, run: Run) -> None:
    """`--timeout` ends the listening with 1, says what becomes of the job, and cancels nothing."""
    fake.on["ManagedSaveDomain"] = running_until(threading.Event())
    result = run("save", "web", "--timeout", "1s")
    assert result.exit_code == 1
    assert "it goes on; `virtrpc job watch job-1` follows it" in result.stderr
    assert not fake.asked("CancelJob")


@pytest.mark.parametrize(("state", "code"), [(CANCELLED, 0), (SUCCEEDED, 1), (t.JOB_STATE_FAILED, 1)])
def test_waiting_for_a_cancelled_job(fake: Fake, run: Run, state: t.JobState.ValueType, code: int) -> None:
    """`job cancel --wait` ends with 0 where the job was cancelled, and with 1 where it was over first or failed."""
    fake.on["WatchJob"] = then(job(state, 2))
    assert run("job", "cancel", "job-1", "--wait").exit_code == code


def test_a_watch_that_is_cut_off(fake: Fake, run: Run) -> None:
    """It says once that it is tried again, and once that it goes on."""
    first = going(q.WatchDomainsResponse(changes=[q.DomainChange(current=WEB)], resume_token="1"))
    fake.on["WatchDomains"] = in_turn(first, going(), going(), ending(q.WatchDomainsResponse(resume_token="2")))
    notes = [line for line in run("watch").stderr.splitlines() if "note" in line]
    assert [("connection lost" in line, "connected again" in line) for line in notes] == [(True, False), (False, True)]


def test_watching_domains(fake: Fake, run: Run) -> None:
    """`watch` prints a line for each change, and says when a host goes and comes back."""
    down = t.UnreachableHost(host="local", freshness=t.FRESHNESS_STALE, reason="HOST_UNREACHABLE", message="gone")
    removed = q.DomainRemoval(domain=t.DomainIdentity(host="local", name="web"))
    fake.on["WatchDomains"] = ending(
        q.WatchDomainsResponse(changes=[q.DomainChange(current=WEB)], reset=True, resume_token="1"),
        q.WatchDomainsResponse(unreachable=[down], resume_token="2"),
        q.WatchDomainsResponse(changes=[q.DomainChange(removed=removed)], resume_token="3"),
    )
    result = run("watch")
    assert result.exit_code == 1
    assert [line.split(maxsplit=1)[1] for line in result.stdout.splitlines()] == ["local/web running [-]", "local/web gone"]
    assert "host local is not live" in result.stderr
    assert "host local is live again" in result.stderr


def test_a_watch_tells_changes_and_not_readings(fake: Fake, run: Run) -> None:
    """Being read again is no line; a change of what is known is one, with its name where it is not the state."""
    live, stale = t.Observation(freshness=t.FRESHNESS_LIVE), t.Observation(freshness=t.FRESHNESS_STALE)
    forms = [
        t.Domain(host="a", uuid="u", name="web", state=t.DOMAIN_STATE_RUNNING, state_observation=live, autostart=False),
        t.Domain(host="a", uuid="u", name="web", state=t.DOMAIN_STATE_RUNNING, state_observation=stale, autostart=False),
        t.Domain(host="a", uuid="u", name="web", state=t.DOMAIN_STATE_RUNNING, state_observation=live, autostart=True),
        t.Domain(host="a", uuid="u", name="web", state=t.DOMAIN_STATE_PAUSED, state_observation=live, autostart=True),
    ]
    changes = [q.DomainChange(current=form) for form in forms]
    fake.on["WatchDomains"] = ending(q.WatchDomainsResponse(changes=changes, resume_token="1"))
    lines = [line.split(maxsplit=1)[1] for line in run("watch").stdout.splitlines()]
    assert lines == ["a/web running", "a/web running: autostart changed", "a/web paused"]


def test_names_are_completed(fake: Fake, run: Run) -> None:
    """The shell completes domain names, with their host where a name is not unique; without a server it completes nothing."""
    other = t.Domain(host="b", name="web")
    fake.on["ListDomains"] = lambda *_: q.ListDomainsResponse(domains=[WEB, other, t.Domain(host="b", name="wiki")])
    # A shell waits half a second for them, which a busy machine may not have.
    for line, names in (("virtrpc show w", ["wiki"]), ("virtrpc show b/", ["b/web", "b/wiki"])):
        wait_until(lambda line=line, names=names: completions(fake.address, line) == names, f"{names} to be offered")  # type: ignore[misc]
    assert completions("unix:///nowhere/s", "virtrpc show w") == []


def test_help_says_how_it_ends(run: Run) -> None:
    """`--help` documents the exit codes, and works without a server."""
    assert "130" in run("--help").stdout
    assert run("save", "--help").exit_code == 0


def test_ctrl_c_cancels_and_goes_on(fake: Fake) -> None:
    """Ctrl-C cancels the job and follows it to its end; cancelled so, the program ends with 130."""
    stop = threading.Event()
    fake.on["ManagedSaveDomain"] = running_until(stop, job(CANCELLED, 9, error=t.JobError(code=10, reason="CANCELLED", message="on request")))
    fake.on["CancelJob"] = answering(stop, j.CancelJobResponse(outcome=j.CANCEL_OUTCOME_ABORTING))
    with Program(fake, "save", "web") as program:
        program.says("running")
        program.interrupt()
        code, _, stderr = program.ended()
    assert code == 130
    assert "cancelling; Ctrl-C again leaves it to itself" in stderr
    assert "managed save web: cancelled: on request [CANCELLED]" in stderr


def test_ctrl_c_on_what_cannot_be_aborted(fake: Fake) -> None:
    """Where the job cannot be aborted Ctrl-C says why, and goes on watching; a job that succeeds after all ends with 0."""
    stop = threading.Event()
    fake.on["StartDomain"] = running_until(stop, job(SUCCEEDED, 9))
    fake.on["CancelJob"] = lambda *_: j.CancelJobResponse(outcome=j.CANCEL_OUTCOME_NOT_ABORTABLE, message="a start cannot be taken back")
    with Program(fake, "start", "web") as program:
        program.says("running")
        program.interrupt()
        program.says("it cannot be aborted now, still watching")
        stop.set()
        code, stdout, stderr = program.ended()
    assert code == 0
    assert "a start cannot be taken back" in stderr
    assert "done" in stdout


def test_a_second_ctrl_c_leaves(fake: Fake) -> None:
    """A second Ctrl-C leaves with 130 and says that the job goes on."""
    fake.on["ManagedSaveDomain"] = running_until(threading.Event())
    fake.on["CancelJob"] = lambda *_: j.CancelJobResponse(outcome=j.CANCEL_OUTCOME_NOT_ABORTABLE)
    with Program(fake, "save", "web") as program:
        program.says("running")
        program.interrupt()
        program.says("Ctrl-C again")
        program.interrupt()
        code, _, stderr = program.ended()
    assert code == 130
    assert "it goes on; `virtrpc job watch job-1` follows it" in stderr
    assert "Traceback" not in stderr
    assert len(fake.asked("CancelJob")) == 1


@pytest.mark.parametrize(("words", "rpc"), [("job watch job-1", "WatchJob"), ("watch", "WatchDomains")])
def test_ctrl_c_leaves_what_is_only_watched(fake: Fake, words: str, rpc: str) -> None:
    """Ctrl-C leaves a watch, and a job that somebody else began, at once and cancels nothing."""
    fake.on["WatchJob"] = running_until(threading.Event())
    fake.on["WatchDomains"] = endless(q.WatchDomainsResponse(changes=[q.DomainChange(current=WEB)]))
    with Program(fake, *words.split()) as program:
        program.says("running")
        program.interrupt()
        code, _, stderr = program.ended()
    assert code == 130
    assert "Traceback" not in stderr
    assert not fake.asked("CancelJob")


class Program:
    """The program in a process of its own, to be interrupted; killed where a test leaves it."""

    def __init__(self, fake: Fake, *words: str) -> None:
        environment = {**os.environ, "VIRTRPC_ADDRESS": fake.address, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "virtrpc.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._heard = threading.Condition()
        self._readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._lines]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()

    def says(self, words: str) -> None:
        """Waits for a line with these words."""
        with self._heard:
            assert self._heard.wait_for(lambda: any(words in line for lines in self._lines.values() for line in lines), timeout=90), self._lines

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def ended(self) -> tuple[int, str, str]:
        """Waits for its end: exit code, stdout, stderr."""
        code = self._process.wait(90)
        for reader in self._readers:
            reader.join()
        return code, "".join(self._lines["stdout"]), "".join(self._lines["stderr"])

    def _read(self, name: str) -> None:
        with getattr(self._process, name) as pipe:
            for line in pipe:
                with self._heard:
                    self._lines[name].append(line)
                    self._heard.notify_all()


def documents(text: str) -> list[Any]:
    """The JSON documents in a text."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


def completions(address: str, line: str) -> list[str]:
    """What a bash would offer."""
    words = line.split()
    environment = {
        **os.environ,
        "VIRTRPC_ADDRESS": address,
        "_VIRTRPC_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    offered = subprocess.run([sys.executable, "-m", "virtrpc.cli"], env=environment, capture_output=True, text=True, check=False)
    assert not offered.stderr
    return sorted(offered.stdout.split())


def endless(*batches: Any) -> Any:
    """A watch that sends these batches and stays open."""

    async def answer(*_: Any) -> AsyncIterator[Any]:
        for batch in batches:
            yield batch
        await asyncio.Event().wait()

    return answer


async def pieces(*_: Any) -> AsyncIterator[s.TakeScreenshotResponse]:
    """A picture in two pieces."""
    yield s.TakeScreenshotResponse(mime_type="image/png", total_bytes=4)
    yield s.TakeScreenshotResponse(data=b"\x89PNG")


def ending(*batches: Any, code: grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED, reason: str = "PERMISSION_DENIED") -> Any:
    """A watch that sends these batches and ends; a refusal is the one thing that ends a watch for good."""

    async def answer(_: Any, context: Context) -> AsyncIterator[Any]:
        for batch in batches:
            yield batch
        await refuse(context, code, reason, "no longer")

    return answer


def going(*batches: Any) -> Any:
    """A watch whose server goes away after these batches."""
    return ending(*batches, code=grpc.StatusCode.UNAVAILABLE, reason="")


def running_until(event: threading.Event, last: t.Job | None = None) -> Any:
    """A job that runs until the event, which any thread may set, and ends as `last`."""

    async def answer(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context)
        yield t.JobUpdate(job=job(RUNNING, 1, abortable=True))
        await until(event.is_set)
        yield t.JobUpdate(job=last or job(SUCCEEDED, 9))

    return answer


def answering(event: threading.Event, answer: Any) -> Any:
    """Sets the event, and answers."""

    def set_and_answer(*_: Any) -> Any:
        event.set()
        return answer

    return set_and_answer
