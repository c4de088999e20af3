"""What a domain may use of its host, out of XML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from virtrpc_drivers import resources
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.resources import MAX_NUMBERS, Blkio, numbers


def test_sets() -> None:
    """Single numbers, spans, and what is taken out again."""
    assert numbers("") == frozenset()
    assert numbers("0-3,^2, 8,") == {0, 1, 3, 8}
    assert len(numbers(f"0-{MAX_NUMBERS - 1}")) == MAX_NUMBERS


@pytest.mark.parametrize(
    "text", ["x", "3-1", "-1", "0-", f"0-{MAX_NUMBERS}", "0-65000,0-65000", "0-99999999999999999999", "9" * 5000], ids=lambda text: str(text)[:24]
)
def test_what_is_no_set(text: str) -> None:
    """XML_INVALID, and nothing is made of its numbers."""
    with pytest.raises(DriverError) as caught:
        numbers(text)
    assert caught.value.reason is Reason.XML_INVALID


def test_numbers_that_no_field_holds_are_left_out() -> None:
    """A limit that libvirt counts beyond the contract's fields is not told, and the rest is."""
    most = (1 << 64) - 1
    root = ElementTree.fromstring(
        f"<domain><cputune><shares>{most}</shares><period>1000</period></cputune><memtune><hard_limit>{most}</hard_limit>"
        f"<soft_limit unit='MiB'>1</soft_limit></memtune><blkiotune><weight>{most}</weight></blkiotune></domain>"
    )
    assert resources.scheduler(root) == {"vcpu_period": 1000}
    assert resources.memory(root) == {"hard_limit": 0, "soft_limit": 1 << 20, "swap_hard_limit": 0}
    assert resources.blkio(root) == Blkio()
