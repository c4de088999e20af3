"""One schema for flags, environment and file; what is wrong is named precisely."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from virtrpc_server import settings as module
from virtrpc_server.settings import default_socket, default_state_dir, load
from virtrpc_server.settings.addresses import is_loopback, split_address
from virtrpc_server.settings.hosts import parse_host, shown
from virtrpc_server.settings.limits import LimitSettings
from virtrpc_server.settings.schema import ConfigurationError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's file nor its environment is seen."""
    monkeypatch.setattr(module, "DEFAULT_CONFIG", tmp_path / "absent.toml")
    for name in module.Settings.model_fields:
        monkeypatch.delenv(f"VIRTRPC_{name.upper()}", raising=False)


def written(path: Path, text: str) -> Path:
    """A file with this text."""
    (path / "v.toml").write_text(text)
    return path / "v.toml"


def complaint(config: Path | None = None, **flags: Any) -> str:
    """What load refuses these with."""
    with pytest.raises(ConfigurationError) as caught:
        load(flags, config)
    return str(caught.value)


def test_who_has_no_home_keeps_the_journal_where_root_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may have no entry in passwd and no HOME."""
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)
    assert default_state_dir() == module.ROOTS_STATE_DIR


def test_without_anything_there_are_defaults() -> None:
    """One host, local=qemu:///system; a Unix socket only; tracing off."""
    settings = load()
    assert [(host.name, host.uri, host.read_only) for host in settings.hosts] == [("local", "qemu:///system", False)]
    assert (settings.socket, settings.listen, settings.insecure) == (default_socket(), None, False)
    assert (settings.drain_timeout, settings.heartbeat, settings.tracing) == (60, 15, "none")
    assert settings.roots_of(settings.hosts[0]) == ("/var/lib/libvirt",)


def test_flags_go_before_the_environment_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source fills only what the ones before it left unset."""
    config = written(tmp_path, 'drain_timeout = 1\nheartbeat = 1\nlisten = "127.0.0.1:1"\ninsecure = true\n')
    monkeypatch.setenv("VIRTRPC_DRAIN_TIMEOUT", "2")
    monkeypatch.setenv("VIRTRPC_HEARTBEAT", "2")
    settings = load({"drain_timeout": 3.0, "heartbeat": None, "listen": None}, config)
    assert (settings.drain_timeout, settings.heartbeat, settings.listen) == (3, 2, "127.0.0.1:1")


def test_the_default_file_is_read_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/etc/virtrpc/virtrpcd.toml counts without being named."""
    monkeypatch.setattr(module, "DEFAULT_CONFIG", written(tmp_path, "heartbeat = 7"))
    assert load().heartbeat == 7


