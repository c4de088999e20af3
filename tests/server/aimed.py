"""Requests of every RPC, made from the contract's descriptors and aimed: at a domain, and with names, uuids, ids and tokens of somebody's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from virtrpc.v1 import types_pb2

DEPTH = 4
XML = (
    "<domain type='sim'><name>{name}</name><uuid>{uuid}</uuid><memory>1048576</memory><vcpu>1</vcpu>"
    "<os><type arch='x86_64'>hvm</type></os><devices/></domain>"
)
XML_OF = {
    "domain": XML,
    "device": "<disk type='file' device='disk'><source file='{path}'/><target dev='vdz' bus='virtio'/></disk>",
    "snapshot": "<domainsnapshot><name>{part}</name></domainsnapshot>",
    "checkpoint": "<domaincheckpoint><name>{part}</name></domaincheckpoint>",
    "backup": "<domainbackup mode='push'><incremental>{part}</incremental></domainbackup>",
}
KIND_OF = {
    "AttachDevice": "device",
    "DetachDevice": "device",
    "UpdateDevice": "device",
    "CopyBlock": "device",
    "CreateSnapshot": "snapshot",
    "CreateCheckpoint": "checkpoint",
    "BackupDomain": "backup",
}

LASTING = ("CopyBlock", "CommitBlock", "BackupDomain")
"""What does not end by itself."""


@dataclass(frozen=True)
class Aim:
    """Whose names, uuids, ids and tokens a request has."""

    name: str
    uuid: str
    number: int = 987
    """Its id on its host."""
    host: str = "a"
    job_id: str = ""
    request_id: str = ""
    owner: str = ""
    part: str = ""
    """A snapshot or a checkpoint."""
    path: str = ""
    page_token: str = ""
    resume_token: str = ""


@dataclass(frozen=True)
class Form:
    """How a request says what it means."""

    by: str = "name"
    """DomainRef's field."""
    choice: int = 0
    """Which field of each oneof, and which value of each enum, is taken."""
    full: bool = False
    """With all that may be left out."""


FORMS = tuple(Form(by, choice, full) for by, choice, full in (("name", 0, False), ("uuid", 1, False), ("name", 2, True), ("uuid", 3, True)))


def request(rpc: str, kind: Descriptor, domain: Aim, other: Aim, form: Form) -> Message:
    """A request about a domain, whose other words are of another."""
    return _Maker(rpc, domain, other, form).message(kind)


class _Maker:
    def __init__(self, rpc: str, domain: Aim, other: Aim, form: Form) -> None:
        self.rpc, self.domain, self.other, self.form = rpc, domain, other, form

    def message(self, kind: Descriptor, depth: int = DEPTH) -> Message:
        if kind.full_name == types_pb2.DomainRef.DESCRIPTOR.full_name:
            return self._ref()
        made = GetMessageClass(kind)()
        for field in self._fields(kind):
            self._fill(made, field, depth)
        if isinstance(made, types_pb2.JobOptions):
            # Whoever is in the way is told at once.
            made.CopyFrom(types_pb2.JobOptions(request_id=made.request_id, on_disconnect=made.on_disconnect, wait_timeout=Duration()))
            if self.rpc in LASTING:
                made.run_timeout.FromMilliseconds(50)
        return made

    def _ref(self) -> types_pb2.DomainRef:
        host = self.domain.host if self.form.full else ""
        return types_pb2.DomainRef(host=host, **{self.form.by: getattr(self.domain, self.form.by)})

    def _fields(self, kind: Descriptor) -> Iterator[FieldDescriptor]:
        for oneof in kind.oneofs:
            fields = list(oneof.fields)
            if len(fields) > 1 or self.form.full:
                yield fields[self.form.choice % len(fields)]
        for field in kind.fields:
            if field.containing_oneof is None and (self.form.full or field.message_type is None or field.name in ("domain", "options", "filter")):
                yield field

    def _fill(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None:
            if depth and not field.message_type.GetOptions().map_entry:
                held = getattr(made, field.name)
                (held.add() if field.is_repeated else held).CopyFrom(self.message(field.message_type, depth - 1))
            return
        value = self._value(field)
        if field.is_repeated:
            getattr(made, field.name).extend([value] if value else [])
        elif value:
            setattr(made, field.name, value)

    def _value(self, field: FieldDescriptor) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return b"\1" if field.type == FieldDescriptor.TYPE_BYTES else self._text(field)
            case FieldDescriptor.CPPTYPE_BOOL:
                return False
            case FieldDescriptor.CPPTYPE_ENUM:
                values = field.enum_type.values if field.enum_type is not None else ()
                return values[self.form.choice % len(values)].number
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return 1.0
        return {"id": self.domain.number, "page_size": 1000}.get(field.name, 1)

    def _text(self, field: FieldDescriptor) -> str:
        name, other = field.name, self.other
        if "xml" in name:
            words = {"name": other.name, "uuid": other.uuid, "part": other.part, "path": other.path}
            return XML_OF[KIND_OF.get(self.rpc, "domain")].format(**words) if name != "xml_overlay" else ""
        known = {
            "host": other.host,
            "hosts": "" if not self.form.full else other.host,
            "uuids": other.uuid,
            "name_glob": other.name if self.form.by == "name" else "",
            "parent": other.part,
            "incremental": other.part,
            "page_token": other.page_token if self.form.choice == 1 else "",
            "resume_token": other.resume_token if self.form.choice == 1 else "",
            "device": "vda",
            "disk": "vda",
            "uri": "urn:canary:1",
            "key": "k",
            "title": "a title",
            "description": "a description",
            "destination": "",
            "user": "root",
        }
        if name in known:
            return known[name]
        assert field.containing_type is not None
        if name == "name" and "domain" in field.containing_type.fields_by_name and self.rpc != "RenameDomain":
            return other.part
        return str(getattr(other, name, other.name))
