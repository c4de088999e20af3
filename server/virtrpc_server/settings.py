"""What can be configured: one schema for flags, environment (VIRTRPC_…) and a TOML file, in that order of precedence."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.identity_settings import JwtSettings, TlsSettings
from virtrpc_server.schema import ConfigurationError as ConfigurationError
from virtrpc_server.schema import Strict

DEFAULT_CONFIG = Path("/etc/virtrpc/virtrpcd.toml")
ROOTS_STATE_DIR = Path("/var/lib/virtrpc")
DEFAULT_HOST = "local"
DEFAULT_URI = "qemu:///system"

_NAMED_HOST = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SCHEME = re.compile(r"[a-z][a-z0-9]*(\+[a-z0-9]+)?")


def default_socket() -> Path:
    """Where root's server listens, and where everybody else's."""
    if os.geteuid() == 0:
        return Path("/run/virtrpc/virtrpc.sock")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "virtrpc/virtrpc.sock"


def default_state_dir() -> Path:
    """Where root's server keeps its journal, and where everybody else's."""
    if os.geteuid() == 0:
        return ROOTS_STATE_DIR
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "virtrpc"
    except RuntimeError:  # a user that has no home, as in many a container
        return ROOTS_STATE_DIR


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[ipv6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or (":" in bare and bare == host):
        raise ValueError(f"expected HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, not {address!r}")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Names other than "localhost" may resolve to anything: they are not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def plaintext(listen: str) -> str:
    """Why a server does not listen on a TCP address where nobody says who it is, and what to do."""
    who = "every user of this machine" if is_loopback(split_address(listen)[0]) else "whoever reaches it"
    ways = "use the Unix socket, or set tls.client_ca, or jwt, or insecure if that is meant"
    return f"at {listen} nobody says who it is, and {who} would command the hypervisors: {ways}"


def shown(uri: str) -> str:
    """A URI without its password, for people and logs."""
    parts = urlsplit(uri)
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{place}")) if ":" in user else uri


class HostSettings(Strict):
    """One host. `migrations` and `saves` run at once; `workers` overrides what the daemon says it guarantees."""

    name: str = DEFAULT_HOST
    uri: str
    read_only: bool = False
    path_roots: tuple[Path, ...] | None = None
    """Directories below which file paths in requests must resolve; None means the server's."""
    migration_uri: str = ""
    """How other hosts' daemons reach this one, where that is not `uri`."""
    migrations: int = Field(default=4, ge=1)
    saves: int = Field(default=4, ge=1)
    workers: int | None = Field(default=None, ge=1)
    audit_seconds: float = Field(default=60.0, gt=0)
    sample_seconds: float = Field(default=1.0, gt=0)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"expected up to 64 letters, digits, dots, dashes and underscores, not {name!r}")
        return name

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: str) -> str:
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri) or re.search(r"\s", uri):
            raise ValueError("expected a libvirt URI, such as qemu:///system")
        if uri.startswith("sim:"):
            try:
                from_uri(uri)
            except DriverError as error:
                raise ValueError(error.fault.message) from None
        return uri

    @field_validator("path_roots")
    @classmethod
    def _check_roots(cls, roots: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        return roots if roots is None else _absolute(roots)


def _absolute(roots: tuple[Path, ...]) -> tuple[Path, ...]:
    for root in roots:
        if not root.is_absolute() or ".." in root.parts:
            raise ValueError(f"expected absolute directories without .., not {root}")
    return roots


def parse_host(text: str) -> dict[str, str]:
    """NAME=URI, or a URI alone for the host "local". A URI may hold an = of its own."""
    named = _NAMED_HOST.fullmatch(text)
    return {"name": named[1], "uri": named[2]} if named else {"name": DEFAULT_HOST, "uri": text}


def _read_hosts(value: Any) -> Any:
    """A list of tables or of NAME=URI; as one text (the environment) JSON, or NAME=URI separated by blanks."""
    if isinstance(value, str):
        value = _read_list(value)
    if isinstance(value, list | tuple):
        return [parse_host(item) if isinstance(item, str) else item for item in value]
    return value


def _read_list(value: Any) -> Any:
    """A list; as one text (the environment) JSON, or items separated by blanks."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return value.split()
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected a JSON list, or items separated by blanks: {error}") from None


class LimitSettings(Strict):
    """What one caller may have, and the server take. 0 is no limit."""

    calls_per_second: float = Field(default=2_000.0, ge=0)
    burst: int = Field(default=10_000, ge=1)
    """Calls that may come at once after a silence."""
    streams: int = Field(default=10_000, ge=0)
    jobs: int = Field(default=5_000, ge=0)
    connections: int = Field(default=10_000, ge=0)
    """All callers', on each of the sockets."""
    message_bytes: int = Field(default=4 << 20, ge=2 << 20, le=64 << 20)
    """Of one request, unpacked."""


def _read_limits(value: Any) -> Any:
    """A table; as a list (flags) or one text (the environment) NAME=NUMBER, or JSON."""
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("{") else value.split()
    if isinstance(value, list | tuple):
        pairs = [item.partition("=") for item in value]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("expected NAME=NUMBER, such as jobs=100")
        return {name: number for name, _, number in pairs}
    return value


class Settings(BaseSettings):
    """All settings of `virtrpcd`. Made by `load`."""

    model_config = SettingsConfigDict(
        env_prefix="VIRTRPC_", env_nested_delimiter="_", env_nested_max_split=1, extra="forbid", frozen=True, env_ignore_empty=True
    )

    hosts: Annotated[tuple[HostSettings, ...], NoDecode, BeforeValidator(_read_hosts)] = (HostSettings(name=DEFAULT_HOST, uri=DEFAULT_URI),)
    socket: Path = Field(default_factory=default_socket)
    """The Unix socket to listen on."""
    socket_mode: str = "0600"
    """Its mode, in octal: who may connect, and so command the hypervisors."""
    socket_group: str | None = None
    """Its group, by name or number."""
    listen: str | None = None
    """A TCP address to listen on as well, HOST:PORT."""
    insecure: bool = False
    """Allow `listen` although nobody who calls there says who it is: whoever reaches it commands the hypervisors."""
    tls: TlsSettings | None = None
    """TLS at `listen`, and which clients' certificates count."""
    jwt: JwtSettings | None = None
    """Bearer tokens, and who signs them."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_list)] = ()
    """Callers, by name, that say in x-forwarded-client-cert for whom they call."""
    policy: Path | None = None
    """A file of rules, or a directory of them: who may do what. Without it the Unix socket's callers may do everything, certified ones nothing."""
    drain_timeout: float = Field(default=60.0, ge=0)
    """Seconds that running jobs are waited for when the server is asked to end."""
    state_dir: Path = Field(default_factory=default_state_dir)
    """The directory of the journal of jobs; made with mode 0700. One server at a time may have it."""
    journal: bool = True
    """Whether jobs are kept there, and outlive the server; else they are kept in memory."""
    journal_sync: bool = False
    """Have what was told of jobs survive a loss of power, not only the end of the process: each batch waits for the disk."""
    history_days: float = Field(default=7.0, gt=0)
    """How long finished jobs are kept. One with a request_id is kept for an hour at least."""
    history_jobs: int = Field(default=10_000, ge=0)
    """How many finished jobs are kept, those of the last hour with a request_id aside: about 3.6 KB of memory each."""
    path_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_read_list)] = (Path("/var/lib/libvirt"),)
    """Directories below which file paths in requests must resolve, unless a host has its own."""
    migration_schemes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_list)] = ("qemu+tls", "qemu+tcp", "xen+tls", "xen+tcp")
    """Schemes with transports that a migration's destination URI may have. ssh is not among them: the daemon would run a program as root."""
    limits: Annotated[LimitSettings, NoDecode, BeforeValidator(_read_limits)] = Field(default_factory=LimitSettings)
    """What one caller may have."""
    audit_log: str = "auto"
    """Where audit lines go: a path, stderr, none, or auto: audit.log in `state_dir` where the server listens on a TCP address or has a policy."""
    audit_required: bool = False
    """Refuse what changes something while no audit line can be written."""
    heartbeat: float = Field(default=15.0, gt=0)
    """The longest silence of a stream, in seconds."""
    lag_warning: float = Field(default=0.1, gt=0)
    """Seconds that something may hold up the event loop before that is logged."""
    metrics: Literal["none", "otlp"] = "none"
    """Where metrics are sent, beside what `metrics_listen` offers."""
    metrics_seconds: float = Field(default=60.0, gt=0)
    """How often they are sent."""
    metrics_listen: str | None = None
    """A TCP address on which Prometheus finds /metrics, HOST:PORT."""
    metrics_insecure: bool = False
    """Allow `metrics_listen` to be reachable from other machines: whoever reaches it reads all guests' names and statistics."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    """Whether each entry of the log is a line of text or a JSON object."""
    log_otlp: bool = False
    """Whether the server's log is sent by OTLP as well."""
    tracing: Literal["none", "console", "otlp"] = "none"
    """Where spans go."""
    tracing_ratio: float = Field(default=1.0, ge=0, le=1)
    """The share of traces that is recorded of those that begin here; where a caller brings a trace, it decides."""
    tracing_endpoint: str | None = None
    """For traces, instead of `otlp_endpoint`."""
    otlp_endpoint: str | None = None
    """The collector's address for all that is sent by OTLP, such as http://127.0.0.1:4317. Without it OTEL_EXPORTER_OTLP_ENDPOINT decides."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file; no .env and no secrets directory."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("path_roots")
    @classmethod
    def _check_roots(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        return _absolute(roots)

    @field_validator("migration_schemes")
    @classmethod
    def _check_schemes(cls, schemes: tuple[str, ...]) -> tuple[str, ...]:
        for scheme in schemes:
            if not _SCHEME.fullmatch(scheme):
                raise ValueError(f"expected schemes such as qemu+tls, not {scheme!r}")
            if scheme.endswith("+ext"):
                raise ValueError(f"{scheme} runs any program that a caller names: it cannot be allowed")
        return schemes

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _check_listen(cls, listen: str | None) -> str | None:
        if listen is not None:
            split_address(listen)
        return listen

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[HostSettings, ...]) -> tuple[HostSettings, ...]:
        if not hosts:
            raise ValueError("expected at least one host")
        names = [host.name for host in hosts]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two hosts are called {name!r}: names must differ")
        roots = [_embed_root(host.uri) for host in hosts if _embed_root(host.uri) is not None]
        if len(set(roots)) < len(roots):
            raise ValueError("two hosts embed a hypervisor in the same root: one process at a time can have it")
        return hosts

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name != "unix" and ":" not in name:
                raise ValueError(f"expected unix, spiffe://DOMAIN/PATH, dns:NAME or cn:NAME, not {name!r}")
        return names

    @field_validator("socket_mode")
    @classmethod
    def _check_mode(cls, mode: str) -> str:
        if not re.fullmatch(r"0?[0-7]{3}", mode):
            raise ValueError(f'expected a mode in octal, such as "0660", not {mode!r}')
        return mode

    @model_validator(mode="after")
    def _check_reach(self) -> Self:
        if self.tls is not None and self.listen is None:
            raise ValueError("tls: it is for a TCP address, and there is none: set listen")
        if int(self.socket_mode, 8) & 0o007 and not self.insecure:
            raise ValueError(
                f"socket_mode: {self.socket_mode} lets every user of this machine command the hypervisors: set insecure if that is meant"
            )
        if self.jwt is not None and self.listen is not None and self.tls is None:
            raise ValueError(f"jwt: tokens sent to {self.listen} in the clear could be read by others: set tls")
        if self.listen is not None and not self.insecure and not self.authenticates:
            raise ValueError(f"listen: {plaintext(self.listen)}")
        return self

    @property
    def authenticates(self) -> bool:
        """Whether callers by TCP have a way to say who they are."""
        return self.tls is not None and (self.tls.client_ca is not None or self.jwt is not None)

    @property
    def anonymous(self) -> bool:
        """Whether those are served as well who come by TCP and do not say who they are: `insecure` where nobody can."""
        return self.listen is not None and self.insecure and not self.authenticates

    @model_validator(mode="after")
    def _check_reach_of_metrics(self) -> Self:
        if self.metrics_listen is not None and not self.metrics_insecure and not is_loopback(split_address(self.metrics_listen)[0]):
            raise ValueError(
                f"metrics_listen: {self.metrics_listen} is not a loopback address: whoever reaches it reads the names and statistics of all "
                "guests. Set metrics_insecure if that is meant"
            )
        return self

    @property
    def audit_path(self) -> Path | None:
        """The file of the audit log; None where there is none."""
        if self.audit_log in ("none", "stderr", "-"):
            return None
        if self.audit_log != "auto":
            return Path(self.audit_log)
        return self.state_dir / "audit.log" if self.listen is not None or self.policy is not None else None

    @property
    def audited(self) -> bool:
        """Whether there is an audit log."""
        return self.audit_log in ("stderr", "-") or self.audit_path is not None

    def roots_of(self, host: HostSettings) -> tuple[str, ...]:
        """The directories below which file paths in requests to this host must resolve."""
        return tuple(str(root) for root in (self.path_roots if host.path_roots is None else host.path_roots))


def _embed_root(uri: str) -> str | None:
    parts = urlsplit(uri)
    if parts.path != "/embed":
        return None
    return os.path.normpath((parse_qs(parts.query).get("root") or [""])[0])


def load(flags: Mapping[str, Any] | None = None, config: Path | None = None) -> Settings:
    """The settings from these flags (None means not given), the environment and the file.

    Without `config` the file is /etc/virtrpc/virtrpcd.toml, where it exists. Raises ConfigurationError.
    """
    if config is not None and not config.exists():
        raise ConfigurationError(f"{config}: there is no such file")

    class Loaded(Settings):
        model_config = SettingsConfigDict(toml_file=config or DEFAULT_CONFIG)

    try:
        return Loaded(**{key: value for key, value in (flags or {}).items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError("\n".join(_line(detail) for detail in error.errors(include_url=False))) from None
    except (SettingsError, OSError, ValueError) as error:  # a file that is not TOML, or cannot be read
        raise ConfigurationError(f"{config or DEFAULT_CONFIG}: {error}") from None


_TABLES: Mapping[str, type[BaseModel]] = {"hosts[": HostSettings, "limits.": LimitSettings, "tls.": TlsSettings, "jwt.": JwtSettings}


def _line(detail: ErrorDetails) -> str:
    key = ""
    for part in detail["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    if detail["type"] == "extra_forbidden":
        model = next((model for prefix, model in _TABLES.items() if key.startswith(prefix)), Settings)
        return f"{key}: there is no such key; there are {', '.join(model.model_fields)}"
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    text = {"path_type": "expected a path", "missing": "is required"}.get(detail["type"], text)
    # A URI may hold a password; a whole table may hold a URI.
    plain = isinstance(detail["input"], str | int | float) and not key.endswith("uri") and detail["type"] != "value_error"
    got = f", not {detail['input']!r}" if plain else ""
    return f"{key}: {text}{got}" if key else text
