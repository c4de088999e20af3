"""What reaches outside of a guest, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.xml import parse
from virtrpc_server.policy.outside import reaching, sharing

ROOTS = ("/images",)
DISK = "<disk type='{}'{}><source {}/><target dev='vda'/></disk>"

INSIDE = {
    "a disk in a file of the roots": DISK.format("file", " device='disk'", "file='/images/a.qcow2'"),
    "its chain": "<disk type='file'><source file='/images/a'/><backingStore type='file'><format type='qcow2'/><source file='/images/b'/>"
    "<backingStore/></backingStore><target dev='vda'/></disk>",
    "an empty drive": "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>",
    "an interface in a network": "<interface type='network'><source network='lab'/><model type='virtio'/></interface>",
    "a console": "<console type='pty'><target type='serial' port='0'/></console>",
    "an agent's channel": "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "a screen": "<graphics type='vnc' port='-1' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>",
    "random numbers": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "an emulated TPM": "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
    "a directory of the roots": "<filesystem type='mount'><source dir='/images/share'/><target dir='/share'/></filesystem>",
    "small things": "<memballoon model='virtio'/><input type='tablet' bus='usb'/><watchdog model='itco'/><video><model type='vga'/></video>",
}
OUTSIDE = {
    "a host's device": "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev>",
    "a file elsewhere": DISK.format("file", "", "file='/etc/shadow'"),
    "a file that climbs": DISK.format("file", "", "file='/images/../etc/shadow'"),
    "a relative file": DISK.format("file", "", "file='etc/shadow'"),
    "the roots themselves": DISK.format("dir", "", "dir='/images'"),
    "a block device": DISK.format("block", "", "dev='/dev/sda'"),
    "a disk's commands": DISK.format("file", " device='lun'", "file='/images/a'"),
    "unfiltered commands": DISK.format("file", " sgio='unfiltered'", "file='/images/a'"),
    "storage on the network": DISK.format("network", "", "protocol='nbd' name='x'"),
    "a pool's volume": DISK.format("volume", "", "pool='p' volume='v'"),
    "a name for a socket": DISK.format("file", "", "file='/images/a' socket='/run/x'"),
    "a chain that leads out": "<disk type='file'><source file='/images/a'/><backingStore type='file'><source file='/etc/x'/></backingStore>"
    "<target dev='vda'/></disk>",
    "a chain over the network": "<disk type='file'><source file='/images/a'/><backingStore type='network'><source protocol='nbd' name='x'/>"
    "</backingStore><target dev='vda'/></disk>",
    "a bridge": "<interface type='bridge'><source bridge='br0'/></interface>",
    "a host's interface": "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>",
    "no type of interface": "<interface><source network='lab'/></interface>",
    "a script": "<interface type='network'><source network='lab'/><script path='/images/x'/></interface>",
    "a socket of somebody else's": "<channel type='unix'><source mode='connect' path='/images/s'/><target name='x'/></channel>",
    "a TCP socket": "<serial type='tcp'><source mode='bind' host='0.0.0.0' service='1'/></serial>",
    "a host's terminal": "<serial type='dev'><source path='/dev/ttyS0'/></serial>",
    "a log elsewhere": "<serial type='pty'><log file='/var/log/x'/></serial>",
    "a program": "<emulator>/images/qemu</emulator>",
    "a file system's server": "<filesystem type='mount'><binary path='/images/x'/><source dir='/images/a'/><target dir='x'/></filesystem>",
    "a host's TPM": "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
    "random numbers of a relative file": "<rng model='virtio'><backend model='random'>dev/sda</backend></rng>",
    "a socket without confinement": "<serial type='unix'><source mode='bind' path='/images/s'><seclabel model='dac' relabel='no'/></source></serial>",
    "random numbers of a socket": "<rng model='virtio'><backend model='egd' type='unix'/></rng>",
    "shared memory": "<shmem name='s'/>",
    "a host's keyboard": "<input type='passthrough' bus='virtio'><source evdev='/dev/input/event1'/></input>",
    "a later invention": "<teleporter/>",
    "capital letters": "<HOSTDEV/>",
    "a prefix": "<x:hostdev xmlns:x='urn:x'/>",
    "a prefix at an attribute": DISK.format("file", "", "file='/images/a' x:file='/etc/x' xmlns:x='urn:x'"),
    "a default namespace": "<disk xmlns='urn:x' type='file'/>",
    "an entity for a letter": DISK.format("file", "", "file='&#x2f;etc/shadow'"),
    "blanks before a path": DISK.format("file", "", "file=' /etc/shadow'"),
}
DOMAIN_OUTSIDE = {
    "hypervisor options": "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-x'/></q:commandline>",
    "no confinement": "<seclabel type='none'/>",
    "a kernel elsewhere": "<os><kernel>/boot/vmlinuz</kernel></os>",
    "a kernel in marked text": "<os><kernel><![CDATA[/boot/vmlinuz]]></kernel></os>",
    "a kernel around a comment": "<os><kernel><!-- --> /boot/vmlinuz</kernel></os>",
    "firmware from elsewhere": "<os><nvram template='/etc/x'>/images/n</nvram></os>",
    "variables of firmware on the network": "<os><nvram type='network'><source protocol='nbd' name='x'/></nvram></os>",
    "a boot loader": "<bootloader>/images/x</bootloader>",
    "a file in the firmware's tables": "<sysinfo type='fwcfg'><entry name='x' file='etc/shadow'/></sysinfo>",
    "a container's rights": "<features><capabilities policy='allow'/></features>",
    "two sets of devices": "<devices/><devices><hostdev/></devices>",
}


def domain(devices: str = "", more: str = "") -> str:
    """A definition."""
    plain = "<name>d</name><memory unit='KiB'>1024</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>"
    return f"<domain type='kvm'>{plain}<features><acpi/></features><cpu mode='host-model'/>{more}<devices>{devices}</devices></domain>"


@pytest.mark.parametrize("devices", INSIDE.values(), ids=INSIDE)
def test_what_a_guest_has_of_its_own_stays_inside(devices: str) -> None:
    """In a definition, and plugged in by itself."""
    assert reaching(parse(domain(devices)), ROOTS) == []


@pytest.mark.parametrize("devices", OUTSIDE.values(), ids=OUTSIDE)
def test_a_device_that_reaches_outside_is_found(devices: str) -> None:
    """In a definition, and plugged in by itself."""
    assert len(reaching(parse(domain(devices)), ROOTS)) == 1
    assert len(reaching(parse(devices), ROOTS)) == 1


@pytest.mark.parametrize("more", DOMAIN_OUTSIDE.values(), ids=DOMAIN_OUTSIDE)
def test_a_definition_that_reaches_outside_is_found(more: str) -> None:
    """Beside its devices."""
    assert len(reaching(parse(domain(more=more)), ROOTS)) == 1


def test_metadata_is_the_applications_own() -> None:
    """Nothing of it reaches anywhere."""
    assert reaching(parse(domain(more="<metadata><x:a xmlns:x='urn:x' path='/etc'/></metadata>")), ROOTS) == []


@pytest.mark.parametrize("device", ["<interface>{}<source bridge='br1'/></interface>", "<serial><source mode='connect' path='/images/s'/></serial>"])
def test_a_patch_does_not_lead_elsewhere_what_somebody_else_gave(device: str) -> None:
    """One that does not say of which type a device is may be merged into any: into one in a bridge, or at a socket."""
    patch = device.format("<mac address='52:54:00:00:00:01'/>")
    assert reaching(parse(patch), ROOTS, patch=True)
    assert reaching(parse(f"<domain><devices>{patch}</devices></domain>"), ROOTS, patch=True)


def test_a_container_without_a_root_or_a_network_of_its_own_has_the_hosts() -> None:
    """libvirt gives it the host's directories and interfaces where its definition has none."""
    root, interface = INSIDE["a directory of the roots"].replace("'/share'", "'/'"), INSIDE["an interface in a network"]
    alone = domain(root + interface).replace("'kvm'", "'lxc'")
    assert sharing(parse(alone)) == "" == sharing(parse(domain()))
    assert "root directory" in sharing(parse(alone.replace("dir='/'", "dir='/x'")))
    assert "network" in sharing(parse(alone.replace(interface, "")))


