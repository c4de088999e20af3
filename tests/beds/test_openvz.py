"""OpenVZ with doubles of its commands: what libvirt's driver can do there, by itself and in a driver process of ours."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid as uuids
from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest

from tests.beds.openvz import OpenVz, missing
from tests.drivers.bed import Bed, Kind, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.values import State

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(120),
    pytest.mark.skipif(missing() is not None, reason=missing() or "it can be compiled"),
]
# The library is preloaded into programs that are started here, not into this one.
LIFE = """
import json, libvirt, sys
libvirt.registerErrorHandler(lambda context, error: None, None)
connection = libvirt.open("openvz:///system")
connection.defineXML(sys.argv[2])
domain = connection.lookupByName(sys.argv[1])
told = []
for verb in ("create", "suspend", "resume", "reboot", "shutdown", "create", "destroy"):
    getattr(domain, verb)()
    told.append(domain.state()[0])
domain.setVcpus(2)
domain.setAutostart(1)
print(json.dumps([told, domain.info()[3], domain.autostart()]))
try:
    domain.undefine()
except libvirt.libvirtError as error:
    print(json.dumps(error.get_error_message()))
"""
AUTOSTART = "import libvirt, sys; print(libvirt.open('openvz:///system').lookupByName(sys.argv[1]).autostart())"


@pytest.fixture(scope="module")
def openvz() -> Iterator[OpenVz]:
    """The doubles, where libvirt looks for OpenVZ."""
    with OpenVz() as started:
        yield started


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program of Python that is started here, and so finds OpenVZ."""
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)


def test_the_life_of_a_container(openvz: OpenVz) -> None:
    """Every verb does what it says but one: undefining calls vzctl wrongly, and the container stays."""
    name = openvz.new_name()
    done = run(LIFE, name, openvz.domain_xml(name, str(uuids.uuid4())))
    told, undefined = (json.loads(line) for line in done.stdout.splitlines())
    running, paused, off = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF
    assert told == [[running, paused, running, running, off, running, off], 2, 1]
    assert "vzctl --quiet start destroy" in undefined
    assert (openvz.containers / f"{name}.conf").exists()


def test_a_missing_line_kills_the_caller(openvz: OpenVz) -> None:
    """A container without ONBOOT makes libvirt's client dereference NULL in the process that asks for autostart."""
    name = openvz.new_name()
    openvz.make(name)
    assert run(AUTOSTART, name).returncode == 0
    file = openvz.containers / f"{name}.conf"
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("ONBOOT")))
    assert run(AUTOSTART, name).returncode == -signal.SIGSEGV
    file.unlink()


class OpenVzKind(Kind):
    """OpenVZ as the drivers' tests see it."""

    uri = OpenVz.uri

    def __init__(self, openvz: OpenVz) -> None:
        self._openvz = openvz

    def xml(self, name: str, uuid: str, **_: object) -> str:
        return self._openvz.domain_xml(name, uuid)


@pytest.fixture
async def bed(openvz: OpenVz) -> AsyncIterator[Bed]:
    """A driver process of ours on it, connected."""
    opened = await Bed.open(OpenVzKind(openvz))
    yield opened
    await opened.close()


@pytest.fixture
async def container(openvz: OpenVz, bed: Bed) -> AsyncIterator[str]:
    """The uuid of a container that is off."""
    uuid, name = str(uuids.uuid4()), openvz.new_name()
    await bed.run(ops.Define(uuid=uuid, name=name, xml=openvz.domain_xml(name, uuid)))
    yield uuid
    for left in openvz.containers.glob(f"{name}.*"):
        left.unlink()


async def test_a_driver_process_does_all_of_it(bed: Bed, container: str) -> None:
    """The verbs that the table says it has, over whichever lane, each with the state that follows, all without an event."""
    assert not bed.info.pushes_events
    for operation, state in (
        (ops.Start(uuid=container), State.RUNNING),
        (ops.Suspend(uuid=container), State.PAUSED),
        (ops.Resume(uuid=container), State.RUNNING),
        (ops.Reboot(uuid=container), State.RUNNING),
        (ops.Shutdown(uuid=container), State.SHUTOFF),
        (ops.SetVcpus(uuid=container, vcpus=2, scope=ops.Scope.CONFIG), State.SHUTOFF),
        (ops.SetAutostart(uuid=container, autostart=True), State.SHUTOFF),
        (ops.Start(uuid=container), State.RUNNING),
        (ops.Destroy(uuid=container), State.SHUTOFF),
    ):
        await bed.run(operation)
        assert (await bed.state(container)).state is state, operation
    assert (await bed.state(container)).vcpus == 2
    assert (await bed.config(container)).config.autostart


async def test_a_container_of_others_is_seen(openvz: OpenVz, bed: Bed, container: str) -> None:
    """What vzctl made is in the next listing, though libvirt's driver reads the containers once a connection."""
    name = openvz.new_name()
    openvz.make(name)

    async def names() -> set[str]:
        return {row.name for row in (await bed.driver.list()).domains}

    assert name in await names()
    (openvz.containers / f"{name}.conf").unlink()

    async def gone() -> bool:
        return name not in await names()

    await eventually(gone, "the container to be gone")


async def test_a_container_that_is_there_is_not_defined_anew(openvz: OpenVz, bed: Bed, container: str) -> None:
    """vzctl refuses it, and its words are told."""
    name = (await bed.config(container)).name
    assert await bed.refused(ops.Define(uuid=container, name=name, xml=openvz.domain_xml(name, container))) is Reason.FAILED


async def test_what_it_lacks_is_refused_before_a_call(bed: Bed, container: str) -> None:
    """Undefining, memory, snapshots and managed save are not this driver's."""
    for operation in (
        ops.Undefine(uuid=container),
        ops.SetMemory(uuid=container, memory_bytes=1 << 20),
        ops.CreateSnapshot(uuid=container, name="x", xml="<domainsnapshot/>"),
        ops.ManagedSave(uuid=container),
    ):
        assert await bed.refused(operation) is Reason.UNSUPPORTED
