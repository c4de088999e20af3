"""Commands that show domains and hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.cli import complete, device_texts, text
from virtrpc.cli.command import command
from virtrpc.cli.panels import QUERIES
from virtrpc.cli.parts import Hosts
from virtrpc.cli.session import Session
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

HostName = Annotated[str, typer.Argument(metavar="[HOST]", help="Not needed where there is one only.", autocompletion=complete.hosts)]
_STATES = {text.enum(t.DomainState, number).replace(" ", "-"): number for number in t.DomainState.values() if number}


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    command(app, "list", panel=QUERIES)(list_domains)
    command(app, "show", panel=QUERIES, aliases=("dominfo", "domstate"))(show)
    command(app, "xml", panel=QUERIES, aliases=("dumpxml",))(xml)
    command(app, "metadata", panel=QUERIES)(metadata)
    command(app, "vcpus", panel=QUERIES, aliases=("vcpuinfo",))(vcpus)
    command(app, "hosts", panel=QUERIES)(hosts)
    command(app, "domain-capabilities", panel=QUERIES, aliases=("domcapabilities",))(domain_capabilities)
    command(app, "host", panel=QUERIES, aliases=("nodeinfo", "capabilities"))(host)


def list_domains(
    session: Session,
    host: Hosts = [],  # noqa: B006 # Typer makes the list, and nothing here changes it
    name: Annotated[str, typer.Option(metavar="GLOB", help="Names that fit, with * and ?.")] = "",
    state: Annotated[list[str], typer.Option(metavar="STATE", help=f"In this state; may be repeated: {', '.join(_STATES)}.")] = [],  # noqa: B006
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Running in some form, or not.")] = None,
    persistent: Annotated[bool | None, typer.Option("--persistent/--transient")] = None,
    autostart: Annotated[bool | None, typer.Option("--autostart/--no-autostart")] = None,
    managed_save: Annotated[bool | None, typer.Option("--with-managed-save/--without-managed-save")] = None,
    all_: Annotated[bool, typer.Option("--all", hidden=True)] = False,
) -> None:
    """List domains; all of them, unlike virsh."""
    chosen = domain_filter(host, name, state, active, persistent, autostart, managed_save)
    with session.client() as client:
        answer = client.list_domains(filter=chosen).merged()
    if session.json:
        session.document(answer)
        return
    headers = ("HOST", "ID", "NAME", "STATE", "REASON", "MEMORY", "VCPUS", "CPU TIME", "READ")
    session.table(headers, (_row(domain) for domain in answer.domains))
    session.unreachable(answer.unreachable)


def domain_filter(
    hosts: list[str],
    name: str,
    states: list[str],
    active: bool | None = None,
    persistent: bool | None = None,
    autostart: bool | None = None,
    managed_save: bool | None = None,
) -> t.DomainFilter:
    """The filter that these options make; None does not filter."""
    unknown = [state for state in states if state not in _STATES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no state: say one of {', '.join(_STATES)}")
    return t.DomainFilter(
        hosts=hosts,
        name_glob=name,
        states=[_STATES[state] for state in states],
        active=active,
        persistent=persistent,
        autostart=autostart,
        has_managed_save=managed_save,
    )


def _row(domain: t.Domain) -> tuple[str, ...]:
    vcpus = domain.vcpus.live if domain.vcpus.HasField("live") else text.optional(domain.vcpus, "config")
    return (
        domain.host,
        text.number(domain, "id"),
        domain.name,
        text.state(domain.state),
        domain.state_reason.replace("_", " "),
        text.size(text.optional(domain, "memory_bytes")),
        text.NONE if vcpus is None else str(vcpus),
        text.duration(domain, "cpu_time"),
        text.observed(domain.state_observation),
    )


def show(
    session: Session,
    domain: t.DomainRef,
    by_id: Annotated[bool, typer.Option("--id", help="DOMAIN is the number of a running domain.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Its disks, interfaces and screens too.")] = False,
) -> None:
    """Show all that is known of one domain."""
    view = t.DOMAIN_VIEW_FULL if full else t.DOMAIN_VIEW_UNSPECIFIED
    with session.client() as client:
        found = client.get_domain_by_id(host_domain_id=_number(domain), view=view) if by_id else client.get_domain(domain, view=view)
    if session.json:
        session.document(found)
        return
    session.facts(_domain_facts(found))
    if full:
        device_texts.show(session, found)


def _number(domain: t.DomainRef) -> q.HostDomainId:
    if not domain.name.isdigit():
        raise typer.BadParameter(f"{domain.name or domain.uuid!r} is no number")
    return q.HostDomainId(host=domain.host, id=int(domain.name))


def _domain_facts(domain: t.Domain) -> list[tuple[str, str]]:
    reason = f" ({domain.state_reason.replace('_', ' ')})" if domain.state_reason else ""
    counts = ", ".join(f"{field.name.replace('_', ' ')} {value}" for field, value in domain.vcpus.ListFields())
    return [
        ("Name", domain.name),
        ("UUID", domain.uuid),
        ("Host", domain.host),
        ("Id", text.number(domain, "id")),
        ("State", text.state(domain.state) + reason),
        ("State read", text.observed(domain.state_observation)),
        ("Control channel", text.enum(t.ControlState, domain.control_state)),
        ("CPU time", text.duration(domain, "cpu_time")),
        ("OS type", text.optional(domain, "os_type") or text.NONE),
        ("Memory", text.size(text.optional(domain, "memory_bytes"))),
        ("Maximum memory", text.size(text.optional(domain, "max_memory_bytes"))),
        ("vCPUs", counts or text.NONE),
        ("Persistent", text.yes(text.optional(domain, "persistent"))),
        ("Autostart", text.yes(text.optional(domain, "autostart"))),
        ("Changed since start", text.yes(text.optional(domain, "updated"))),
        ("Managed save", text.yes(text.optional(domain, "has_managed_save"))),
        ("Configuration read", text.observed(domain.configuration_observation)),
        *(("Note", note) for note in domain.messages),
    ]


def xml(
    session: Session,
    domain: t.DomainRef,
    inactive: Annotated[bool, typer.Option("--inactive", help="The stored definition instead of the running one.")] = False,
    migratable: Annotated[bool, typer.Option("--migratable", help="In the form that is fit for another host.")] = False,
) -> None:
    """Print a domain's XML as last read. It has no secrets in it: defining from it loses them."""
    with session.client() as client:
        answer = client.get_domain_xml(domain, inactive=inactive, migratable=migratable)
    if session.json:
        session.document(answer)
    else:
        print(answer.xml)


