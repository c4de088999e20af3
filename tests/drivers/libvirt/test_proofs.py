"""What proves that a lost call succeeded, judged from what a domain shows."""

import libvirt
import pytest

from tests.drivers.bed import call_of
from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import migration, proofs
from virtrpc_drivers.libvirt.proofs import under_way

NIC = "<interface type='network'>{mac}<source network='default'/><model type='virtio'/>{rest}</interface>"
OLD = NIC.format(mac="<mac address='52:54:00:00:00:01'/>", rest="<alias name='net0'/>")
PCI = "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
HOSTDEV = f"<hostdev mode='subsystem'><source>{PCI}</source><alias name='hostdev0'/></hostdev>"
BALLOON = "<memballoon model='virtio'><stats period='5'/></memballoon>"
RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
DISK = "<disk type='file' device='disk'><source file='/b.img'/><target dev='vdb' bus='virtio'/></disk>"


class Domain:
    """A running domain with these devices. It is its own connection."""

    def __init__(self, devices: str) -> None:
        self.xml = f"<domain><devices>{devices}</devices></domain>"

    def lookupByUUIDString(self, _uuid: str) -> "Domain":  # noqa: N802 - libvirt's name
        return self

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return self.xml


@pytest.mark.parametrize(
    ("devices", "sent", "proven"),
    [
        pytest.param(OLD, NIC.format(mac="", rest=""), False, id="an older equal interface"),
        pytest.param(OLD, NIC.format(mac="<mac address='52:54:00:00:00:01'/>", rest=""), True, id="by its MAC"),
        pytest.param(OLD, NIC.format(mac="<mac address='52:54:00:00:00:02'/>", rest=""), False, id="another MAC"),
        pytest.param(DISK, DISK, True, id="by its target"),
        pytest.param(DISK, DISK.replace("/b.img", "/c.img"), False, id="another disk at the target"),
        pytest.param(RNG, RNG, False, id="an older equal generator"),
        pytest.param(
            RNG.replace("</rng>", "<alias name='ua-r'/></rng>"), RNG.replace("</rng>", "<alias name='ua-r'/></rng>"), True, id="by its alias"
        ),
        pytest.param(HOSTDEV, f"<hostdev><source>{PCI}</source></hostdev>", True, id="by the host's address"),
        pytest.param(HOSTDEV, f"<hostdev><source>{PCI.replace('0x01', '0x02')}</source></hostdev>", False, id="another address"),
        pytest.param(HOSTDEV, "<hostdev><source><address bus='0x01'/></source></hostdev>", False, id="a part of an address"),
        pytest.param(RNG.replace("</rng>", PCI + "</rng>"), RNG.replace("</rng>", PCI + "</rng>"), True, id="by the guest's address"),
        pytest.param(
            RNG.replace("</rng>", PCI + "</rng>"), RNG.replace("</rng>", "<address type='pci'/></rng>"), False, id="an address without numbers"
        ),
    ],
)
def test_an_attached_device_must_be_the_one_that_was_sent(devices: str, sent: str, proven: bool) -> None:
    """A device that might have been there before the call proves nothing."""
    operation = ops.AttachDevice(uuid="u", xml=sent, scope=ops.Scope.LIVE)
    assert proofs.prove(Domain(devices), call_of(operation)).proven is proven


@pytest.mark.parametrize(
    ("devices", "sent", "proven"),
    [
        pytest.param(DISK, DISK, True, id="by its target"),
        pytest.param(BALLOON, BALLOON, True, id="the only one of its kind"),
        pytest.param(BALLOON, BALLOON.replace("5", "9"), False, id="not as it was sent"),
        pytest.param(OLD, NIC.format(mac="<mac address='52:54:00:00:00:01'/>", rest="<link state='down'/>"), False, id="found, not changed"),
        pytest.param(RNG + RNG, RNG, False, id="one of two that are the same"),
    ],
)
def test_an_updated_device_shows_what_was_sent(devices: str, sent: str, proven: bool) -> None:
    """The device that can only be the one meant says all that was sent."""
    operation = ops.UpdateDevice(uuid="u", xml=sent, scope=ops.Scope.LIVE)
    assert proofs.prove(Domain(devices), call_of(operation)).proven is proven


