"""Rules by themselves: how they are read and checked, what they decide, and how a file of them is taken anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.server.policed import policy
from tests.server.world import until
from virtrpc_server.caller import Caller, Way
from virtrpc_server.contract import METHODS
from virtrpc_server.main import cli
from virtrpc_server.policy import file as rule_file
from virtrpc_server.policy.actions import ABOUT_HOSTS, ROLE_OF, ROLES, kind_of
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.engine import Policy, Resource
from virtrpc_server.policy.file import PolicyFile
from virtrpc_server.policy.rules import PolicyError, parse
from virtrpc_server.stamps import Stamp

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "server/policies"
EVERYBODY = "permit(principal, action, resource);"


def someone(*names: str) -> Caller:
    """A caller with these names."""
    return Caller(names[0], Way.TLS, names)


@pytest.mark.parametrize("action", ROLE_OF)
def test_each_role_includes_those_before_it(action: str) -> None:
    """What a role may is what its RPCs' option says, and what lesser roles may."""
    rules = policy("\n".join(f'permit(principal == Caller::"{role}", action in Action::"{role}", resource);' for role in ROLES))
    resource = {"Host": Resource("a"), "File": Resource("a", path="/f"), "Domain": Resource("a", "u", "n")}[kind_of(action)]
    allowed = [role for role in ROLES if rules.decide(someone(role), [(action, resource)])[0].allowed]
    assert allowed == list(ROLES[ROLES.index(ROLE_OF[action]) :])


