"""Commands that start and stop domains."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any, TypeAlias

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.command import verb
from virtrpc.cli.panels import LIFECYCLE
from virtrpc.cli.params import BypassCache, Paused, Running, resume_state
from virtrpc.jobs import AsyncJobHandle
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

Begun: TypeAlias = Coroutine[Any, Any, AsyncJobHandle]

_MODES = {name.removeprefix("SHUTDOWN_MODE_").lower(): mode for name, mode in j.ShutdownMode.items() if mode}


def _mode(value: str) -> j.ShutdownMode.ValueType:
    if value and value not in _MODES:
        raise typer.BadParameter(f"{value!r} is no way to ask: say one of {', '.join(_MODES)}")
    return _MODES.get(value, j.SHUTDOWN_MODE_UNSPECIFIED)


Mode = Annotated[
    str,
    typer.Option(metavar="|".join(_MODES), help="How to ask the guest; the hypervisor chooses where it is not said."),
]


_TARGETS = {name.removeprefix("SUSPEND_TARGET_").lower(): target for name, target in j.SuspendTarget.items() if target}


def _target(value: str) -> j.SuspendTarget.ValueType:
    if value not in _TARGETS:
        raise typer.BadParameter(f"{value!r} is no place to sleep: say one of {', '.join(_TARGETS)}")
    return _TARGETS[value]


Target = Annotated[str, typer.Argument(metavar=f"[{'|'.join(_TARGETS)}]", help="Where the guest sleeps.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "start", panel=LIFECYCLE)(start)
    verb(app, "shutdown", panel=LIFECYCLE, aliases=("stop",))(shutdown)
    verb(app, "reboot", panel=LIFECYCLE)(reboot)
    verb(app, "suspend", panel=LIFECYCLE)(suspend)
    verb(app, "resume", panel=LIFECYCLE)(resume)
    verb(app, "destroy", panel=LIFECYCLE)(destroy)
    verb(app, "reset", panel=LIFECYCLE)(reset)
    verb(app, "pm-suspend", panel=LIFECYCLE, aliases=("dompmsuspend",))(pm_suspend)
    verb(app, "pm-wakeup", panel=LIFECYCLE, aliases=("dompmwakeup",))(pm_wakeup)
    verb(app, "save", panel=LIFECYCLE, aliases=("managedsave",))(save)
    verb(app, "remove-save", panel=LIFECYCLE, aliases=("managedsave-remove",))(remove_save)


def start(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    paused: Paused = False,
    bypass_cache: BypassCache = False,
    force_boot: Annotated[bool, typer.Option("--force-boot", help="Throw a managed-save image away and boot afresh.")] = False,
) -> Begun:
    """Start a domain that is off; a managed-save image is restored. Cannot be aborted."""
    return client.start_domain(domain, options=options, paused=paused, bypass_cache=bypass_cache, force_boot=force_boot)


def shutdown(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions, mode: Mode = "") -> Begun:
    """Ask the guest to shut down, and wait until it is off (5 minutes unless --run-timeout says else)."""
    return client.shutdown_domain(domain, options=options, mode=_mode(mode))


def reboot(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions, mode: Mode = "") -> Begun:
    """Ask the guest to reboot, and wait until it does (5 minutes unless --run-timeout says else)."""
    return client.reboot_domain(domain, options=options, mode=_mode(mode))


def suspend(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions) -> Begun:
    """Pause a domain; its memory stays."""
    return client.suspend_domain(domain, options=options)


def resume(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions) -> Begun:
    """Let a paused domain run on."""
    return client.resume_domain(domain, options=options)


def destroy(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    graceful: Annotated[bool, typer.Option("--graceful", help="Ask the hypervisor's process to end, and never kill it.")] = False,
) -> Begun:
    """End a domain at once, like pulling the plug; it does not queue, and what is queued ends."""
    return client.destroy_domain(domain, options=options, graceful=graceful)


def reset(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions) -> Begun:
    """Reset a running domain, like its reset button; the guest is not asked."""
    return client.reset_domain(domain, options=options)


def pm_suspend(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions, target: Target = "memory") -> Begun:
    """Have a guest put itself to sleep, through its agent."""
    return client.power_management_suspend(domain, options=options, target=_target(target))


def pm_wakeup(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions) -> Begun:
    """Wake a guest that sleeps in memory."""
    return client.power_management_wakeup(domain, options=options)


def save(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    bypass_cache: BypassCache = False,
    running: Running = False,
    paused: Paused = False,
) -> Begun:
    """Save a domain's memory to a file that libvirt manages, and stop it; the next start goes on from there."""
    return client.managed_save_domain(domain, options=options, bypass_cache=bypass_cache, resume_state=resume_state(running, paused))


def remove_save(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions) -> Begun:
    """Delete a domain's managed-save image: the next start boots afresh."""
    return client.remove_managed_save(domain, options=options)