def metadata(
    session: Session,
    domain: t.DomainRef,
    uri: Annotated[str, typer.Option(metavar="URI", help="Only the element of this namespace.")] = "",
    inactive: Annotated[bool, typer.Option("--inactive", help="Of the stored definition instead of the running one.")] = False,
) -> None:
    """Show what people and applications have written into a domain's definition."""
    with session.client() as client:
        answer = client.get_metadata(domain, inactive=inactive, uri=uri)
    if session.json:
        session.document(answer)
        return
    session.facts([("Title", answer.title or text.NONE), ("Description", answer.description or text.NONE)])
    for element in answer.elements:
        print(element.xml)


def vcpus(session: Session, domain: t.DomainRef) -> None:
    """List a domain's virtual CPUs."""
    with session.client() as client:
        answer = client.list_vcpus(domain).merged()
    if session.json:
        session.document(answer)
        return
    session.table(("VCPU", "STATE", "CPU TIME", "HOST CPU", "AFFINITY"), (_vcpu(vcpu) for vcpu in answer.vcpus))
    session.say(f"Read: {text.observed(answer.observation)}")


def _vcpu(vcpu: q.Vcpu) -> tuple[str, ...]:
    return (
        str(vcpu.number),
        text.enum(q.VcpuState, vcpu.state),
        text.duration(vcpu, "cpu_time"),
        text.number(vcpu, "host_cpu"),
        text.optional(vcpu, "affinity") or text.NONE,
    )


def hosts(session: Session) -> None:
    """List the configured hosts."""
    with session.client() as client:
        answer = client.list_hosts().merged()
    if session.json:
        session.document(answer)
        return
    headers = ("HOST", "STATE", "HYPERVISOR", "DOMAINS", "RUNNING", "URI")
    session.table(headers, (_host_row(one) for one in answer.hosts))
    session.unreachable(one.unreachable for one in answer.hosts if one.HasField("unreachable"))


