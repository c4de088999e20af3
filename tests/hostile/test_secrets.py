"""Secrets that requests carry are nowhere but at the hypervisor: not in a log, a trace, the audit log, the journal, an answer or an error."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.beds.wait import wait_until
from tests.e2e.refusals import METHODS, start
from tests.e2e.server import Channel, Server
from virtrpc.errors import from_status
from virtrpc.v1 import devices_pb2, spec_pb2
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t
from virtrpc_server.fingerprints import fingerprint, sealed

CANARY = "k4nAry-s3cret"
SCREEN = f"<graphics type='vnc' port='-1' passwd='{CANARY}'/>"
COOKIE = f"<cookies><cookie name='session'>{CANARY}</cookie></cookies>"
DISK = (
    f"<disk type='network' device='disk'><source protocol='https' name='a'><host name='h'/>{COOKIE}</source><target dev='vdb' bus='virtio'/></disk>"
)
FORMS = ("whole", "cut before", "cut after", "bent", "entity", "double quotes", "blanks", "other root")
SECONDS = 2.0


def domain_xml(name: str, kind: str = "test") -> str:
    """A definition with every secret that libvirt hides unless it is asked for (VIR_DOMAIN_XML_SECURE)."""
    os = "<os><type>hvm</type></os>"
    return f"<domain type='{kind}'><name>{name}</name><memory>8192</memory>{os}<devices>{DISK}{SCREEN}</devices></domain>"


def forms(xml: str) -> dict[str, str]:
    """The same text, as a caller may send it rightly and wrongly."""
    at = xml.index(CANARY) + len(CANARY)
    return dict(zip(FORMS, (
        xml, xml[:at], xml[: at + 2], xml.replace("/>", ">", 1).replace("<source", "<sour<ce", 1), f"<!DOCTYPE a [<!ENTITY b '{CANARY}'>]>{xml}",
        xml.replace("'", '"'), xml.replace("passwd=", "passwd \n = "), f"<nothing>{xml}</nothing>",
    ), strict=True))  # fmt: skip


def texts(kind: Descriptor, seen: tuple[str, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The ways to every text in a request that may hold a secret: XML, passwords, and URIs."""
    for field in kind.fields:
        if field.message_type is not None:
            if field.message_type.full_name not in seen and not field.message_type.GetOptions().map_entry:
                yield from ((field, *rest) for rest in texts(field.message_type, (*seen, field.message_type.full_name)))
        elif field.type == FieldDescriptor.TYPE_STRING and ("xml" in field.name or field.GetOptions().debug_redact or field.name.endswith("uri")):
            yield (field,)


def carrying(kind: Descriptor, way: tuple[FieldDescriptor, ...], text: str, domain: str) -> Message:
    """A request with a text at the end of a way."""
    made: Any = GetMessageClass(kind)()
    if "domain" in kind.fields_by_name:
        made.domain.CopyFrom(t.DomainRef(host="sim", name=domain))
    inner = made
    for field in way[:-1]:
        inner = getattr(inner, field.name).add() if field.is_repeated else getattr(inner, field.name)
    if way[-1].is_repeated:
        getattr(inner, way[-1].name).append(text)
    else:
        setattr(inner, way[-1].name, text)
    result: Message = made
    return result


def value_for(field: FieldDescriptor) -> list[str]:
    """What a text field is given."""
    if field.name.endswith("uri"):
        return [f"qemu+tcp://root:{CANARY}@sim/system", f"qemu+tcp://sim/system?password={CANARY}"]
    if "xml" in field.name:
        return [*forms(domain_xml("made")).values(), *forms(DISK).values()]
    return [CANARY]


def requests() -> list[tuple[str, Message | bytes]]:
    """Every RPC with every such text, and good ones by hand."""
    made: list[tuple[str, Message | bytes]] = [
        (rpc, carrying(method.input_type, way, text, "guest-1"))
        for rpc, method in METHODS.items()
        if "Metadata" not in rpc  # whose uri is the name of a namespace, and is told
        for way in texts(method.input_type)
        for text in value_for(way[-1])
    ]
    on = t.DomainRef(host="sim", name="guest-2")
    graphics = devices_pb2.Graphics(type=devices_pb2.GRAPHICS_TYPE_VNC, password=CANARY)
    made += [
        ("SetUserPassword", j.SetUserPasswordRequest(domain=on, user="root", password=CANARY)),
        ("SetUserPassword", j.SetUserPasswordRequest(domain=on, user="", password=CANARY)),
        ("SetUserPassword", j.SetUserPasswordRequest(domain=t.DomainRef(name="nobody"), user="root", password=CANARY)),
        ("DefineDomain", j.DefineDomainRequest(host="sim", xml=domain_xml("good"))),
        ("DefineDomain", j.DefineDomainRequest(host="mock", xml=domain_xml("good"))),
        ("CreateDomain", j.CreateDomainRequest(host="sim", xml=domain_xml("made-good"))),
        ("AttachDevice", j.AttachDeviceRequest(domain=on, xml=DISK)),
        ("UpdateDevice", j.UpdateDeviceRequest(domain=on, xml=SCREEN)),
        ("UpdateDevice", j.UpdateDeviceRequest(domain=on, graphics=graphics)),
        ("DefineDomain", j.DefineDomainRequest(host="sim", spec=spec_pb2.DomainSpec(name="typed", memory_bytes=1 << 29, graphics=[graphics]))),
        ("DefineDomain", b"\x0a\xff\x01" + CANARY.encode()),
        ("SetUserPassword", j.SetUserPasswordRequest(domain=on, user="root", password=CANARY).SerializeToString()[:-1]),
        ("GetDomainXml", q.GetDomainXmlRequest(domain=t.DomainRef(host="sim", name="good"))),
        ("GetDomainXml", q.GetDomainXmlRequest(domain=t.DomainRef(host="mock", name="good"))),
        ("ListJobs", j.ListJobsRequest(page_size=1000)),
        ("ListDomains", q.ListDomainsRequest(page_size=1000)),
    ]
    return made


