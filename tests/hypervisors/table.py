"""Writes docs/hypervisors.md, the table of RPCs and hypervisors, from what the last run of the matrix found: `python -m tests.hypervisors.table`.

With `--check` it writes nothing, and fails where what was run differs from what the table says. `--at-hand` names the hypervisors that start
within seconds here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from tests.hypervisors import ledger
from tests.hypervisors.case import CASES
from tests.hypervisors.cases import __all__ as subjects
from tests.hypervisors.kind import Kind
from tests.hypervisors.kinds import KINDS
from tests.hypervisors.ledger import Found

FILE = ledger.ROOT / "docs" / "hypervisors.md"
SERVICES = ("QueryService", "JobService", "SnapshotService")
WORKS, LACKS, REFUSES, SIMULATED = "works", "lacks", "refuses", "(works)"
HEAD = """# What works where

Every RPC on every hypervisor, as `make test-hypervisors` found it; that command writes this page, and each submission checks it.

- **works**: used on that hypervisor, and its effect seen.
- **lacks**: the RPC ends FAILED_PRECONDITION with UNSUPPORTED_BY_HYPERVISOR before there is a job, which was seen too.
- **refuses**: the driver has it, and the machine or its guest has not. The job ends FAILED with UNSUPPORTED_BY_HYPERVISOR, or with
  OPERATION_FAILED where only the guest can tell: IBM Z has no clock that a guest could set. Where none can sleep, there is none to wake: WRONG_STATE.
- **(works)**: the hypervisor cannot be started on the machines of this project. Its libvirt driver has it, and the same suite passed against
  `sim` with that driver's row of the table.
"""


def write(ran: Sequence[type[Kind]]) -> str:
    """The page."""
    parts = [HEAD, "| column | hypervisor | where it ran |", "|---|---|---|"]
    parts += [f"| {kind.name} | {kind.title} | {_where(kind)} |" for kind in KINDS]
    for service in SERVICES:
        parts += ["", f"## {service}", "", _line(["RPC", *(kind.name for kind in ran)]), _line("---" for _ in range(len(ran) + 1))]
        parts += [_line([rpc.partition("/")[2], *(_cell(kind, rpc) for kind in ran)]) for rpc in CASES if rpc.startswith(f"{service}/")]
    return "\n".join(parts) + "\n"


def said() -> dict[tuple[str, str], str]:
    """What the page says now, by column and RPC."""
    cells: dict[tuple[str, str], str] = {}
    columns: list[str] = []
    for line in FILE.read_text().splitlines() if FILE.exists() else ():
        words = [word.strip() for word in line.strip("|").split("|")]
        if words[0] == "RPC":
            columns = words[1:]
        elif columns and len(words) == len(columns) + 1:
            cells.update({(column, words[0]): cell for column, cell in zip(columns, words[1:], strict=True)})
    return cells


def differences(ran: Sequence[type[Kind]]) -> list[str]:
    """Where what was found differs from what the page says."""
    page = said()
    return [
        f"{rpc} on {kind.name}: the page says {page.get((kind.name, rpc.partition('/')[2]), 'nothing')!r}, found {_cell(kind, rpc)!r}"
        for kind in ran
        for rpc in CASES
        if _cell(kind, rpc) not in ("not run", page.get((kind.name, rpc.partition("/")[2])))
    ]


def _where(kind: type[Kind]) -> str:
    if kind.simulated:
        return "not startable here: simulated"
    return "here" if ledger.read(kind.name) else f"not here: {kind.missing() or 'not run'}"


def _cell(kind: type[Kind], rpc: str) -> str:
    found = ledger.read(kind.name).get(rpc)
    if found is Found.LACKS:
        return LACKS
    if found is Found.REFUSES:
        return REFUSES
    if found is Found.WORKS:
        return SIMULATED if kind.simulated else WORKS
    return "FAILED" if found is Found.FAILED else "not run"


def _line(words: Iterable[str]) -> str:
    return f"| {' | '.join(words)} |"


def main() -> int:
    """Write the page, or compare it; 1 where something failed, was not run, or differs."""
    assert subjects  # importing the package has registered the cases
    ran = [kind for kind in KINDS if ledger.read(kind.name)]
    # A check is of what was run: of Xen CI runs a few RPCs only.
    wanting = ("FAILED",) if "--check" in sys.argv[1:] else ("FAILED", "not run")
    bad = [f"{rpc} on {kind.name}: {_cell(kind, rpc)}" for kind in ran for rpc in CASES if _cell(kind, rpc) in wanting]
    if "--at-hand" in sys.argv[1:]:
        print(*(kind.name for kind in KINDS if kind.at_hand() and kind.missing() is None))
        return 0
    check = "--check" in sys.argv[1:]
    absent = [] if check else [f"{kind.name} was not run" for kind in KINDS if kind not in ran and kind.missing() is None]
    wrong = bad + absent + (differences(ran) if check and not bad else [])
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if check:
        print(f"docs/hypervisors.md says what was found on {', '.join(kind.name for kind in ran)}")
    else:
        FILE.write_text(write(ran))
        print(f"wrote {FILE.relative_to(ledger.ROOT)}: {len(CASES)} RPCs, {len(ran)} hypervisors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
