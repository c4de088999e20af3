"""kill -9 of the server on simulated hosts."""

from __future__ import annotations

import pytest

from tests.restart.bed import StubbornServer
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.restart


def test_a_server_that_was_killed_is_back_on_the_same_socket() -> None:
    """It answers from a fresh listing, and its journal is whole."""
    with StubbornServer({"a": "sim://a/?domains=3"}) as server:
        server.wait_live()
        before = server.pid
        server.kill()
        server.check_journal()
        server.start()
        server.wait_live()
        assert server.pid != before
        with server.blocking() as client:
            assert [domain.state for domain in client.list_domains()].count(t.DOMAIN_STATE_RUNNING) == 1