def test_every_rpc_is_an_action() -> None:
    """The schema is made from the contract, so that a new RPC is in it."""
    assert {method.name for method in METHODS} < ROLE_OF.keys()
    assert {method.name for method in METHODS} >= ABOUT_HOSTS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n\npermit(principal, action, resource", "t.cedar:3: unexpected end of input"),
        ('// permit;\npermit(principal, action == Action::"SavDomain", resource);', 't.cedar:2: unrecognized action `Action::"SavDomain"`'),
        ("permit(principal, action, resource) when { principal.nam == \"x;y\" };", "t.cedar:1: attribute `nam` on entity type `Caller` not found"),
        ('@id("a") permit(principal, action, resource);\n@id("a") forbid(principal, action, resource);', "t.cedar:2: there is a rule with @id"),
        ("permit(principal == ?principal, action, resource);", "t.cedar:1: a template permits nothing by itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_its_place(text: str, told: str) -> None:
    """The file and the line on which the rule begins, and what is wrong."""
    with pytest.raises(PolicyError) as error:
        parse([("t.cedar", text)])
    assert str(error.value).startswith(told)


NAMES = st.sampled_from(["a", "b", "web-1"])
CALLERS = st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=3, unique=True).map(lambda names: someone(*names))
LABELS = st.dictionaries(st.sampled_from(["team", "stage"]), st.sampled_from(["red", "prod"])).map(lambda labels: tuple(sorted(labels.items())))
RESOURCES = st.builds(Resource, st.sampled_from(["h", "g"]), st.sampled_from(["u", "v"]), NAMES, LABELS)
CONDITIONS = st.sampled_from(
    ['resource.name like "web-*"', 'resource in Host::"h"', 'resource.hasTag("team") && resource.getTag("team") == "red"', "true", "false"]
)
PRINCIPALS = st.sampled_from(["principal", 'principal == Caller::"x"', 'principal in Caller::"y"'])
ACTIONS = st.sampled_from(["action", 'action == Action::"GetDomain"', 'action in Action::"operator"'])
RULES = st.builds(
    lambda effect, principal, action, condition: f"{effect}({principal}, {action}, resource is Domain) when {{ {condition} }};",
    st.sampled_from(["permit", "forbid"]),
    PRINCIPALS,
    ACTIONS,
    CONDITIONS,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(RULES, max_size=5), CALLERS, RESOURCES, st.sampled_from(["GetDomain", "SaveDomain", "DefineDomain"]))
def test_a_blanket_verdict_is_that_on_every_resource(rules: list[str], caller: Caller, resource: Resource, action: str) -> None:
    """What is decided without looking at the domain is what would be decided on it."""
    found = policy("\n".join(rules))
    blanket = found.blanket(caller, action)
    if blanket is not None:
        assert blanket.allowed == found.decide(caller, [(action, resource)])[0].allowed


@settings(max_examples=50, deadline=None)
@given(st.lists(RULES, max_size=4), CALLERS, st.lists(RESOURCES, min_size=1, max_size=8))
def test_what_is_remembered_is_what_is_decided(rules: list[str], caller: Caller, resources: list[Resource]) -> None:
    """In a batch, from memory, and one by one; also after the rules have changed."""
    decisions = Decisions(policy(EVERYBODY))
    assert all(decisions.verdict(caller, "GetDomain", resource).allowed for resource in resources)
    decisions.replace(policy("\n".join(rules)))
    decisions.learn(caller, "GetDomain", resources)
    for resource in resources * 2:
        assert decisions.verdict(caller, "GetDomain", resource).allowed == decisions.policy.decide(caller, [("GetDomain", resource)])[0].allowed  # type: ignore[union-attr]


async def test_a_file_is_taken_anew_when_it_changes(tmp_path: Path) -> None:
    """By writing it, and by turning a link as Kubernetes does; what cannot be used leaves the former rules in force, and says so."""
    for version, text in (("1", EVERYBODY), ("2", "forbid(principal, action, resource);"), ("3", "nonsense")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "p.cedar").write_text(text)
    link = tmp_path / "now"
    link.symlink_to("1")
    decisions = Decisions(Policy.load(link))
    changes: list[str] = []
    file = PolicyFile(link / "p.cedar", decisions, lambda: changes.append(decisions.fault))
    file.start()
    try:
        for version in ("2", "3", "1"):
            changes.clear()
            (tmp_path / "next").symlink_to(version)
            (tmp_path / "next").replace(link)
            await until(lambda: changes)
            allowed = decisions.verdict(someone("x"), "GetDomain", Resource("a", "u")).allowed
            assert (allowed, bool(decisions.fault)) == {"2": (False, False), "3": (False, True), "1": (True, False)}[version]
    finally:
        await file.stop()


@pytest.mark.parametrize("condition", ["(" * 999 + "true" + ")" * 999, " || ".join(['principal.name == "a"'] * 20_000), "principal" + ".name" * 1000])
def test_a_rule_that_would_end_the_process_is_refused(condition: str) -> None:
    """Cedar's parser has no bound of its own: the next change of a file must not take the server down."""
    with pytest.raises(PolicyError, match="one rule with more than"):
        parse([("p.cedar", f"permit(principal, action, resource) when {{ {condition} }};")])


async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules are taken once their file has stayed as it is for a while: those that forbid may stand at its end."""
    path = tmp_path / "p.cedar"
    path.write_text("forbid(principal, action, resource);")
    decisions = Decisions(Policy.load(path))
    looks = 0

    def growing(_path: Path) -> Stamp:
        nonlocal looks
        looks += 1
        return 1, 1, min(looks, 5), 1

    monkeypatch.setattr(rule_file, "stamp_of", growing)
    monkeypatch.setattr(rule_file, "LOOK_SECONDS", 0.01)
    taken: list[int] = []
    file = PolicyFile(path, decisions, lambda: taken.append(looks))
    file.start()
    try:
        await until(lambda: taken)
        assert taken[0] >= 6
    finally:
        await file.stop()


def checked(*words: str) -> Any:
    """`virtrpcd policy check` with these words."""
    return CliRunner().invoke(cli, ["policy", "check", *words])


def test_the_shipped_rules_say_what_they_should() -> None:
    """The example is usable, nothing about it is odd, and its own cases hold."""
    done = checked(str(SHIPPED / "roles.cedar"), "--cases", str(SHIPPED / "roles.toml"), "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["warnings"], told["good"]) == (0, [], True)
    assert len(told["cases"]) > 5


def test_a_case_that_is_not_as_expected_ends_it_with_1(tmp_path: Path) -> None:
    """So does a rule that is another than expected; the table says which."""
    (tmp_path / "p.cedar").write_text('@id("all") permit(principal, action, resource);')
    for more in ('expect = "deny"', 'expect = "allow"\nrule = "other"'):
        (tmp_path / "c.toml").write_text(f'[[cases]]\ncaller = "x"\nrpc = "GetDomain"\ndomain = {{ name = "d" }}\n{more}\n')
        done = checked(str(tmp_path / "p.cedar"), "--cases", str(tmp_path / "c.toml"))
        assert done.exit_code == 1
        assert "expected" in done.stdout


def test_one_question_by_flags(tmp_path: Path) -> None:
    """Who, what and to which domain or file; a misspelt RPC is refused, and so is one about something else."""
    red = ("--caller", "spiffe://example.org/red", "--rpc", "StartDomain", "--domain", "one/web", "--label", "team=red", "--json")
    (case,) = json.loads(checked(str(SHIPPED / "roles.cedar"), *red).stdout)["cases"]
    assert (case["allowed"], case["rules"]) == (True, ["red-team"])
    files = ("--caller", "spiffe://example.org/red", "--rpc", "ReadFile", "--file", "one:/var/lib/libvirt/images/red/web", "--json")
    (case,) = json.loads(checked(str(SHIPPED / "roles.cedar"), *files).stdout)["cases"]
    assert (case["allowed"], case["resource"], case["rules"]) == (True, "file one:/var/lib/libvirt/images/red/web", ["red-team-files"])
    for wrong in (("StratDomain", "--domain", "d"), ("ReadFile", "--domain", "d"), ("UseFile", "--file", "/f"), ("SaveDomain", "--file", "/f")):
        assert checked(str(SHIPPED / "roles.cedar"), "--caller", "x", "--rpc", *wrong).exit_code == 1


def test_rules_that_match_nothing_are_warned_of(tmp_path: Path) -> None:
    """And ones that keep the machine's own root out."""
    (tmp_path / "p.cedar").write_text("permit(principal, action, resource) when { 1 == 2 };")
    told = json.loads(checked(str(tmp_path / "p.cedar"), "--json").stdout)
    assert ["matches nothing" in told["warnings"][0], "Unix socket" in told["warnings"][1]] == [True, True]


def test_the_document_has_every_action_in_its_role() -> None:
    """docs/policy.md lists the actions of each role, and no other."""
    rows = [line.split("|")[1:-1] for line in (ROOT / "docs/policy.md").read_text().splitlines() if line.startswith("| `")]
    told = {row[0].strip(" `"): sorted(name.strip(" `") for name in row[1].split(",")) for row in rows}
    assert told == {role: sorted(name for name, of in ROLE_OF.items() if of == role) for role in ROLES}
