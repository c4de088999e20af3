"""What to do next, in a line, for each reason that a server can give."""

from __future__ import annotations

from collections.abc import Mapping

ADVICE: Mapping[str, str] = {
    "INVALID_ARGUMENT": "correct the request; repeating it is useless",
    "XML_INVALID": "correct the XML",
    "XML_TOO_LARGE": "1 MiB of XML is the most",
    "PAGE_TOKEN_INVALID": "list again from the first page",
    "RESUME_TOKEN_INVALID": "watch again without a token",
    "PATH_NOT_ALLOWED": "use a path below one of these directories, or have the server's administrator add one (path_roots)",
    "MIGRATION_TARGET_NOT_ALLOWED": "name a configured host (see `virtrpc hosts`)",
    "REQUEST_ID_REUSED": "repeat it with a new request id",
    "HOST_NOT_CONFIGURED": "`virtrpc hosts` names the configured hosts",
    "DOMAIN_NOT_FOUND": "`virtrpc list` names the domains",
    "CHECKPOINT_NOT_FOUND": "`virtrpc checkpoint list DOMAIN` names the checkpoints",
    "SNAPSHOT_NOT_FOUND": "`virtrpc snapshot list DOMAIN` names the snapshots",
    "DEVICE_NOT_FOUND": "look for the device with `virtrpc xml DOMAIN`",
    "METADATA_NOT_FOUND": "`virtrpc metadata DOMAIN` shows what there is",
    "JOB_NOT_FOUND": "`virtrpc jobs` lists the jobs; of a forgotten job, look at the domain before you repeat it",
    "ALREADY_EXISTS": "take another name, or change what exists",
    "HOST_UNREACHABLE": "retry later; `virtrpc host NAME` says why",
    "HOST_READ_ONLY": "this host takes queries only",
    "AGENT_UNRESPONSIVE": "check the agent inside the guest, then retry",
    "UNSUPPORTED_BY_HYPERVISOR": "`virtrpc host NAME` shows what its hypervisor can do",
    "AMBIGUOUS_NAME": "say HOST/NAME, or use the UUID",
    "WRONG_STATE": "look at it with `virtrpc show DOMAIN`, then decide again",
    "MONITOR_UNRESPONSIVE": "the guest may be wedged: retry later, or `virtrpc destroy DOMAIN`",
    "OPERATION_FAILED": "the message is the hypervisor's",
    "MIGRATION_UNSAFE": "make the storage safe, or say --unsafe",
    "RESOURCE_LACKING": "free memory, disk space or devices, then retry",
    "NOT_READY": "look at it with `virtrpc job show JOB`, then retry",
    "JOURNAL_UNAVAILABLE": "free space in the server's state directory, or mend its journal, then retry",
    "AUDIT_UNAVAILABLE": "free space where the server's audit log is, then retry",
    "RATE_LIMITED": "call less often: the server lets nobody call more",
    "TOO_MANY_STREAMS": "close some watches; one watch tells of all domains, or of all jobs",
    "TOO_MANY_JOBS": "wait until some of your jobs are over, or cancel some (`virtrpc jobs`)",
    "WAIT_TIMEOUT": "nothing was changed: retry, give a longer --wait-timeout, or cancel what is in the way",
    "BUSY": "nothing was changed: retry, give a --wait-timeout, or cancel what is in the way",
    "CANCELLED": "",
    "RUN_TIMEOUT": "give a longer --run-timeout",
    "PREEMPTED": "the domain was destroyed meanwhile",
    "DAEMON_BUDGET_FULL": "the hypervisor's daemon is full of calls that hang: retry later",
    "INTERRUPTED": "look at the domain before you repeat it",
    "OUTCOME_UNKNOWN": "it may still take effect: look at the domain before you repeat it; `virtrpc destroy DOMAIN` is the way out",
    "UNAUTHENTICATED": "say who you are, with --client-certificate or with --token-file",
    "PERMISSION_DENIED": "ask for the right to do this",
    "HYPERVISOR_PERMISSION_DENIED": "the hypervisor refuses the server's own account; `virtrpcd doctor` says more to its administrator",
    "HYPERVISOR_UNAUTHENTICATED": "the hypervisor refuses the server's own credentials; `virtrpcd doctor` says more to its administrator",
    "DRAINING": "the server is going down: retry soon, or at another",
    "INTERNAL": "a fault of the server; its log has the details",
    "UNIMPLEMENTED": "this server cannot do it",
}


def advice(reason: str) -> str:
    """What to do about an error with this reason; empty where there is nothing to say."""
    return ADVICE.get(reason, "")


_CONNECTION = (
    ("WRONG_VERSION_NUMBER", "what answers there does not speak TLS: leave out --ca and VIRTRPC_CA, or take another port"),
    ("not in peer certificate", "the server's certificate has another name: correct the address, or say --server-name"),
    ("Hostname Verification", "the server's certificate has another name: correct the address, or say --server-name"),
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not one of the authority that you trust, or has expired: see --ca and VIRTRPC_CA"),
    ("Socket closed", "it may want TLS (--ca), or a certificate of yours that is valid and that its authority has signed (--client-certificate)"),
    ("Connection reset", "it may want TLS (--ca), or a certificate of yours that is valid and that its authority has signed (--client-certificate)"),
)


def connection_advice(message: str) -> str:
    """What to do about a server that cannot be reached, by what gRPC says of it; empty where that says nothing of TLS."""
    return next((words for part, words in _CONNECTION if part in message), "")
