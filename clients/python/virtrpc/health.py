"""grpc.health.v1, as a probe asks it: one call, and nothing loaded for it but gRPC itself.

A probe runs every few seconds on a busy machine, so that its start counts. The service's two messages have one field each; its generated module
would bring protobuf, which takes longer to load than the call takes.
"""

from __future__ import annotations

import grpc

from virtrpc.credentials import Credentials, Line

DEFAULT_TIMEOUT = 5.0
SERVING, UNKNOWN = "SERVING", "SERVICE_UNKNOWN"

_CHECK = "/grpc.health.v1.Health/Check"
_STATUSES = ("UNKNOWN", SERVING, "NOT_SERVING", UNKNOWN)
_STRING, _ENUM = 0x0A, 0x08


def check(address: str, service: str = "", timeout: float = DEFAULT_TIMEOUT, credentials: Credentials | None = None) -> str:
    """What the server at an address says of a name ("" is its own): SERVING, NOT_SERVING or UNKNOWN; SERVICE_UNKNOWN where it has no such name.

    Raises ConnectionError where nothing is said in `timeout` seconds.
    """
    credentials = credentials or Credentials(address)
    with Line(address, credentials, grpc.insecure_channel, grpc.secure_channel).channel() as channel:
        ask = channel.unary_unary(_CHECK, request_serializer=_request, response_deserializer=_status)
        try:
            return str(ask(service, timeout=timeout, metadata=credentials.metadata()))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return UNKNOWN
            raise ConnectionError(error.details() or error.code().name) from None


def _request(service: str) -> bytes:
    name = service.encode()
    return bytes((_STRING, len(name))) + name if name else b""


def _status(answer: bytes) -> str:
    return _STATUSES[answer[1]] if answer[:1] == bytes((_ENUM,)) else _STATUSES[0]
