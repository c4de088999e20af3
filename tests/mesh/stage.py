"""A server with simulated hosts, and Envoy in front of it, for tests that are written in other languages.

    python -m tests.mesh.stage [--host NAME=URI …]

Prints one line of JSON once both take calls, and ends when its standard input closes:

    unix     the server's Unix socket, as a gRPC client takes it: unix:///…
    direct   the server's TCP address, HOST:PORT, without certificates
    envoy    Envoy's address, HOST:PORT, without certificates: gRPC, gRPC-Web (any page of this machine may call) and JSON
"""

from __future__ import annotations

import argparse
import json
import re
import sys

from tests.beds.envoy import Configuration, Envoy, plain, servers
from tests.e2e.server import Server

HOST = "try=sim://try/?domains=4&running=2&save_seconds=2"
LOCAL_PAGES = {"safe_regex": {"regex": r"https?://(localhost|127\.0\.0\.1)(:\d+)?"}}


def local_pages(configuration: Configuration) -> None:
    """Let pages that this machine serves call, on whatever port."""
    configuration.cors(LOCAL_PAGES, {"exact": "null"})


def main() -> None:
    """Play until standard input closes."""
    parser = argparse.ArgumentParser(description="A server with simulated hosts, and Envoy in front of it.")
    parser.add_argument("--host", action="append", metavar="NAME=URI", help=f"a host of the server's; default {HOST}")
    hosts = dict(host.split("=", 1) for host in parser.parse_args().host or [HOST])
    with Server(hosts, listen="127.0.0.1:0", insecure=True) as server:
        server.wait_live()
        with Envoy(plain, servers(server.socket), local_pages) as envoy:
            print(json.dumps({"unix": server.address, "direct": tcp_address(server), "envoy": envoy.address}), flush=True)
            sys.stdin.read()


def tcp_address(server: Server) -> str:
    """Where a server listens that was told to take any port."""
    found = re.findall(r"127\.0\.0\.1:[1-9]\d*", server.log.partition(" listens on ")[2].partition("\n")[0])
    return str(found[0])


if __name__ == "__main__":
    main()
