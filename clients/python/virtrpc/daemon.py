"""The entry of `virtrpcd`, which is installed with the client but needs the server's packages."""

from __future__ import annotations

import importlib
import importlib.util
import sys

# What the `server` extra brings and nothing else here needs; virtrpc_server itself is in every wheel.
SERVER_PACKAGES = (
    "cryptography",
    "jwt",
    "libvirt",
    "msgspec",
    "pydantic_settings",
    "defusedxml",
    "opentelemetry.sdk",
    "grpc_health",
    "grpc_reflection",
)


def missing_packages() -> list[str]:
    """The packages of the server extra that are not installed."""
    return [name for name in SERVER_PACKAGES if not _is_installed(name)]


def main() -> int:
    """Runs the server; says how to install it where it is missing. The process's exit code."""
    missing = missing_packages()
    if missing:
        print(
            f"virtrpcd: the server is not installed (missing: {', '.join(missing)}).\n"
            "Install it with: pip install 'virtrpc[server]'  (needs libvirt-dev, pkg-config and a C compiler)",
            file=sys.stderr,
        )
        return 1
    code = importlib.import_module("virtrpc_server.main").main()
    return code if isinstance(code, int) else 0


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


if __name__ == "__main__":
    sys.exit(main())
