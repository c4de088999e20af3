"""Decisions as the server takes them: once for each caller, action and resource, and then from memory until the rules change."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from virtrpc_server.caller import Call, Caller, Way
from virtrpc_server.errors import Refusal, refuse
from virtrpc_server.policy.engine import Policy, Resource, Verdict

log = logging.getLogger(__name__)

OURS = "virtrpc."
"""How the names of the services begin that the rules are about; health and reflection are nobody's secret."""
MAX_VERDICTS = 200_000
"""Verdicts that are kept, of 150 bytes each; beyond that all are taken anew."""
BATCH = 25
"""Verdicts that are taken in one go: about 2 ms."""
_EVERYTHING = Verdict(True)


class Decisions:
    """A gate, and whom it lets do what. Without a policy it tells callers apart by the way that they came alone, and decides nothing else."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy
        self.version = 0
        """Grows with each change of the rules."""
        self.fault = ""
        """What is wrong with the newest rules, where they could not be taken."""
        self._blankets: dict[tuple[Caller, str], Verdict | None] = {}
        self._verdicts: dict[tuple[Caller, str], dict[Resource, Verdict]] = {}
        self._count = 0

    @property
    def policed(self) -> bool:
        """Whether there are rules at all."""
        return self.policy is not None

    def replace(self, policy: Policy) -> None:
        """These are the rules from now on."""
        self.policy = policy
        self.version += 1
        self.fault = ""
        self._forget()

    def enter(self, call: Call) -> None:
        """Raises PERMISSION_DENIED where the rules let this caller do this to nothing at all."""
        if not call.service.startswith(OURS):
            return
        if self.policy is None:
            _check_way(call.caller)
            return
        verdict = self.blanket(call.caller, call.rpc)
        if verdict is not None and not verdict.allowed:
            raise denied(call.caller, call.rpc, verdict)

    def leave(self, call: Call) -> None:
        """Nothing was taken."""

    def blanket(self, caller: Caller, action: str) -> Verdict | None:
        """What the rules say whatever it is about; None where that depends on it."""
        if self.policy is None:
            return _EVERYTHING
        key = (caller, action)
        if key not in self._blankets:
            self._make_room(1)
            self._blankets[key] = self.policy.blanket(caller, action)
        return self._blankets[key]

    def verdict(self, caller: Caller, action: str, resource: Resource) -> Verdict:
        """What the rules say of this action."""
        known = self._known(caller, action, resource)
        if known is None:
            self.learn(caller, action, (resource,))
            known = self._known(caller, action, resource)
            assert known is not None
        return known

    def learn(self, caller: Caller, action: str, resources: Iterable[Resource]) -> None:
        """Take the verdicts on these in one go, as far as they are not known. Give it BATCH at most."""
        new = self.unknown(caller, action, resources)
        if new and self.policy is not None:
            self._make_room(len(new))
            verdicts = self.policy.decide(caller, [(action, resource) for resource in new])
            self._verdicts.setdefault((caller, action), {}).update(zip(new, verdicts, strict=True))

    def decided(self, caller: Caller, asked: Sequence[tuple[str, Resource]]) -> list[Verdict]:
        """What the rules say of what there is no end of, such as the files that callers name: nothing of it is remembered. Give it BATCH at most."""
        return self.policy.decide(caller, asked) if self.policy is not None else [_EVERYTHING] * len(asked)

    def unknown(self, caller: Caller, action: str, resources: Iterable[Resource]) -> list[Resource]:
        """Those on which no verdict is known, each once."""
        if self.policy is None or self.blanket(caller, action) is not None:
            return []
        held = self._verdicts.get((caller, action), {})
        return list(dict.fromkeys(resource for resource in resources if resource not in held))

    def _known(self, caller: Caller, action: str, resource: Resource) -> Verdict | None:
        blanket = self.blanket(caller, action)
        if blanket is not None:
            return blanket
        held = self._verdicts.get((caller, action))
        return held.get(resource) if held is not None else None

    def _make_room(self, count: int) -> None:
        self._count += count
        if self._count > MAX_VERDICTS:
            log.info("%s verdicts are forgotten and taken anew", self._count - count)
            self._forget()
            self._count = count

    def _forget(self) -> None:
        self._blankets.clear()
        self._verdicts.clear()
        self._count = 0


def denied(caller: Caller, action: str, verdict: Verdict, what: str = "", detail: str = "") -> Refusal:
    """The refusal of an action. `what` it was to be done to, as the caller named it."""
    message = f"{caller.name} may not {action}{f' {what}' if what else ''}: {verdict.why}{f' ({detail})' if detail else ''}"
    return refuse("PERMISSION_DENIED", message, action=action, rule=",".join(verdict.rules), caller=caller.name)


def _check_way(caller: Caller) -> None:
    # Plain TCP is there only where its operator has said that whoever reaches it may do everything.
    if caller.way not in (Way.UNIX, Way.TCP):
        raise refuse(
            "PERMISSION_DENIED",
            f"{caller.name} may do nothing: this server has no policy, and only its Unix socket needs none. Its operator sets `policy`",
            rule="",
            caller=caller.name,
        )