@pytest.mark.parametrize(("devices", "proven"), [("", True), (OLD, True), (DISK, False), (DISK.replace("/b.img", "/c.img"), False)])
def test_a_detached_device_is_gone(devices: str, proven: bool) -> None:
    """Whatever is still at its place keeps a detach from being proven."""
    operation = ops.DetachDevice(uuid="u", xml=DISK, scope=ops.Scope.LIVE)
    assert proofs.prove(Domain(devices), call_of(operation)).proven is proven


class Snapshot:
    """A snapshot that was made at a time, or does not say when."""

    def __init__(self, made: int | None) -> None:
        self.made = made

    def getXMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return f"<domainsnapshot><name>s</name>{'' if self.made is None else f'<creationTime>{self.made}</creationTime>'}</domainsnapshot>"

    def isCurrent(self, _flags: int) -> bool:  # noqa: N802 - libvirt's name
        return True

    def hasMetadata(self, _flags: int) -> bool:  # noqa: N802 - libvirt's name
        return True


@pytest.mark.parametrize(("made", "proven"), [(101, True), (100, True), (99, False), (None, False)])
def test_a_snapshot_must_not_be_older_than_the_call(made: int | None, proven: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation times are whole seconds: the one in which the call began counts, an earlier one or none does not."""
    monkeypatch.setattr(Domain, "snapshotLookupByName", lambda *_: Snapshot(made), raising=False)
    verdict = proofs.prove(Domain(""), call_of(ops.CreateSnapshot(uuid="u", name="s", xml="<domainsnapshot/>"), began=100.7))
    assert verdict.proven is proven
    assert (verdict.outcome.snapshot is not None) is proven


def test_a_snapshot_that_is_not_there_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a snapshot of that name there is nothing to compare."""

    def missing(*_: object) -> None:
        error = libvirt.libvirtError("")
        error.err = (libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT, 0, "none", 2, None, None, None, -1, -1)
        raise error

    monkeypatch.setattr(Domain, "snapshotLookupByName", missing, raising=False)
    assert not proofs.prove(Domain(""), call_of(ops.CreateSnapshot(uuid="u", name="s", xml="<domainsnapshot/>"))).proven


@pytest.mark.parametrize(
    ("state", "reason", "arrived"),
    [
        pytest.param(libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED, True, id="it runs"),
        pytest.param(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, True, id="it was to be paused"),
        pytest.param(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, False, id="its memory is under way"),
        pytest.param(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, False, id="some of its memory is lost"),
    ],
)
def test_a_guest_that_still_waits_for_its_memory_has_not_arrived(state: int, reason: int, arrived: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost migration whose source is gone is proven by the guest at the destination, unless that is but its incoming half."""

    class Destination(Domain):
        def state(self) -> list[int]:
            return [state, reason]

        def close(self) -> None:
            """Nothing to close."""

    monkeypatch.setattr(libvirt, "openReadOnly", lambda _uri: Destination(""))
    assert migration.runs_at("qemu+tcp://there/system", "u") is arrived


class Place:
    """A host with one domain in a state, and the domain: it is its own connection."""

    def __init__(self, state: int, reason: int) -> None:
        self.found = [state, reason]

    def lookupByUUIDString(self, _uuid: str) -> "Place":  # noqa: N802 - libvirt's name
        return self

    def state(self, _flags: int = 0) -> list[int]:
        return self.found

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.found[0] in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED)

    def close(self) -> None:
        pass


RUNNING = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
ARRIVED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)
ON_ITS_WAY = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
LEFT = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN)


@pytest.mark.parametrize(
    ("source", "destination", "proven"),
    [
        pytest.param(LEFT, ARRIVED, True, id="it left and arrived"),
        pytest.param(ON_ITS_WAY, ON_ITS_WAY, False, id="it stands still at both ends"),
        pytest.param(OFF, ON_ITS_WAY, False, id="its source died"),
        pytest.param(RUNNING, ARRIVED, False, id="it runs at both ends"),
        pytest.param(LEFT, OFF, False, id="it ended there"),
    ],
)
def test_a_migration_has_arrived(source: tuple[int, int], destination: tuple[int, int], proven: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is proven by a guest that runs at the destination, and not by one that is still on its way."""
    monkeypatch.setattr(libvirt, "openReadOnly", lambda _: Place(*destination))
    operation = ops.Migrate(uuid="u", destination_uri="qemu+tcp://h/system")
    assert proofs.prove(Place(*source), call_of(operation)).proven is proven


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(ops.SetMemory(uuid="u", memory_bytes=1 << 30, scope=ops.Scope.LIVE), id="of the guest"),
        pytest.param(ops.SetMemory(uuid="u", memory_bytes=1 << 30, scope=ops.Scope.BOTH), id="of both"),
        pytest.param(ops.DetachDevice(uuid="u", xml=DISK, scope=ops.Scope.LIVE), id="a device"),
    ],
)
def test_a_guest_that_is_off_proves_no_change_of_it(operation: ops.AnyOperation, monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt answers with the stored definition then: that it says what was asked for proves nothing."""
    monkeypatch.setattr(Domain, "isActive", lambda _: False)
    monkeypatch.setattr(Domain, "state", lambda *_: list(OFF), raising=False)
    domain = Domain("")
    domain.xml = "<domain><memory>1048576</memory><devices/></domain>"
    verdict = proofs.prove(domain, call_of(operation))
    assert (verdict.proven, "shutoff" in verdict.evidence) == (False, True)


EMULATOR = "<devices><emulator>/bin/emulator</emulator></devices>"


class Defined(Domain):
    """A stored domain whose machine type and virtual CPUs libvirt wrote in its own words."""

    def __init__(self, machine: str) -> None:
        self.xml = f"<domain type='qemu'><vcpu>1</vcpu><os><type arch='x86_64' machine='{machine}'>hvm</type></os>{EMULATOR}</domain>"

    def isPersistent(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def connect(self) -> "Defined":
        return self

    def getDomainCapabilities(self, *asked: object) -> str:  # noqa: N802 - libvirt's name
        assert asked == ("/bin/emulator", "x86_64", "pc", "qemu", 0)
        return "<domainCapabilities><path>/bin/emulator</path><machine>pc-i440fx-7.2</machine></domainCapabilities>"


@pytest.mark.parametrize(("machine", "proven"), [("pc-i440fx-7.2", True), ("pc-i440fx-6.0", False), ("pc", True)])
def test_a_definition_is_proven_in_libvirts_words(machine: str, proven: bool) -> None:
    """The type that a machine's alias stands for is what was sent, and another is not."""
    sent = "<domain><vcpu current='1'>1</vcpu><os><type machine='pc'>hvm</type></os></domain>"
    assert proofs.prove(Defined(machine), call_of(ops.Define(uuid="u", name="n", xml=sent))).proven is proven


class Taken(Snapshot):
    """A snapshot of a domain that is its own connection."""

    def __init__(self, made: int, current: bool) -> None:
        super().__init__(made)
        self.current = current

    def isCurrent(self, _flags: int) -> bool:  # noqa: N802 - libvirt's name
        return self.current

    def lookupByUUIDString(self, _uuid: str) -> "Taken":  # noqa: N802 - libvirt's name
        return self

    def snapshotLookupByName(self, _name: str, _flags: int) -> "Taken":  # noqa: N802 - libvirt's name
        return self


@pytest.mark.parametrize(
    ("made", "current", "goes_on"),
    [
        pytest.param(101, False, True, id="it is being taken"),
        pytest.param(101, True, False, id="it was taken"),
        pytest.param(99, False, False, id="another that was there before"),
    ],
)
def test_a_snapshot_that_is_being_taken_is_under_way(made: int, current: bool, goes_on: bool) -> None:
    """libvirt lists it from its beginning on, and makes it the current one at its end."""
    call = call_of(ops.CreateSnapshot(uuid="u", name="s", xml="<domainsnapshot/>"), began=100.7)
    assert under_way.is_under_way(Taken(made, current), call) is goes_on


@pytest.mark.parametrize(
    ("operation", "reason", "goes_on"),
    [
        pytest.param(ops.Start(uuid="u"), libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, True, id="it is being started"),
        pytest.param(ops.Restore(uuid="u", name="n", path="/f"), libvirt.VIR_DOMAIN_PAUSED_MIGRATION, True, id="its memory is being read"),
        pytest.param(ops.Start(uuid="u"), libvirt.VIR_DOMAIN_PAUSED_USER, False, id="it was suspended"),
        pytest.param(ops.SetMemory(uuid="u", memory_bytes=1), libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, False, id="another's start"),
    ],
)
def test_a_guest_that_comes_up_is_under_way(operation: ops.AnyOperation, reason: int, goes_on: bool) -> None:
    """It is paused for just that reason, and for the call that starts it alone."""
    assert under_way.is_under_way(Place(libvirt.VIR_DOMAIN_PAUSED, reason), call_of(operation)) is goes_on
