"""The manifests, as far as that needs no cluster: their schema, and what must hold between them, the image and the server."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.image.manifests import CONFIG, HOME, KUSTOMIZATION, PROBES, documents, mounts, owner, pod, server
from virtrpc_server.contract import SERVICE_NAMES
from virtrpc_server.settings import load
from virtrpc_server.settings.addresses import split_address
from virtrpc_server.transport import ENDING_SECONDS, HANDLERS_SECONDS

VERSION = "1.37"
DOCKERFILE = HOME.parents[1] / "Dockerfile"
OWN = ["virtrpc", "health"]


def user_of_image() -> int:
    """The user that the image names."""
    (found,) = re.findall(r"^USER (\d+):\1$", DOCKERFILE.read_text(), re.MULTILINE)
    return int(found)


# The schema


@pytest.mark.parametrize("kind", sorted({*documents()} - {"Kustomization"}))
def test_kubernetes_takes_them(kind: str) -> None:
    """Each document keeps to its schema, without a key that this does not know."""
    kubernetes_validate.validate(documents()[kind], VERSION, strict=True)


def misspell(document: Any) -> None:
    """A key that does not exist, deep inside."""
    security = document["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    security["readOnlyRootFileSystem"] = security.pop("readOnlyRootFilesystem")


def mistype(document: Any) -> None:
    """A text where a number is due."""
    document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "90s"


def leave_out(document: Any) -> None:
    """A required key is missing."""
    del document["spec"]["selector"]


@pytest.mark.parametrize("mistake", [misspell, mistype, leave_out])
def test_a_mistake_is_found(mistake: Callable[[Any], None]) -> None:
    """The check is strict: a planted mistake fails."""
    document = copy.deepcopy(documents()["DaemonSet"])
    mistake(document)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_kustomization_has_every_file() -> None:
    """Each manifest, and the configuration, is named in it."""
    kustomization = documents()["Kustomization"]
    named = [*kustomization["resources"], *(file for made in kustomization["configMapGenerator"] for file in made["files"])]
    assert sorted([*named, KUSTOMIZATION]) == sorted(path.name for path in HOME.iterdir())
    mounted = {source["configMap"]["name"] for source in projected() if "configMap" in source}
    assert mounted == {made["name"] for made in kustomization["configMapGenerator"]}


def projected() -> list[Any]:
    """What the volume of the configuration is made of."""
    return [source for volume in pod()["volumes"] for source in volume.get("projected", {}).get("sources", ())]


# One server a node, and one journal a server


def test_two_servers_never_have_one_journal() -> None:
    """The next server of a node starts after the end of the one before, and one node follows another."""
    rolling = documents()["DaemonSet"]["spec"]["updateStrategy"]
    assert rolling == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def test_a_drain_has_its_time() -> None:
    """Kubernetes kills later than the drain of the shipped configuration can take."""
    assert pod()["terminationGracePeriodSeconds"] >= load(config=CONFIG).drain_timeout + ENDING_SECONDS + HANDLERS_SECONDS


# Rights


def test_it_has_no_rights() -> None:
    """Not root, no capability, no way to more, a read-only root, the default system calls, no token; of the host only the state is written to."""
    security, context = pod()["securityContext"], server()["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"]) == (True, user_of_image(), user_of_image())
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert pod()["automountServiceAccountToken"] is documents()["ServiceAccount"]["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())
    of_host = {volume["name"] for volume in pod()["volumes"] if "hostPath" in volume}
    assert {name for name in of_host if not mounts(server())[name].get("readOnly")} == {"state"}


def test_root_only_gives_the_state_away() -> None:
    """The container that is root has that directory alone, and two capabilities."""
    assert set(mounts(owner())) == {"state"}
    assert owner()["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "FOWNER"]}
    assert f"chown {user_of_image()}:{user_of_image()} {mounts(owner())['state']['mountPath']}" in owner()["command"][-1]


def test_what_the_server_writes_to_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket and the journal of the shipped configuration, under the image's variables, and the roots of paths where the daemon has them."""
    for variable, value in re.findall(r"\b(XDG_\w+)=(\S+)", DOCKERFILE.read_text()):
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("os.geteuid", user_of_image)
    settings = load(config=CONFIG)
    places = {mount["mountPath"]: bool(mount.get("readOnly")) for mount in server()["volumeMounts"]}
    assert not places[str(settings.socket.parent)]
    assert not places[str(settings.state_dir)]
    assert all(str(root) in places for root in settings.path_roots)


# Probes


def test_probes_ask_for_the_server_itself() -> None:
    """None names a host: one that hangs is not mended by another server; nor a service, which says the same as the server."""
    for name in PROBES:
        command = server()[name]["exec"]["command"]
        assert command[:2] == OWN, name
        assert not {word for word in command[2:] if word in SERVICE_NAMES or "/" in word}, name


def test_probes_are_patient() -> None:
    """Each gives its command more time than that waits, and the server may start and stand still for two minutes."""
    for name in PROBES:
        probe = server()[name]
        words = probe["exec"]["command"]
        waits = float(words[words.index("--timeout") + 1]) if "--timeout" in words else 5.0
        assert probe["timeoutSeconds"] > waits, name
    for name in ("startupProbe", "livenessProbe"):
        assert server()[name]["periodSeconds"] * server()[name]["failureThreshold"] >= 120, name


# Who reaches it


def test_callers_need_a_certificate() -> None:
    """The shipped configuration listens with TLS alone, for clients of its authority, and the files that it names are those of the mounted secret."""
    settings = load(config=CONFIG)
    assert settings.tls is not None
    assert not settings.insecure
    (secret,) = (source["secret"] for source in projected() if "secret" in source)
    place = Path(mounts(server())["config"]["mountPath"])
    wanted = {settings.tls.certificate, settings.tls.key, settings.tls.client_ca}
    assert wanted == {place / item["path"] for item in secret["items"]}
    assert {item["key"] for item in secret["items"]} == {"tls.crt", "tls.key", "ca.crt"}


def test_the_service_leads_to_the_server() -> None:
    """Each pod's own address (headless), at the port that the container names and the policy lets callers to."""
    service, policy = documents()["Service"]["spec"], documents()["NetworkPolicy"]["spec"]
    labels = documents()["DaemonSet"]["spec"]["template"]["metadata"]["labels"]
    assert (service["clusterIP"], service["selector"], policy["podSelector"]["matchLabels"]) == ("None", labels, labels)
    assert documents()["DaemonSet"]["spec"]["selector"]["matchLabels"] == labels
    (port,) = server()["ports"]
    assert [service["ports"][0]["targetPort"], policy["ingress"][0]["ports"][0]["port"]] == [port["name"]] * 2
    listen = load(config=CONFIG).listen
    assert listen is not None
    assert split_address(listen)[1] == port["containerPort"] == service["ports"][0]["port"]
