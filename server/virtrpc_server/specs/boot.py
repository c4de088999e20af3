"""How a guest begins: from the typed form to <os>."""

from __future__ import annotations

from virtrpc.v1 import spec_pb2
from virtrpc_drivers import merging
from virtrpc_server.orders.common import invalid
from virtrpc_server.specs.build import Element, Site, put, take_away

_DEVICES = {
    spec_pb2.BOOT_DEVICE_HARD_DISK: "hd",
    spec_pb2.BOOT_DEVICE_CDROM: "cdrom",
    spec_pb2.BOOT_DEVICE_NETWORK: "network",
    spec_pb2.BOOT_DEVICE_FLOPPY: "fd",
}
_CONTAINERS = ("lxc", "openvz")
_FIRMWARE = ("loader", "nvram", "firmware")
_KERNEL = ("kernel", "initrd", "cmdline")


def put_os(root: Element, spec: spec_pb2.DomainSpec, site: Site, *, new: bool) -> None:
    """<os>, of which an existing domain keeps what is not said."""
    boot = spec.WhichOneof("boot")
    container = boot == "container" or site.type in _CONTAINERS
    element = put(root, "os")
    kind = spec.os_type or (("exe" if container else "hvm") if new else "")
    if kind or spec.arch or spec.machine:
        put(element, "type", kind or None, arch=spec.arch, machine=spec.machine)
    match boot:
        case "firmware":
            _put_firmware(element, spec.firmware, new=new)
        case "kernel":
            _put_kernel(element, spec.kernel)
        case "container":
            _put_container(element, spec.container)
        case _ if new and container:
            _put_container(element, spec_pb2.ContainerBoot())
        case _:
            pass
    for device in spec.boot_devices:
        if device not in _DEVICES:
            raise invalid("spec.boot_devices", "HARD_DISK, CDROM, NETWORK or FLOPPY")
        put(element, "boot", dev=_DEVICES[device])
    if not len(element):
        root.remove(element)


def _put_firmware(element: Element, firmware: spec_pb2.FirmwareBoot, *, new: bool) -> None:
    if firmware.HasField("secure_boot") and not firmware.uefi:
        raise invalid("spec.firmware.secure_boot", "is a matter of UEFI")
    if not new:
        for tag in (*_KERNEL, *_FIRMWARE):
            take_away(element, tag)
    if not firmware.uefi:
        element.set(merging.WITHOUT, "firmware")
        return
    element.set("firmware", "efi")
    if firmware.HasField("secure_boot"):
        features = put(element, "firmware")
        features.set(merging.ACTION, merging.APPEND)
        for name in ("enrolled-keys", "secure-boot"):
            put(features, "feature", enabled="yes" if firmware.secure_boot else "no", name=name)


def _put_kernel(element: Element, kernel: spec_pb2.KernelBoot) -> None:
    if not kernel.kernel:
        raise invalid("spec.kernel.kernel", "must not be empty")
    put(element, "kernel", kernel.kernel)
    for tag, text in (("initrd", kernel.initrd), ("cmdline", kernel.cmdline)):
        if text:
            put(element, tag, text)
        else:
            take_away(element, tag)


def _put_container(element: Element, container: spec_pb2.ContainerBoot) -> None:
    put(element, "init", container.init or "/sbin/init")
    for argument in container.arguments:
        put(element, "initarg", argument)