async def told(channel: Channel, rpc: str, request: Message | bytes) -> bytes:
    """Everything that a caller hears."""
    call: Any = start(channel, rpc, request)
    heard = []
    try:
        async with asyncio.timeout(SECONDS):
            if METHODS[rpc].server_streaming:
                heard += [update async for update in call]
            else:
                heard.append(await call)
    except TimeoutError:
        call.cancel()
    except grpc.aio.AioRpcError as error:
        heard += [(error.details() or "").encode(), repr(error).encode()]
        heard += [value if isinstance(value, bytes) else value.encode() for _, value in error.trailing_metadata() or ()]
    return b"\n".join(heard)


@pytest.mark.timeout(300)
def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    """With everything logged, traced, audited and stored, through every field that can hold a secret, rightly and wrongly; after a kill as well."""
    audit = tmp_path / "audit.log"
    hosts = {"sim": "sim:///?domains=4&running=4", "mock": "test:///default"}
    server = Server(hosts, log_level="DEBUG", log_format="json", tracing="console", audit_log=str(audit), drain_timeout=0)
    with server:
        server.wait_live()

        async def send() -> dict[str, bytes]:
            async with server.channel() as channel:
                heard: dict[str, bytes] = {}
                todo = requests()
                # What reads comes last: it is to see what the others have left.
                todo.sort(key=lambda one: one[0].startswith(("Get", "List")))
                for begin in range(0, len(todo), 50):
                    batch = todo[begin : begin + 50]
                    answers = await asyncio.gather(*(told(channel, rpc, request) for rpc, request in batch))
                    heard |= {f"{rpc} {begin + at}": answer for at, ((rpc, _), answer) in enumerate(zip(batch, answers, strict=True))}
                return heard

        heard = asyncio.run(send())
        assert [name for name, answer in heard.items() if CANARY.encode() in answer] == []
        # The last line of the audit log is there only after all that was before it.
        wait_until(lambda: audit.read_text().count("\n") > len(requests()) // 2, "the audit log", 60)
        wait_until(lambda: '"name": "virtrpc.v1.JobService/SetUserPassword"' in server.log, "the spans", 60)
        # Killed, it leaves what is in the journal's log besides what is in its file.
        server.send(signal.SIGKILL)
        server.wait()
        files = [file for file in (*server.path.rglob("*"), audit) if file.is_file()]
        assert {"journal.sqlite", "virtrpcd.log", "audit.log"} <= {file.name for file in files}
        assert [str(file) for file in files if any(word in file.read_bytes() for word in (CANARY.encode(), CANARY.encode("utf-16-le")))] == []
        # And the next one, which takes up what was left.
        server.start()
        server.wait_live()
        assert CANARY not in server.log


async def job_of(channel: Channel, request: Any) -> str:
    """The id of the job that a request has, or the reason for which it has none."""
    stream = channel.job.SetUserPassword(request, timeout=60)
    try:
        async for update in stream:
            return str(update.job.job_id)
    except grpc.aio.AioRpcError as error:
        return from_status(error.code(), error.details() or "", error.trailing_metadata()).reason
    raise AssertionError("no word of a job")


def test_a_password_cannot_be_guessed_from_the_journal() -> None:
    """A repeat finds its job by a slow hash, two at once and after a kill as well; the fast one, and any without a request_id, is in no file."""
    request = j.SetUserPasswordRequest(domain=t.DomainRef(host="sim", name="guest-1"), user="root", password=CANARY)
    named, other = (type(request)(domain=request.domain, user="root", password=word) for word in (CANARY, "another"))
    for each in (named, other):
        each.options.request_id = "once"
        each.options.on_disconnect = t.ON_DISCONNECT_DETACH
    with Server({"sim": "sim:///?domains=2&running=2"}, drain_timeout=0) as server:

        async def send(*requests: Any) -> list[str]:
            async with server.channel() as channel:
                return await asyncio.gather(*(job_of(channel, each) for each in requests))

        server.wait_live()
        first, again = asyncio.run(send(named, named))
        assert first == again
        (unnamed,) = asyncio.run(send(request))
        assert unnamed not in (first, "REQUEST_ID_REUSED")
        assert asyncio.run(send(named, other)) == [first, "REQUEST_ID_REUSED"]
        server.send(signal.SIGKILL)
        server.wait()
        kept = b"".join(file.read_bytes() for file in server.path.rglob("journal.sqlite*"))
        assert unnamed.encode() in kept
        assert kept.count(sealed(fingerprint(request), "unix", "once").encode()) > 0
        assert fingerprint(request).encode() not in kept
        server.start()
        server.wait_live()
        assert asyncio.run(send(named, other)) == [first, "REQUEST_ID_REUSED"]


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_hold_the_secret(form: str) -> None:
    """Each form in which a secret is sent does carry it, so that its absence says something."""
    assert CANARY in forms(domain_xml("x"))[form]