def _host_row(one: q.Host) -> tuple[str, ...]:
    hypervisor = f"{one.hypervisor} {one.hypervisor_version}".strip()
    return (
        one.name,
        text.enum(t.Freshness, one.state),
        hypervisor or text.NONE,
        text.number(one, "domains"),
        text.number(one, "active_domains"),
        one.uri,
    )


def host(
    session: Session,
    name: HostName = "",
    capabilities: Annotated[bool, typer.Option("--capabilities", help="Print its capabilities XML instead.")] = False,
    sysinfo: Annotated[bool, typer.Option("--sysinfo", help="Print its SMBIOS XML instead.")] = False,
) -> None:
    """Show one host: whether it can be reached, what it can do, how busy its daemon is."""
    with session.client() as client:
        found = client.get_host(host=name, include_capabilities_xml=capabilities, include_sysinfo_xml=sysinfo)
    if session.json:
        session.document(found)
    elif capabilities or sysinfo:
        print("\n".join(part for part in (found.capabilities_xml, found.sysinfo_xml) if part))
    else:
        session.facts(_host_facts(found))
        session.table(("RPC", "SUPPORTED", "EXCLUDES BY", "PROGRESS", "ABORTABLE"), (_verb_row(verb) for verb in found.verbs))
        session.unreachable([found.unreachable] if found.HasField("unreachable") else [])


def domain_capabilities(
    session: Session,
    name: HostName = "",
    arch: Annotated[str, typer.Option(metavar="ARCH", help="x86_64, aarch64 ...")] = "",
    machine: Annotated[str, typer.Option(metavar="MACHINE", help="q35, virt ...")] = "",
    virt_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="kvm, qemu ...")] = "",
    emulator: Annotated[str, typer.Option(metavar="PATH", help="The emulator's path on the host.")] = "",
) -> None:
    """Print what domains can have on a host, as XML."""
    with session.client() as client:
        answer = client.get_domain_capabilities(host=name, emulator=emulator, arch=arch, machine=machine, virt_type=virt_type)
    if session.json:
        session.document(answer)
    else:
        print(answer.xml)


def _host_facts(found: q.Host) -> list[tuple[str, str]]:
    driver, budget = found.driver_process, found.budget
    places = str(budget.places) if budget.places else "any number of"
    return [
        ("Name", found.name),
        ("URI", found.uri),
        ("State", text.enum(t.Freshness, found.state)),
        ("Reachable", text.yes(found.reachable)),
        ("Last heard from", text.moment(found, "observed_time")),
        ("Read-only", text.yes(found.read_only)),
        ("Hostname", found.hostname or text.NONE),
        ("Hypervisor", f"{found.hypervisor} {found.hypervisor_version}".strip() or text.NONE),
        ("libvirt", found.libvirt_version or text.NONE),
        ("CPUs", f"{text.number(found.node, 'cpus')} {found.node.cpu_model}".strip()),
        ("Memory", text.size(text.optional(found.node, "memory_bytes"))),
        ("Domains", f"{text.number(found, 'domains')}, running {text.number(found, 'active_domains')}"),
        ("Driver", f"{driver.driver or text.NONE}, pid {text.number(driver, 'pid')}, running since {text.moment(driver, 'start_time')}"),
        ("Driver restarts", f"{text.number(driver, 'restarts')}{f', last: {driver.last_exit}' if driver.last_exit else ''}"),
        (
            "Daemon",
            f"{text.number(budget, 'used')} of {places} places taken, {text.number(budget, 'waiting')} jobs waiting",
        ),
        ("State is", text.enum(q.StateUpdates, found.state_updates)),
        ("Statistics every", text.duration(found, "stats_target_age")),
    ]


def _verb_row(verb: q.VerbSupport) -> tuple[str, ...]:
    method = verb.method.rpartition("/")[2]
    return (method, text.yes(verb.supported), text.enum(q.VerbSlot, verb.slot), text.yes(verb.progress), text.yes(verb.abortable))
