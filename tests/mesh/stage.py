"""A server with simulated hosts, and Envoy in front of it, for tests that are written in other languages.

    python -m tests.mesh.stage [--secured DIRECTORY] [--host NAME=URI …]

Prints one line of JSON once both take calls, and ends when its standard input closes:

    unix     the server's Unix socket, as a gRPC client takes it: unix:///…
    direct   the server's TCP address, HOST:PORT
    envoy    Envoy's address, HOST:PORT: gRPC, gRPC-Web (any page of this machine may call) and JSON

There are no certificates, unless it is secured: then callers need one of the usual ones (tests/beds/certificates.py), which are made in DIRECTORY,
and trust mesh-ca.pem there.
Each line that comes in has Envoy killed and started again on its port; `{"restarted": true}` answers once it takes calls.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.beds.certificates import Authority, make
from tests.beds.envoy import Configuration, Envoy, plain, servers
from tests.e2e.server import Server
from tests.mesh.secured import before, tls_server

MESH_CA = "mesh-ca"
HOST = "try=sim://try/?domains=4&running=2&save_seconds=2"
LOCAL_PAGES = {"safe_regex": {"regex": r"https?://(localhost|127\.0\.0\.1)(:\d+)?"}}


def local_pages(configuration: Configuration) -> None:
    """Let pages that this machine serves call, on whatever port."""
    configuration.cors(LOCAL_PAGES, {"exact": "null"})


def main() -> None:
    """Play until standard input closes."""
    parser = argparse.ArgumentParser(description="A server with simulated hosts, and Envoy in front of it.")
    parser.add_argument("--host", action="append", metavar="NAME=URI", help=f"a host of the server's; default {HOST}")
    parser.add_argument("--secured", type=Path, metavar="DIRECTORY", help="with certificates, which are made there")
    words = parser.parse_args()
    hosts = dict(host.split("=", 1) for host in words.host or [HOST])
    with open_stage(hosts) if words.secured is None else secured_stage(hosts, words.secured) as (server, envoy):
        print(json.dumps({"unix": server.address, "direct": server.tcp_address, "envoy": envoy.address}), flush=True)
        for _ in sys.stdin:
            envoy.stop(signal.SIGKILL)
            envoy.start()
            print(json.dumps({"restarted": True}), flush=True)


@contextmanager
def open_stage(hosts: Mapping[str, str]) -> Iterator[tuple[Server, Envoy]]:
    """Both without certificates."""
    with Server(hosts, listen="127.0.0.1:0", insecure=True) as server:
        server.wait_live()
        with Envoy(plain, servers(server.socket), local_pages) as envoy:
            yield server, envoy


@contextmanager
def secured_stage(hosts: Mapping[str, str], directory: Path) -> Iterator[tuple[Server, Envoy]]:
    """Both with certificates of the mesh's own authority; callers have the usual ones, which are another's."""
    callers, mesh, both = make(directory).ca, Authority(directory, MESH_CA), directory / "both.pem"
    both.write_bytes(callers.read_bytes() + mesh.path.read_bytes())
    with tls_server(mesh, "virtrpcd", hosts) as server:
        server.wait_live()
        with before(server, mesh, both, local_pages) as envoy:
            yield server, envoy


if __name__ == "__main__":
    main()
