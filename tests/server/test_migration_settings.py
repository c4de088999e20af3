"""How a move is asked for: what each setting becomes, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.migration import parameters
from virtrpc_server.errors import Refusal
from virtrpc_server.orders.migration import migrate

UUID = "00000000-0000-4000-8000-000000000001"
MIB = 1 << 20
METHODS = {name: t.MigrationCompressionMethod.Value(f"MIGRATION_COMPRESSION_METHOD_{name.upper()}") for name in ("xbzrle", "mt", "zlib", "zstd")}
XML = "<domain><name>web</name></domain>"


def step(seconds: float = 1, **action: Any) -> t.MigrationStep:
    """A step after so many seconds."""
    return t.MigrationStep(after=Duration(seconds=int(seconds)), **action)


def sent(**settings: Any) -> tuple[set[str], dict[str, Any]]:
    """The names of the flags, and the parameters, with which libvirt is called."""
    import libvirt

    operation = migrate(t.MigrationSettings(host="b", **settings), UUID, "qemu+tls://b/system")
    number = flags.migrate(operation)
    names = {name for name in dir(libvirt) if name.startswith("VIR_MIGRATE_") and isinstance(getattr(libvirt, name), int)}
    return {name.removeprefix("VIR_MIGRATE_") for name in names if getattr(libvirt, name) & number}, parameters(operation)


USUAL = {"LIVE", "PEER2PEER"}


@pytest.mark.parametrize(
    ("settings", "flag", "wanted"),
    [
        ({}, set(), {}),
        ({"auto_converge": t.MigrationAutoConverge()}, {"AUTO_CONVERGE"}, {}),
        (
            {"auto_converge": t.MigrationAutoConverge(initial_percent=30, increment_percent=5)},
            {"AUTO_CONVERGE"},
            {"auto_converge.initial": 30, "auto_converge.increment": 5},
        ),
        ({"post_copy": t.MigrationPostCopy(bandwidth_bytes_per_second=MIB + 1)}, {"POSTCOPY"}, {"bandwidth.postcopy": 2}),
        ({"parallel": t.MigrationParallel(connections=4, zero_copy=True)}, {"PARALLEL", "ZEROCOPY"}, {"parallel.connections": 4}),
        (
            {"compression": t.MigrationCompression(methods=[METHODS["xbzrle"], METHODS["mt"]], xbzrle_cache_bytes=MIB, mt_level=0, mt_threads=2)},
            {"COMPRESSED"},
            {"compression": ["xbzrle", "mt"], "compression.xbzrle.cache": MIB, "compression.mt.level": 0, "compression.mt.threads": 2},
        ),
        (
            {"compression": t.MigrationCompression(methods=[METHODS["zstd"]], zstd_level=3), "parallel": t.MigrationParallel()},
            {"COMPRESSED", "PARALLEL"},
            {"compression": ["zstd"], "compression.zstd.level": 3},
        ),
        (
            {"storage": t.MigrationStorage(disks=["vda", "vdb", "vda"], uri="tcp://b:49153", synchronous_writes=True)},
            {"NON_SHARED_DISK", "NON_SHARED_SYNCHRONOUS_WRITES"},
            {"migrate_disks": ["vda", "vdb"], "disks_uri": "tcp://b:49153"},
        ),
        (
            {"storage": t.MigrationStorage(copy=t.MIGRATION_STORAGE_COPY_INCREMENTAL, port=49153)},
            {"NON_SHARED_INC"},
            {"disks_port": 49153},
        ),
        ({"tls": t.MigrationTls(destination="b.example.org")}, {"TLS"}, {"tls.destination": "b.example.org"}),
        ({"tunnelled": True, "abort_on_error": True}, {"TUNNELLED", "ABORT_ON_ERROR"}, {}),
        ({"destination_xml": XML, "listen_address": "::"}, set(), {"destination_xml": XML, "listen_address": "::"}),
        ({"persistent_xml": XML, "persist_destination": True}, {"PERSIST_DEST"}, {"persistent_xml": XML}),
    ],
)
def test_what_libvirt_is_told(settings: dict[str, Any], flag: set[str], wanted: dict[str, Any]) -> None:
    """Each setting is a flag, a typed parameter, or both."""
    assert sent(**settings) == (USUAL | flag, wanted)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("offline", {"offline": True, "live": True, "persist_destination": True}),
        ("offline", {"offline": True}),
        ("storage", {"offline": True, "persist_destination": True, "storage": t.MigrationStorage()}),
        ("post_copy", {"offline": True, "persist_destination": True, "post_copy": t.MigrationPostCopy()}),
        ("tunnelled", {"tunnelled": True, "peer_to_peer": False}),
        ("migrate_uri", {"tunnelled": True, "migrate_uri": "tcp://b"}),
        ("tls", {"tunnelled": True, "tls": t.MigrationTls()}),
        ("post_copy", {"tunnelled": True, "post_copy": t.MigrationPostCopy()}),
        ("parallel", {"tunnelled": True, "parallel": t.MigrationParallel()}),
        ("storage.port", {"tunnelled": True, "storage": t.MigrationStorage(port=1)}),
        ("listen_address", {"tunnelled": True, "listen_address": "::"}),
        ("persistent_xml", {"persistent_xml": XML}),
        ("auto_converge", {"live": False, "auto_converge": t.MigrationAutoConverge()}),
        ("post_copy", {"live": False, "post_copy": t.MigrationPostCopy()}),
        ("parallel.zero_copy", {"parallel": t.MigrationParallel(zero_copy=True), "tls": t.MigrationTls()}),
        ("storage.port", {"storage": t.MigrationStorage(port=1, uri="tcp://b")}),
        ("storage.port", {"storage": t.MigrationStorage(port=65_536)}),
        ("storage.disks", {"storage": t.MigrationStorage(disks=[""])}),
        ("compression.mt_level", {"compression": t.MigrationCompression(mt_level=1)}),
        ("compression.mt_level", {"compression": t.MigrationCompression(methods=[METHODS["mt"]], mt_level=10)}),
        ("compression.methods", {"compression": t.MigrationCompression(methods=[METHODS["zlib"]])}),
        ("compression.methods", {"compression": t.MigrationCompression(methods=[METHODS["mt"]]), "parallel": t.MigrationParallel()}),
        ("auto_converge.initial_percent", {"auto_converge": t.MigrationAutoConverge(initial_percent=100)}),
        ("parallel.connections", {"parallel": t.MigrationParallel(connections=256)}),
        ("bandwidth_bytes_per_second", {"bandwidth_bytes_per_second": 1}),
        ("bandwidth_bytes_per_second", {"bandwidth_bytes_per_second": 1 << 60}),
        ("max_downtime", {"max_downtime": Duration()}),
        ("max_downtime", {"max_downtime": Duration(nanos=1)}),
        ("max_downtime", {"max_downtime": Duration(seconds=3000)}),
        ("schedule", {"schedule": [step(post_copy=True)]}),
        ("schedule", {"schedule": [step(pause=True)] * 17}),
        ("schedule[0]", {"schedule": [step()]}),
        ("schedule[0]", {"schedule": [step(abort=False)]}),
        ("schedule[0]", {"schedule": [step(abort=True), step(pause=True)]}),
        ("schedule[0].after", {"schedule": [step(0, abort=True)]}),
        ("schedule[0].throttle", {"schedule": [step(throttle=True)]}),
        ("schedule[1].max_downtime", {"schedule": [step(pause=True), step(max_downtime=Duration())]}),
        ("schedule[0].bandwidth_bytes_per_second", {"schedule": [step(bandwidth_bytes_per_second=0)]}),
        ("destination_xml", {"destination_xml": "<domain><name>x</name><uuid>00000000-0000-4000-8000-000000000002</uuid></domain>"}),
    ],
)
def test_contradictions(field: str, settings: dict[str, Any]) -> None:
    """What excludes each other, or is out of range, is refused with its field's name."""
    with pytest.raises(Refusal) as caught:
        migrate(t.MigrationSettings(host="b", **settings), UUID, "qemu+tls://b/system")
    assert (caught.value.problem.reason, caught.value.problem.metadata["field"]) == ("INVALID_ARGUMENT", f"settings.{field}")


@pytest.mark.parametrize("xml", ["<domain>", "<!DOCTYPE x><domain><name>x</name></domain>", "<network/>"])
def test_bad_xml(xml: str) -> None:
    """The definition for the destination is looked at as every other one."""
    with pytest.raises(Refusal) as caught:
        migrate(t.MigrationSettings(host="b", destination_xml=xml), UUID, "qemu+tls://b/system")
    assert caught.value.problem.reason == "XML_INVALID"