def test_hosts_come_as_flags_tables_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NAME=URI from flags, tables from the file, JSON or blank-separated text from the environment."""
    config = written(tmp_path, '[[hosts]]\nname = "a"\nuri = "test:///default"\nread_only = true\nworkers = 20\npath_roots = ["/srv"]\n')
    (host,) = load({}, config).hosts
    assert (host.name, host.read_only, host.workers, load({}, config).roots_of(host)) == ("a", True, 20, ("/srv",))
    monkeypatch.setenv("VIRTRPC_HOSTS", "b=qemu:///system c=lxc:///system")
    assert [host.name for host in load({}, config).hosts] == ["b", "c"]
    monkeypatch.setenv("VIRTRPC_HOSTS", '[{"name": "d", "uri": "xen:///system"}, "e=test:///default"]')
    assert [host.name for host in load({}, config).hosts] == ["d", "e"]
    assert [host.name for host in load({"hosts": ["f=qemu:///system"]}, config).hosts] == ["f"]


@pytest.mark.parametrize(
    ("text", "name", "uri"),
    [
        ("a=qemu:///system", "a", "qemu:///system"),
        ("qemu:///embed?root=/x", "local", "qemu:///embed?root=/x"),
        ("a.b-c_d=qemu:///embed?root=/x", "a.b-c_d", "qemu:///embed?root=/x"),
    ],
)
def test_a_uri_alone_is_the_host_local(text: str, name: str, uri: str) -> None:
    """An = inside a URI does not make a name."""
    assert parse_host(text) == {"name": name, "uri": uri}


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("drian_timeout = 3", "drian_timeout: there is no such key; there are hosts, socket,"),
        ('[[hosts]]\nuri = "test:///default"\nreadonly = true', "hosts[0].readonly: there is no such key; there are name, uri, read_only,"),
        ('[[hosts]]\nname = "a"', "hosts[0].uri: is required"),
        (
            '[[hosts]]\nname = "a/b"\nuri = "test:///default"',
            "hosts[0].name: expected up to 64 letters, digits, dots, dashes and underscores, not 'a/b'",
        ),
        ('[[hosts]]\nuri = "no uri"', "hosts[0].uri: expected a libvirt URI"),
        ('[[hosts]]\nuri = "sim://a/?bogus=1"', "hosts[0].uri: not a parameter of sim: URIs: bogus; there are host, daemon, domains,"),
        ('[[hosts]]\nuri = "sim://a/?domains=x"', "hosts[0].uri: the URI's parameters do not fit"),
        ('[[hosts]]\nuri = "test:///default"\nsaves = 0', "hosts[0].saves: expected greater than or equal to 1, not 0"),
        ("hosts = []", "hosts: expected at least one host"),
        ('hosts = ["a=test:///default", "a=qemu:///system"]', "hosts: two hosts are called 'a'"),
        ('hosts = ["a=qemu:///embed?root=/x", "b=qemu:///embed?root=/x/"]', "hosts: two hosts embed a hypervisor in the same root"),
        ("drain_timeout = -1", "drain_timeout: expected greater than or equal to 0, not -1"),
        ('heartbeat = "soon"', "heartbeat: expected a valid number"),
        ('log_level = "loud"', "log_level: expected 'DEBUG', 'INFO', 'WARNING' or 'ERROR', not 'LOUD'"),
        ('tracing = "file"', "tracing: expected 'none', 'console' or 'otlp', not 'file'"),
        ('path_roots = ["images"]', "path_roots: expected absolute directories without .., not images"),
        ('path_roots = ["/srv/../etc"]', "path_roots: expected absolute directories without .., not /srv/../etc"),
        ('migration_schemes = ["qemu+ext"]', "migration_schemes: qemu+ext runs any program"),
        ('migration_schemes = ["qemu+tls://host"]', "migration_schemes: expected schemes such as qemu+tls"),
        ('listen = "50051"', "listen: expected HOST:PORT"),
        ("hosts = [", "v.toml: "),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, toml: str, expected: str) -> None:
    """Each mistake gives the key, what was expected and, where it is no secret, what was found."""
    assert expected in complaint(written(tmp_path, toml))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One line for each."""
    assert len(complaint(written(tmp_path, "heartbeat = 0\ndrain_timeout = -1\nnonsense = 1")).splitlines()) == 3


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    """A missing --config is an error, not a default."""
    assert "there is no such file" in complaint(tmp_path / "none.toml")


def test_a_complaint_shows_no_password(tmp_path: Path) -> None:
    """A URI, or a table that may hold one, is not repeated in an error."""
    text = '[[hosts]]\nname = "a"\nuri = "esx://root:hunter2@h/ x"\n[[hosts]]\nuri = "esx://root:hunter2@h/"\nsaves = 0'
    assert "hunter2" not in complaint(written(tmp_path, text))


