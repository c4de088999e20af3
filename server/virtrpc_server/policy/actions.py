"""What rules can speak of: the contract's RPCs in its three roles, a few rights that no RPC has, and all of it as a schema for Cedar."""

from __future__ import annotations

import itertools

from virtrpc_server.contract import METHODS, role_of

ROLES = ("viewer", "operator", "admin")
"""Each includes those before it."""

REACH_OUTSIDE = "ReachOutside"
SET_LABELS = "SetLabels"
CONTROL_OTHERS_JOBS = "ControlOthersJobs"
READ_FILE = "ReadFile"
WRITE_FILE = "WriteFile"
RIGHTS = {
    REACH_OUTSIDE: "to give a domain what reaches outside of its guest: host devices, files outside the configured roots, hypervisor options",
    SET_LABELS: "to change a domain's labels, by which rules tell domains apart",
    CONTROL_OTHERS_JOBS: "to cancel, finish or slow down what somebody else began, and to see its request_id",
    READ_FILE: "to have a hypervisor read a file below its host's roots",
    WRITE_FILE: "to have a hypervisor write such a file, or read and write it",
}
"""What no RPC is named after."""
USE_FILE = "UseFile"
"""Both rights about files, as a group of actions."""

SEE_DOMAIN = "GetDomain"
SEE_HOST = "GetHost"
SEE_JOB = "GetJob"
ABOUT_HOSTS = frozenset({"ListHosts", "GetHost", "GetHostStats", "GetDomainCapabilities"})
"""RPCs whose resource is a host; that of all others is a domain."""
ABOUT_FILES = frozenset({READ_FILE, WRITE_FILE})
"""Rights whose resource is a file."""

_ENTITIES = """\
entity Caller in [Caller] { name: String, way: String, names: Set<String> };
entity Host { name: String };
entity Domain in [Host] { name: String, uuid: String, host: String } tags String;
entity File in [Host] { path: String, host: String };
"""


ROLE_OF = {method.name: role_of(method) for method in METHODS} | dict.fromkeys(RIGHTS, "admin") | dict.fromkeys(ABOUT_FILES, "operator")
"""Every action with its role."""


def kind_of(action: str) -> str:
    """What an action is about, as rules call it."""
    return "Host" if action in ABOUT_HOSTS else "File" if action in ABOUT_FILES else "Domain"


def schema() -> str:
    """What rules may be about, in Cedar's schema language."""
    groups = [f'action "{role}" in ["{above}"];' for role, above in itertools.pairwise(ROLES)]
    groups.append(f'action "{USE_FILE}" in ["{ROLE_OF[WRITE_FILE]}"];')
    actions = [
        f'action "{name}" in ["{USE_FILE if name in ABOUT_FILES else role}"] '
        f"appliesTo {{ principal: Caller, resource: {kind_of(name)}, context: {{}} }};"
        for name, role in ROLE_OF.items()
    ]
    return "\n".join([_ENTITIES, *groups, f'action "{ROLES[-1]}";', *actions])
