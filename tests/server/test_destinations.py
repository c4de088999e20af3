"""What a destination may look like: everything else is refused as it stands, and shown without its secrets."""

from __future__ import annotations

import pytest

from virtrpc_server import destinations
from virtrpc_server.errors import Refusal

SCHEMES = frozenset({"qemu+tls", "qemu+tcp", "xen+tls"})
ALLOWED = ["qemu+tls://there/system", "qemu+tcp://10.0.0.2:16509/system", "qemu+tcp://[::1]:16509/system", "qemu+tcp://root@there.example.org/system"]
HOSTILE = [
    # Schemes and transports that are not on the list, or are written so that only libvirt knows them.
    "qemu+ext://there/system", "qemu+ssh://there/system", "qemu+libssh://there/system", "qemu+libssh2://there/system", "qemu+unix:///system",
    "qemu:///system", "qemu:///embed?root=/x", "test:///default", "QEMU+TCP://there/system", "Qemu+Ext://there/system", "qemu+TCP://there/system",
    "qemu+tcp+ext://there/system", "ext://there/", "http://there/", "file:///etc/passwd", "//there/system", "there", "", "not a uri", "qemu+tcp:",
    # Queries, however they are brought in.
    "qemu+tcp://there/system?command=/bin/sh", "qemu+tcp://there/system?netcat=/bin/sh", "qemu+tcp://there/system?keyfile=/root/key",
    "qemu+tcp://there/system?socket=/run/x", "qemu+tcp://there/system?pkipath=/tmp", "qemu+tcp://there/system?no_verify=1", "qemu+tcp://there/system?",
    "qemu+tcp://there?command=x/system", "qemu+tcp://there/system%3Fcommand=/bin/sh", "qemu+tcp://there/system;command=/bin/sh",
    "qemu+tcp://there/system&command=/bin/sh",
    # Fragments, credentials, and hosts that are none.
    "qemu+tcp://there/system#x", "qemu+tcp://there#@elsewhere/system", "qemu+tcp://root:secret@there/system", "qemu+tcp://:secret@there/system",
    "qemu+tcp:///system", "qemu+tcp://@/system", "qemu+tcp://:16509/system", "qemu+tcp://there:port/system", "qemu+tcp://there:99999/system",
    "qemu+tcp://-oProxyCommand=x/system", "qemu+tcp://-there/system", "qemu+tcp://th_ere/system", "qemu+tcp://[::1/system", "qemu+tcp://[::1%25eth0]/",
    "qemu+tcp://" + "a" * 64 + "/system", "qemu+tcp://there/" + "a" * 2000,
    # Characters that some parser drops, decodes, or takes for an end.
    "qemu+tcp://there\n/system", "qemu+tcp://there\x00/system", "qemu+tcp://there /system", " qemu+tcp://there/system", "qemu+tcp://there/system\n",
    "qemu+tcp://there\t/system", "qemu+tcp://the%72e/system", "qemu+tcp://there%00/system", "qemu+tcp://there%0a/system", "qemu+tcp://there\\system",
    "qemu+tcp://there/`touch x`", "qemu+tcp://there/$(touch x)", "qemu+tcp://there/\"x\"", "qemu+tcp://thére/system", "qemu+tcp://there/\u2028",
    "qemu+tcp\u200b://there/system", "qemu+tls://there\uff0fx/system",
]  # fmt: skip
DATA = ["", "tcp://10.0.0.2", "tcp://10.0.0.2:49152", "tcp:there:49152", "tcp://[::1]:49152", "rdma://there:49152"]
HOSTILE_DATA = [
    "exec:touch /tmp/x", "exec://touch", "fd:0", "fd:migrate", "file:/tmp/x", "unix:/tmp/x", "unix:///tmp/x", "http://there", "x-rdma://there",
    "TCP://there", "tcp://there?x=y", "tcp://there#x", "tcp://user@there", "tcp://user:secret@there", "tcp://there/path", "tcp:///path", "tcp:",
    "tcp://", "tcp://:49152", "tcp://there:99999", "tcp://there:49152,exec:x", "tcp://there\n", "tcp://there %20", "tcp://-there", "tcp:there?x=y",
    "there:49152", "tcp://the%72e", "tcp://there\x00", "|touch x", "tcp://0.0.0.0:1;x",
]  # fmt: skip
ADDRESSES = ["", "0.0.0.0", "10.0.0.2", "::", "there", "there.example.org"]
HOSTILE_ADDRESSES = [
    "there:49152", "10.0.0.2,exec:x", "unix:/tmp/x", "/tmp/x", "there\n", "-there", "a b", "fe80::1%eth0", "[::]", "tcp://there", "%00", "*",
]  # fmt: skip


@pytest.mark.parametrize("uri", ALLOWED)
def test_allowed(uri: str) -> None:
    """A host's name or address, with a port and a user perhaps, passes as it stands."""
    assert destinations.connection_uri(uri, SCHEMES) == uri


@pytest.mark.parametrize("uri", HOSTILE, ids=ascii)
def test_hostile(uri: str) -> None:
    """Whatever could run a program, name a file or be read in two ways is refused, and no secret is shown."""
    with pytest.raises(Refusal) as caught:
        destinations.connection_uri(uri, SCHEMES)
    assert caught.value.problem.reason == "MIGRATION_TARGET_NOT_ALLOWED"
    assert "secret" not in str(caught.value.problem)


@pytest.mark.parametrize("uri", DATA)
def test_data(uri: str) -> None:
    """Memory goes to a host and a port."""
    assert destinations.memory_uri(uri) == uri


@pytest.mark.parametrize("uri", HOSTILE_DATA, ids=ascii)
def test_hostile_data(uri: str) -> None:
    """Neither memory nor disks go to programs, files, sockets or descriptors."""
    for check in (destinations.memory_uri, destinations.disks_uri):
        with pytest.raises(Refusal) as caught:
            check(uri)
        assert caught.value.problem.reason == "MIGRATION_TARGET_NOT_ALLOWED"
        assert "secret" not in str(caught.value.problem)


def test_disks_go_over_tcp() -> None:
    """rdma: is for memory alone."""
    with pytest.raises(Refusal):
        destinations.disks_uri("rdma://there:49152")


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(address: str) -> None:
    """The destination waits on an address or a name."""
    assert destinations.listen_address(address) == address


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES, ids=ascii)
def test_hostile_addresses(address: str) -> None:
    """Nothing else is an address."""
    with pytest.raises(Refusal):
        destinations.listen_address(address)