def test_limits_come_as_flags_text_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each form sets the limits that it names; the others keep their defaults; a wrong one is named."""
    expected = LimitSettings(jobs=7, streams=0)
    assert load({"limits": ["jobs=7", "streams=0"]}).limits == expected
    file = tmp_path / "virtrpcd.toml"
    file.write_text("[limits]\njobs = 7\nstreams = 0\n")
    assert load(config=file).limits == expected
    for text in ("jobs=7 streams=0", '{"jobs": 7, "streams": 0}'):
        monkeypatch.setenv("VIRTRPC_LIMITS", text)
        assert load().limits == expected
    for wrong, words in (("jobs", "NAME=NUMBER"), ("jobs=-1", "limits.jobs"), ("cats=1", "limits.cats: there is no such key; there are calls_per")):
        monkeypatch.setenv("VIRTRPC_LIMITS", wrong)
        with pytest.raises(ConfigurationError, match=words):
            load()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50051", "[::1]:50051", "0.0.0.0:50051", "[::]:50051", "[::ffff:127.0.0.1]:1", "[::]:0", "example.org:50051", "localhost:1"]
)
def test_tcp_needs_insecure(tmp_path: Path, address: str) -> None:
    """listen on any address, of loopback too, once insecure is set."""
    assert "or insecure if that is meant" in complaint(written(tmp_path, f'listen = "{address}"'))
    assert load({"listen": address, "insecure": True}).listen == address


TLS = {"certificate": Path("/c"), "key": Path("/k"), "client_ca": Path("/a")}


def test_a_table_is_merged_from_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of [tls] may come from the file, the environment and flags together; with them listen needs no insecure."""
    config = written(tmp_path, 'listen = "[::]:1"\n[tls]\ncertificate = "/x"\nkey = "/x"\ncommon_names = false\n')
    monkeypatch.setenv("VIRTRPC_TLS_CERTIFICATE", "/c")
    monkeypatch.setenv("VIRTRPC_TLS_CLIENT_CA", "/a")
    settings = load({"tls": {"key": "/k"}}, config)
    assert settings.tls is not None
    assert settings.tls.model_dump() == {**TLS, "common_names": False, "connection_seconds": 900}
    assert settings.authenticates
    assert not settings.anonymous


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[tls]\ncertificate = '/c'\nkey = '/k'", "tls: it is for a TCP address, and there is none: set listen"),
        ("listen = '[::]:1'\n[tls]\ncertificate = '/c'\nkey = '/k'", "set tls.client_ca"),
        ("listen = '[::]:1'\n[tls]\ncertificate = '/c'", "tls.key: is required"),
        ("listen = '[::]:1'\n[tls]\ncert = '/c'", "tls.cert: there is no such key; there are certificate, key, client_ca"),
        ("socket_mode = '0666'", "lets every user of this machine command the hypervisors"),
        ("socket_mode = '9'", 'expected a mode in octal, such as "0660"'),
        ("socket_mode = 432", "socket_mode: expected"),
    ],
)
def test_what_would_let_anybody_in_is_refused(tmp_path: Path, toml: str, expected: str) -> None:
    """Halves of a TLS configuration, and a socket for everybody, are errors that say what to do."""
    assert expected in complaint(written(tmp_path, toml))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True), ("LOCALHOST", True),
        ("0.0.0.0", False), ("::", False), ("::ffff:10.0.0.1", False), ("10.0.0.1", False), ("localhost.example.org", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_judged_without_asking_a_name_server(host: str, expected: bool) -> None:
    """Addresses that only this machine reaches, and no name but localhost."""
    assert is_loopback(host) is expected


def test_addresses_are_host_and_port() -> None:
    """IPv6 needs its brackets."""
    assert split_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert split_address("[::1]:50051") == ("::1", 50051)
    for text in ("", "50051", "::1", "::1:50051", "a:", "a:x", "a:65536", ":50051", "unix:1", "unix-abstract:1", "UNIX:50051", "dns:1"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            split_address(text)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("esx://root:hunter2@h/?no_verify=1", "esx://root@h/?no_verify=1"),
        ("qemu+tls://me@h:16514/system", "qemu+tls://me@h:16514/system"),
        ("qemu:///system", "qemu:///system"),
        ("test:///default", "test:///default"),
    ],
)
def test_a_shown_uri_has_no_password(uri: str, expected: str) -> None:
    """The user stays, the password goes."""
    assert shown(uri) == expected


def test_only_root_listens_in_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody else's socket is in their own runtime directory."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_socket() == Path("/run/virtrpc/virtrpc.sock")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_socket() == Path("/run/user/1000/virtrpc/virtrpc.sock")
