"""Keeps Envoy's configuration in step with the contract: a route for each RPC, and the descriptors that JSON is transcoded by.

    python server/envoy/generate.py            write what follows from the contract into envoy.yaml, virtrpc.binpb and docs/mesh.md
    python server/envoy/generate.py --check    write nothing; fail where they differ from what would be written

How long a route may take, and whether it is tried again, follows from what its RPC may wait for (`waits_for`) and from whether it streams.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed

from virtrpc.v1 import types_pb2

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONFIGURATION, DESCRIPTORS, DOCUMENT = HERE / "envoy.yaml", HERE / "virtrpc.binpb", ROOT / "docs" / "mesh.md"
PACKAGE = "virtrpc.v1"
DETAILS = "google/rpc/error_details.proto"
"""What errors carry: without it the transcoder cannot write their reasons."""
INDENT = " " * 22
RETRIES = (
    "num_retries: 2, host_selection_retry_max_attempts: 3, "
    "retry_host_predicate: [{ name: envoy.retry_host_predicates.previous_hosts, typed_config: "
    '{ "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }]'
)


@dataclass(frozen=True)
class Kind:
    """RPCs that a proxy treats alike."""

    name: str
    why: str
    limit: str
    """How long an answer may take, in words."""
    silence: str
    """How long nothing may come, in words."""
    repeats: str
    """When a call is tried again, in words."""
    route: str
    """The same for Envoy."""


def within(limit: str) -> str:
    """A route's limit for a call as a whole, or the caller's deadline where that is shorter. Neither counts against the server. 0s: none.

    Envoy goes by `timeout` or by this, never by both: where a route has this one, its `timeout` is not in force.
    """
    return f"timeout: 0s, max_stream_duration: {{ max_stream_duration: {limit}, grpc_timeout_header_max: {limit} }}"


UNLIMITED = within("0s")
KINDS = (
    Kind(
        "query",
        "answered from the server's memory, so what takes longer is the server's fault, and counts against it",
        "10 s",
        "any time",
        "no connection, refused stream, reset, UNAVAILABLE",
        f'timeout: 10s, retry_policy: {{ retry_on: "connect-failure,refused-stream,reset,unavailable", {RETRIES} }}',
    ),
    Kind(
        "watch",
        "goes on for as long as somebody listens; heartbeats keep it alive",
        "none",
        "60 s",
        "no connection, refused stream, UNAVAILABLE, before the first message",
        f'{UNLIMITED}, idle_timeout: 60s, retry_policy: {{ retry_on: "connect-failure,refused-stream,unavailable", {RETRIES} }}',
    ),
    Kind(
        "control",
        "sent past everything to one job; the server itself gives up after 15 s",
        "60 s",
        "any time",
        "never",
        f"{within('60s')}, idle_timeout: 0s",
    ),
    Kind(
        "read",
        "a slow answer of a hypervisor; the server gives up first and says why. The limit is one of a stream, since a time-out would count "
        "against the server",
        "5 min",
        "any time",
        "no connection, refused stream, UNAVAILABLE",
        f'{within("300s")}, idle_timeout: 0s, retry_policy: {{ retry_on: "connect-failure,refused-stream,unavailable", {RETRIES} }}',
    ),
    Kind(
        "download",
        "a slow answer that comes in pieces",
        "none",
        "5 min",
        "never",
        f"{UNLIMITED}, idle_timeout: 300s",
    ),
    Kind(
        "verb",
        "a job; how long it may queue and run is said in its options",
        "none",
        "60 s",
        "never: a client that repeats it sends its request_id again",
        f"{UNLIMITED}, idle_timeout: 60s",
    ),
)
OTHERS = (
    ("/grpc.health.v1.Health/Check", "timeout: 2s"),
    # Says nothing for as long as nothing changes.
    ("/grpc.health.v1.Health/Watch", f"{UNLIMITED}, idle_timeout: 0s"),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", f"{UNLIMITED}, idle_timeout: 60s"),
)
"""What the server has beside the contract."""


@dataclass(frozen=True)
class Rpc:
    """One RPC, as far as a proxy is concerned."""

    service: str
    name: str
    kind: str

    @property
    def path(self) -> str:
        """What a call of it asks for."""
        return f"/{PACKAGE}.{self.service}/{self.name}"


def descriptors() -> bytes:
    """The contract, and all that it refers to, as a FileDescriptorSet."""
    proto, shared = ROOT / "proto", Path(error_details_pb2.__file__).parents[2]
    files = [str(path.relative_to(proto)) for path in sorted((proto / "virtrpc" / "v1").glob("*.proto"))]
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "image"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto}", f"--proto_path={shared}", "--include_imports"]
        if subprocess.run([*command, f"--descriptor_set_out={image}", *files, DETAILS], check=False).returncode != 0:
            sys.exit("protoc refused the contract; see above")
        return image.read_bytes()


def rpcs(image: bytes) -> list[Rpc]:
    """Every RPC of the contract, in its order."""
    files = [file for file in FileDescriptorSet.FromString(image).file if file.package == PACKAGE]
    return [Rpc(service.name, method.name, kind_of(method)) for file in files for service in file.service for method in service.method]


def kind_of(method: MethodDescriptorProto) -> str:
    """How an RPC is treated."""
    waits_for, streams = method.options.Extensions[types_pb2.waits_for], method.server_streaming
    match waits_for:
        case types_pb2.WAITS_FOR_NOTHING:
            return "watch" if streams else "query"
        case types_pb2.WAITS_FOR_HYPERVISOR:
            return "download" if streams else "read"
        case types_pb2.WAITS_FOR_CONTROL | types_pb2.WAITS_FOR_CONDITION:
            return "verb" if streams else "control"
    sys.exit(f"{method.name} does not say what it may wait for")


def routes(known: list[Rpc]) -> Iterator[str]:
    """The lines of envoy.yaml's routes: the first of each kind defines it, all others refer to that."""
    yield "routes:"
    for kind in KINDS:
        text = f"&{kind.name} {{ cluster: virtrpcd, {kind.route} }}"
        yield f"  # {kind.name}: {kind.why}"
        for rpc in (rpc for rpc in known if rpc.kind == kind.name):
            yield f"  - {{ name: {rpc.name}, match: {{ path: {rpc.path} }}, route: {text} }}"
            text = f"*{kind.name}"
    yield "  # what the server has beside the contract"
    for path, limits in OTHERS:
        yield f"  - {{ name: {path.rpartition('.')[2].replace('/', '.')}, match: {{ path: {path} }}, route: {{ cluster: virtrpcd, {limits} }} }}"


