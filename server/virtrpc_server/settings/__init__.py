"""What can be configured: one schema for flags, environment (VIRTRPC_…) and a TOML file, in that order of precedence."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

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

from virtrpc_server.settings.addresses import is_loopback, plaintext, split_address
from virtrpc_server.settings.hosts import DEFAULT_HOST, DEFAULT_URI, HostSettings, embed_root, read_hosts
from virtrpc_server.settings.identity import JwtSettings, TlsSettings
from virtrpc_server.settings.limits import LimitSettings, read_limits
from virtrpc_server.settings.schema import ConfigurationError, absolute, read_list

DEFAULT_CONFIG = Path("/etc/virtrpc/virtrpcd.toml")
ROOTS_STATE_DIR = Path("/var/lib/virtrpc")

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


class Settings(BaseSettings):
    """All settings of `virtrpcd`. Made by `load`."""

    model_config = SettingsConfigDict(
        env_prefix="VIRTRPC_", env_nested_delimiter="_", env_nested_max_split=1, extra="forbid", frozen=True, env_ignore_empty=True
    )

    hosts: Annotated[tuple[HostSettings, ...], NoDecode, BeforeValidator(read_hosts)] = (HostSettings(name=DEFAULT_HOST, uri=DEFAULT_URI),)
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
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_list)] = ()
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
    path_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(read_list)] = (Path("/var/lib/libvirt"),)
    """Directories below which file paths in requests must resolve, unless a host has its own."""
    migration_schemes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(read_list)] = ("qemu+tls", "qemu+tcp", "xen+tls", "xen+tcp")
    """Schemes with transports that a migration's destination URI may have. ssh is not among them: the daemon would run a program as root."""
    limits: Annotated[LimitSettings, NoDecode, BeforeValidator(read_limits)] = Field(default_factory=LimitSettings)
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
        return absolute(roots)

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
        roots = [embed_root(host.uri) for host in hosts if embed_root(host.uri) is not None]
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
