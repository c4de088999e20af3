"""Whether KVM is there is found out by a guest."""

from __future__ import annotations

import uuid as uuids
from pathlib import Path

import pytest

from tests.beds import kvm
from tests.beds.daemon import Libvirtd
from tests.beds.domain import domain_xml
from tests.beds.wait import wait_for_console

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(120)]


def test_a_device_that_is_not_there_is_told() -> None:
    """The reason names the device."""
    assert kvm.missing(Path("/dev/no-kvm")) == "/dev/no-kvm is missing"


def test_what_the_probe_says_holds_for_libvirt() -> None:
    """Where the probe's guest boots, so does libvirt's; where it does not, there is a reason to skip with."""
    if reason := kvm.missing():
        pytest.skip(f"no KVM: {reason}")
    with Libvirtd("kvm") as daemon:
        log = daemon.console_log("fast")
        daemon.define(domain_xml("fast", uuid=str(uuids.uuid4()), console_log=log, kind="kvm"))
        daemon.virsh("start", "fast")
        wait_for_console(log, kvm.READY)
