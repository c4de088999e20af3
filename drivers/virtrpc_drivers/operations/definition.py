"""Operations: what is stored of a domain, and domains that are made."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope


class Define(Operation, frozen=True):
    """virDomainDefineXMLFlags; `validate` checks the XML against libvirt's schema first.

    With `merge` the XML is a patch (see `virtrpc_drivers.merging`) for the stored definition as it is when the call is made, secrets included;
    where there is none it is the definition.
    """

    xml: str
    name: str
    validate: bool = False
    merge: bool = False


class Create(Operation, frozen=True):
    """virDomainCreateXML: a transient domain, started."""

    xml: str
    name: str
    paused: bool = False
    validate: bool = False


class Undefine(Operation, frozen=True):
    """virDomainUndefineFlags; each flag says what else may be removed, without it libvirt refuses."""

    managed_save: bool = False
    snapshots_metadata: bool = False
    checkpoints_metadata: bool = False
    nvram: bool = False
    keep_nvram: bool = False


class Rename(Operation, frozen=True):
    """virDomainRename."""

    name: str


class SetMetadata(Operation, frozen=True):
    """virDomainSetMetadata. `kind`: title, description or element; an empty `value` removes it. An element has a `uri`, and a `key` if set."""

    kind: str
    value: str = ""
    uri: str = ""
    key: str = ""
    scope: Scope = Scope.CURRENT


class SetAutostart(Operation, frozen=True):
    """virDomainSetAutostart."""

    autostart: bool


AnyDefinition = Define | Create | Undefine | Rename | SetMetadata | SetAutostart