def table(known: list[Rpc]) -> Iterator[str]:
    """The lines of docs/mesh.md's table."""
    yield "| kind | RPCs | answer within | silent for at most | tried again by Envoy | because |"
    yield "|---|---|---|---|---|---|"
    for kind in KINDS:
        names = [rpc.name for rpc in known if rpc.kind == kind.name]
        yield f"| {kind.name} | {', '.join(names)} | {kind.limit} | {kind.silence} | {kind.repeats} | {kind.why} |"


def between(text: str, begin: str, end: str, lines: Iterator[str], indent: str = "") -> str:
    """A text with these lines between two of its own."""
    before, found, rest = text.partition(f"{indent}{begin}\n")
    _, found_end, after = rest.partition(f"{indent}{end}\n")
    if not found or not found_end:
        sys.exit(f"there is no {begin!r} with an {end!r} after it")
    return f"{before}{found}{''.join(f'{indent}{line}'.rstrip() + chr(10) for line in lines)}{found_end}{after}"


def fresh() -> dict[Path, bytes]:
    """What the files should hold."""
    image = descriptors()
    known, mark = rpcs(image), "Generated from the contract: "
    yaml = between(CONFIGURATION.read_text(encoding="utf-8"), f"# {mark}begin", f"# {mark}end", routes(known), INDENT)
    page = between(DOCUMENT.read_text(encoding="utf-8"), f"<!-- {mark}begin -->", f"<!-- {mark}end -->", table(known))
    return {CONFIGURATION: yaml.encode(), DOCUMENT: page.encode(), DESCRIPTORS: image}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Keeps Envoy's configuration in step with the contract.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs from what would be written")
    changed = {path: data for path, data in fresh().items() if not path.exists() or path.read_bytes() != data}
    if not parser.parse_args().check:
        for path, data in changed.items():
            path.write_bytes(data)
    elif changed:
        sys.exit(
            f"not in step with the contract: {', '.join(str(path.relative_to(ROOT)) for path in changed)}; run `make proto` and commit the result"
        )


if __name__ == "__main__":
    main()
