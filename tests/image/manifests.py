"""The manifests of server/kubernetes, and what of them says how the server's container is run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

HOME = Path(__file__).parents[2] / "server/kubernetes"
CONFIG = HOME / "virtrpcd.toml"
CONFIGURATION = ("virtrpcd.toml", "policy.cedar")
"""What the ConfigMap is made of."""
KUSTOMIZATION = "kustomization.yaml"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@cache
def documents() -> dict[str, Any]:
    """Each document under its kind."""
    found = [document for path in sorted(HOME.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]
    return {document["kind"]: document for document in found}


def pod() -> Any:
    """The pod's description."""
    return documents()["DaemonSet"]["spec"]["template"]["spec"]


def server() -> Any:
    """The server's container."""
    (container,) = pod()["containers"]
    return container


def owner() -> Any:
    """The container that readies the state directory."""
    (container,) = pod()["initContainers"]
    return container


def mounts(container: Any) -> dict[str, Any]:
    """What a container mounts, by the volume's name."""
    return {mount["name"]: mount for mount in container["volumeMounts"]}
