"""Requests that nobody means well by, made from the contract's descriptors: valid in form and wild in content, then cut and bent as bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from tests.e2e.refusals import METHODS

DEPTH = 4
NAMES = (
    "guest-1",
    "guest-2",
    "guest-3",
    "test",
    "sim",
    "mock",
    "",
    "nobody",
    "vda",
    "disk",
    "qemu+tcp://sim/system",
    "/srv/allowed/x",
    "/etc/passwd",
)
UUIDS = ("e8b7be43-0000-4000-8000-000000000001", "6695eb01-f6a4-8304-79aa-97f2502e193f", "00000000-0000-0000-0000-000000000000", "no-uuid")
ODD = (
    "\0",
    "a\0b",
    "\n\r\t",
    "é" * 300,
    "\U0001d4b3",
    "\u202e",
    "%s%n{0}",
    "../../..",
    "' OR 1=1 --",
    "x" * 5_000,
    "9" * 400,
    "-1",
    "1e309",
    "\ufffe",
    "[",
    "*" * 200,
)
XML = (
    "<domain type='test'><name>fuzz</name><memory unit='KiB'>8192</memory><os><type>hvm</type></os><devices/></domain>",
    (
        "<domain type='test'><name>fuzz</name>"
        "<uuid>e8b7be43-0000-4000-8000-000000000001</uuid><memory>1</memory><vcpu current='9'>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type><boot dev='hd'/></os><devices><disk type='file' device='disk'><source file='/srv/allowed/a'/>"
        "<target dev='vda' bus='virtio'/></disk><interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>"
        "<graphics type='vnc' port='-1' autoport='yes' passwd='x'/></devices><metadata><a:b xmlns:a='urn:x'>1</a:b></metadata></domain>"
    ),
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/allowed/b'/><target dev='vdb'/></disk>",
    "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>",
    "<domainsnapshot><name>s</name><memory snapshot='no'/><disks><disk name='vda' snapshot='external'/></disks></domainsnapshot>",
    "<domaincheckpoint><name>c</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>",
    "<domainbackup mode='pull'><server transport='unix' socket='/srv/allowed/s'/></domainbackup>",
    "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><domain>&b;</domain>",
    "<" * 500,
    "<a>" * 300,
    "<a " + "b='1' " * 50 + "/>",
    "<?xml version='9'?><a/>",
)
INT64 = (0, 1, -1, 7, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63))
INT32 = tuple(number for number in INT64 if -(1 << 31) <= number < 1 << 31)
FLOATS = (0.0, -0.0, 1.5, -1.0, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"))


@st.composite
def bent_xml(draw: st.DrawFn) -> str:
    """A document, perhaps with a piece cut out, doubled, or put in another's place."""
    text = draw(st.sampled_from(XML))
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.sampled_from((0, 1, 3, 12, 60))))
        piece = draw(st.sampled_from(("", text[begin:end] * 2, *ODD[1:9], "<!--", "]]>", "&#0;", "&#x10FFFF;", "&amp;", "'", "<x/>")))
        text = text[:begin] + piece + text[end:]
    return text


def strings(name: str) -> st.SearchStrategy[str]:
    """What a text field of this name might be given."""
    if "xml" in name:
        return bent_xml()
    return st.one_of(st.sampled_from(NAMES), st.sampled_from(UUIDS), st.sampled_from(ODD), st.text(max_size=20))


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """A value of a field that is no message."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=20) if field.type == FieldDescriptor.TYPE_BYTES else strings(field.name)
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            numbers = [value.number for value in field.enum_type.values]
            return st.sampled_from([*numbers, *numbers, 99, -1])
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return st.sampled_from(FLOATS)
        case FieldDescriptor.CPPTYPE_INT32:
            return st.sampled_from(INT32)
        case FieldDescriptor.CPPTYPE_UINT32:
            return st.sampled_from([number for number in INT32 if number >= 0])
        case FieldDescriptor.CPPTYPE_UINT64:
            return st.sampled_from([number for number in INT64 if number >= 0])
    return st.sampled_from(INT64)


@st.composite
def message(draw: st.DrawFn, kind: Descriptor, depth: int = DEPTH) -> Message:
    """A message of this type; the fields that say which domain is meant are mostly there."""
    made = GetMessageClass(kind)()
    for field in kind.fields:
        if not draw(st.integers(0, 3 if field.name in ("domain", "ref", "name", "xml") else 1)):
            continue
        _fill(draw, made, field, depth)
    return made


def _fill(draw: st.DrawFn, made: Message, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is None:
        values = draw(st.lists(scalar(field), max_size=3)) if field.is_repeated else draw(scalar(field))
        if field.is_repeated:
            getattr(made, field.name).extend(values)
        else:
            setattr(made, field.name, values)
        return
    if depth == 0 or field.message_type.GetOptions().map_entry:
        return
    values = (
        draw(st.lists(message(field.message_type, depth - 1), max_size=2)) if field.is_repeated else [draw(message(field.message_type, depth - 1))]
    )
    for value in values:
        (getattr(made, field.name).add() if field.is_repeated else getattr(made, field.name)).CopyFrom(value)


@st.composite
def request(draw: st.DrawFn) -> tuple[str, bytes]:
    """An RPC's name, and bytes for it."""
    rpc = draw(st.sampled_from(sorted(METHODS)))
    how = draw(st.integers(0, 9))
    if how == 0:
        return rpc, draw(st.binary(max_size=200))
    raw = draw(message(METHODS[rpc].input_type)).SerializeToString()
    return rpc, _bent(draw, raw) if how < 4 else raw


def _bent(draw: st.DrawFn, raw: bytes) -> bytes:
    changes: tuple[Callable[[int], bytes], ...] = (
        lambda at: raw[:at],
        lambda at: raw[:at] + raw[at + 1 :],
        lambda at: raw[:at] + bytes([draw(st.integers(0, 255))]) + raw[at + 1 :],
        lambda at: raw[:at] + draw(st.binary(max_size=8)) + raw[at:],
        lambda at: raw + raw[at:],
        # Groups, nested deeper than any parser likes.
        lambda at: raw[:at] + b"\x0b" * 200 + raw[at:],
    )
    return draw(st.sampled_from(changes))(draw(st.integers(0, len(raw))))
