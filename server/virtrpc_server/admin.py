"""A libvirt daemon's limits, read and raised by `virt-admin`: libvirt-python has no binding for the admin interface."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10
"""The admin interface has workers of its own, so that it answers also while the daemon's are stuck."""

# Drivers with a modular daemon of their own; the monolithic libvirtd serves them all.
MODULAR = {"qemu": "virtqemud", "lxc": "virtlxcd", "xen": "virtxend", "vbox": "virtvboxd", "bhyve": "virtbhyved", "vz": "virtvzd", "ch": "virtchd"}
IN_PROCESS = frozenset({"test", "sim", "esx", "vpx", "gsx", "hyperv", "vmwarews", "vmwareplayer", "vmwarefusion", "openvz", "phyp"})
"""Hypervisors that libvirt's client library reaches by itself, without a daemon on this machine."""


class AdminError(Exception):
    """virt-admin is missing, or the daemon refused; the text says which."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of a daemon. `minimum` ones are guaranteed; `priority` ones serve calls that cannot block."""

    minimum: int
    maximum: int
    workers: int
    free: int
    priority: int
    queued: int
    """Calls that wait for a worker."""


@dataclass(frozen=True, slots=True)
class Clients:
    """How many connections a daemon has, and may have."""

    count: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon on this machine: its program's name and the socket that clients use."""

    name: str
    socket: Path

    @property
    def admin_uri(self) -> str:
        """What virt-admin opens: the admin socket lies beside the other."""
        prefix = "libvirt" if self.name == "libvirtd" else self.name
        return f"{self.name}+unix:///system?socket={quote(str(self.socket.with_name(f'{prefix}-admin-sock')))}"

    @property
    def config(self) -> str:
        """The file that makes a limit permanent."""
        return f"/etc/libvirt/{self.name}.conf"

    def pool(self) -> Pool:
        """Its workers (srv-threadpool-info). Raises AdminError."""
        values = self._numbers("srv-threadpool-info", self.name)
        try:
            return Pool(
                values["minWorkers"], values["maxWorkers"], values["nWorkers"], values["freeWorkers"], values["prioWorkers"], values["jobQueueDepth"]
            )
        except KeyError as error:
            raise AdminError(f"virt-admin's answer lacks {error}") from None

    def clients(self) -> Clients:
        """Its connections (srv-clients-info). Raises AdminError."""
        values = self._numbers("srv-clients-info", self.name)
        try:
            return Clients(values["nclients"], values["nclients_max"])
        except KeyError as error:
            raise AdminError(f"virt-admin's answer lacks {error}") from None

    def set_workers(self, minimum: int, maximum: int) -> None:
        """Guarantee `minimum` workers and allow `maximum`, from now until the daemon ends. Raises AdminError."""
        # In one call: the daemon refuses a minimum above the maximum that it has.
        self._ask("srv-threadpool-set", self.name, "--min-workers", str(minimum), "--max-workers", str(maximum))

    def _numbers(self, *command: str) -> dict[str, int]:
        return {key: int(value) for key, value in re.findall(r"^(\w+)\s*:\s*(\d+)\s*$", self._ask(*command), re.MULTILINE)}

    def _ask(self, *command: str) -> str:
        if shutil.which("virt-admin") is None:
            raise AdminError("virt-admin is not installed (Debian: libvirt-clients)")
        try:
            done = subprocess.run(["virt-admin", "-c", self.admin_uri, *command], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise AdminError(f"the daemon's admin interface did not answer in {ANSWER_SECONDS} s") from None
        if done.returncode != 0:
            raise AdminError(" ".join(done.stderr.split()).removeprefix("error: ") or f"virt-admin ended with {done.returncode}")
        return done.stdout


async def min_workers(uri: str, *, read_only: bool = False) -> int | None:
    """How many workers the daemon behind a URI guarantees now; None where there is none on this machine or it does not say. Never raises."""
    for daemon in daemons(uri, read_only=read_only):
        try:
            return (await asyncio.to_thread(daemon.pool)).minimum
        except AdminError as error:
            log.debug("%s: %s", daemon.name, error)
    return None


def daemons(uri: str, *, read_only: bool = False, run: Path = Path("/run/libvirt")) -> list[Daemon]:
    """The daemons on this machine that may serve a URI, the likeliest first; none where it needs none or is another machine's.

    A URI names its socket, or libvirt takes the usual one of libvirtd or of the hypervisor's own daemon.
    """
    parts = urlsplit(uri)
    hypervisor, _, transport = parts.scheme.partition("+")
    if parts.hostname or transport not in ("", "unix") or parts.path != "/system" or hypervisor in IN_PROCESS:
        return []
    if given := parse_qs(parts.query).get("socket"):
        path = Path(given[0])
        name = path.name.partition("-sock")[0]
        return [Daemon("libvirtd" if name == "libvirt" else name, path)]
    suffix = "sock-ro" if read_only else "sock"
    found = [Daemon("libvirtd", run / f"libvirt-{suffix}")]
    if hypervisor in MODULAR:
        found.append(Daemon(MODULAR[hypervisor], run / f"{MODULAR[hypervisor]}-{suffix}"))
    return sorted(found, key=lambda daemon: not daemon.socket.exists())
