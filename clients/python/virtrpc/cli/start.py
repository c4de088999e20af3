"""Where the program `virtrpc` begins. `virtrpc health` is answered at once, without the rest of the program."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virtrpc.credentials import Credentials

OK, FAILED, UNREACHABLE = 0, 1, 3


def main() -> int:
    """Runs the program; its exit code, where it does not end the process itself."""
    # gRPC's own lines about a failed handshake, three for each, would stand before ours.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    words = sys.argv[1:]
    code = quick_health(words[1:]) if words[:1] == ["health"] else None
    if code is not None:
        return code
    from virtrpc.cli import main as program

    return program.main()


def quick_health(words: Sequence[str]) -> int | None:
    """`virtrpc health` with these words; None where they are not plainly those of a probe: the program itself says what is wrong, or helps."""
    from virtrpc.address import resolve_address

    try:
        asked = _Parser.made().parse_args(words)
        address = resolve_address(asked.address)
        return health(address, asked.name, asked.timeout, asked.json, credentials_of(address, vars(asked)))
    except ValueError:
        return None


def credentials_of(address: str, said: Mapping[str, Any]) -> Credentials:
    """What the options "ca", "client_certificate", "client_key", "server_name" and "token_file" say, and the environment where they say nothing.

    Raises ValueError.
    """
    from virtrpc.credentials import Credentials, tls_of

    own = [said[name] for name in ("ca", "client_certificate", "client_key", "server_name")]
    tls = tls_of(*own) if any(own) else None
    return Credentials(address, tls, None if said["token_file"] is None else Path(said["token_file"]))


def health(address: str, name: str, timeout: float | None, as_json: bool, credentials: Credentials) -> int:
    """Prints what the server says of a name by grpc.health.v1; 0 where it serves, 1 where it says otherwise, 3 where it says nothing."""
    from virtrpc.health import DEFAULT_TIMEOUT, SERVING, check

    try:
        status = check(address, name, DEFAULT_TIMEOUT if timeout is None else timeout, credentials)
    except ConnectionError as error:
        print(f"virtrpc: error: cannot reach the virtrpc server at {address}: {error}", file=sys.stderr)
        return UNREACHABLE
    print(json.dumps({"service": name, "status": status}) if as_json else status)
    return OK if status == SERVING else FAILED


class _Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would end the process with words of its own."""

    @classmethod
    def made(cls) -> _Parser:
        parser = cls(add_help=False, allow_abbrev=False)
        parser.add_argument("name", nargs="?", default="")
        parser.add_argument("--address", "-a")
        for option in ("--ca", "--client-certificate", "--client-key", "--server-name", "--token-file"):
            parser.add_argument(option)
        parser.add_argument("--timeout", type=float)
        parser.add_argument("--json", action="store_true")
        return parser

    def error(self, message: str) -> None:  # type: ignore[override] # argparse's never returns; nor does this
        raise ValueError(message)
