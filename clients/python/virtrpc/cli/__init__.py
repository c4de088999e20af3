"""The command line `virtrpc`."""

from __future__ import annotations

from virtrpc.cli.main import main

__all__ = ["main"]
