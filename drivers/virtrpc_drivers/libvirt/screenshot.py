"""Pictures of screens, through a stream of libvirt's."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import Screenshot

MAX_BYTES = 64 << 20
PIECE = 128 << 10


def take(connection: Any, uuid: str, screen: int) -> Screenshot:
    """virDomainScreenshot. Raises OPERATION_FAILED above 64 MiB."""
    domain = connection.lookupByUUIDString(uuid)
    stream = connection.newStream(0)
    mime_type: str = domain.screenshot(stream, screen, 0)
    try:
        pieces = _received(stream)
        stream.finish()
    except BaseException:
        _abort(stream)
        raise
    return Screenshot(mime_type=mime_type, pieces=tuple(pieces))


def _received(stream: Any) -> list[bytes]:
    pieces: list[bytes] = []
    size = 0
    while piece := stream.recv(PIECE):
        size += len(piece)
        if size > MAX_BYTES:
            raise failure(Reason.FAILED, f"the picture has more than {MAX_BYTES >> 20} MiB")
        pieces.append(piece)
    return pieces


def _abort(stream: Any) -> None:
    try:
        stream.abort()
    except libvirt.libvirtError:
        pass  # it broke, which is being told already
