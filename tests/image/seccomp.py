"""The system calls that engines let a container without capabilities make: their shared default profile, in the form that runc takes."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

PROFILE = Path("/usr/share/containers/seccomp.json")
"""Debian's golang-github-containers-common: what Docker, Podman and containerd (RuntimeDefault) call their default, but for details."""
ARCHES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def default() -> dict[str, Any]:
    """`linux.seccomp` of a container's configuration."""
    profile = json.loads(PROFILE.read_text())
    arch, name = ARCHES[platform.machine()]
    rules = [rule for rule in profile["syscalls"] if _holds(rule, arch)]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [name],
        "syscalls": [{key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)} for rule in rules],
    }


def _holds(rule: dict[str, Any], arch: str) -> bool:
    """Whether a rule is for this architecture and for who has no capability. (Kernel versions: those named are older than any that runs.)"""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    return not includes.get("caps") and arch in includes.get("arches", [arch]) and arch not in excludes.get("arches", [])