def test_what_a_domain_has_already_may_stay() -> None:
    """Just as it is; anything else about that device needs the right."""
    given_by_admin = domain(OUTSIDE["a block device"])
    assert reaching(parse(given_by_admin.replace("1024", "2048")), ROOTS, [parse(given_by_admin)]) == []
    assert reaching(parse(given_by_admin.replace("/dev/sda", "/dev/sdb")), ROOTS, [parse(given_by_admin)])


def test_a_snapshot_may_not_bring_a_definition_that_reaches_outside() -> None:
    """Nor may a backup be served on the network."""
    inner = domain(OUTSIDE["a host's device"])
    assert reaching(parse(f"<domainsnapshot><name>s</name>{inner}</domainsnapshot>"), ROOTS) == ["<hostdev>"]
    assert reaching(parse("<domainbackup mode='pull'><server transport='tcp' name='0.0.0.0'/></domainbackup>"), ROOTS) == [
        "a <server> on the network"
    ]
    assert reaching(parse("<domainbackup mode='pull'><server transport='unix' socket='/images/s'/></domainbackup>"), ROOTS) == []


WRAPPERS = st.lists(
    st.sampled_from(["<!-- {} -->", "<devices>{}</devices>", "{}<!-- x -->", "\n {}\n", "<?x y?>{}", "<x:y xmlns:x='u'>{}</x:y>"]), max_size=4
)


@given(st.sampled_from(sorted(set(OUTSIDE.values()))), WRAPPERS, st.sampled_from(sorted(set(INSIDE.values()))))
def test_nothing_hides_what_reaches_outside(bad: str, wrappers: list[str], good: str) -> None:
    """However it is wrapped and among whatever else: it is found, or XML's own rules have made it no element at all."""
    text = bad
    for wrapper in wrappers:
        text = wrapper.format(text)
    try:
        root = parse(domain(good + text))
    except DriverError:
        return  # a comment in a comment
    commented = any(wrapper == "<!-- {} -->" for wrapper in wrappers)
    assert reaching(root, ROOTS) or commented
