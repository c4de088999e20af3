"""What can be set of who calls."""

from __future__ import annotations

from pathlib import Path

from virtrpc_server.schema import Strict


class TlsSettings(Strict):
    """TLS on the TCP address. PEM files, which are read again when they change."""

    certificate: Path
    """The server's, with the intermediate ones after it."""
    key: Path
    """Its key, without a password."""
    client_ca: Path | None = None
    """Authorities that sign clients' certificates. With it nobody connects who has none of theirs."""
    common_names: bool = True
    """Whether a certificate's CN is an identity too."""
