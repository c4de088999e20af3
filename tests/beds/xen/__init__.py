"""Xen 4.17 with a small Debian dom0, inside QEMU: a real Xen host on any machine."""

from tests.beds.xen.host import XenHost, XenPair

__all__ = ["XenHost", "XenPair"]
