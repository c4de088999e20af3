"""The driver for every hypervisor that libvirt reaches. The only package that imports libvirt."""

from virtrpc_drivers.libvirt.driver import LibvirtDriver

__all__ = ["LibvirtDriver"]
