"""A domain's definition, and what is written into it."""

from __future__ import annotations

from virtrpc_drivers.values.base import Value
from virtrpc_drivers.values.devices import DiskConfig, GraphicsConfig, InterfaceConfig


class MetadataElement(Value, frozen=True):
    """What an application keeps in a definition, by its namespace."""

    uri: str
    xml: str


class Metadata(Value, frozen=True):
    """What people and applications have written into a definition; empty where there is nothing."""

    title: str = ""
    description: str = ""
    elements: tuple[MetadataElement, ...] = ()


class Address(Value, frozen=True):
    """An address of an interface that the host knows of. `source`: lease or arp."""

    mac: str
    address: str
    prefix: int | None = None
    source: str = "lease"


class DomainConfig(Value, frozen=True):
    """What virDomainGetXMLDesc and its neighbours say. Both XML texts are without secrets."""

    xml: str
    inactive_xml: str | None = None
    migratable_xml: str | None = None
    os_type: str | None = None
    persistent: bool = True
    autostart: bool | None = None
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    vcpus_live: int | None = None
    vcpus_config: int | None = None
    vcpus_maximum: int | None = None
    """Of the running guest, or of the definition where it is off."""
    vcpus_maximum_config: int | None = None
    disks: tuple[DiskConfig, ...] = ()
    interfaces: tuple[InterfaceConfig, ...] = ()
    graphics: tuple[GraphicsConfig, ...] = ()
    metadata: Metadata = Metadata()
    inactive_metadata: Metadata | None = None
    """Of the stored definition, where that is another."""
    addresses: tuple[Address, ...] = ()
    """virDomainInterfaceAddresses by lease and ARP: nothing is asked of the guest."""
