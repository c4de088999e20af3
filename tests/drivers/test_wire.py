"""The socket between server and driver process: framing, limits, and what overtakes what."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from virtrpc_drivers import channel, wire
from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.protocol import Change, DomainChanged, EventsLost, HostDown, Report, SpanRecord, Spans
from virtrpc_drivers.values import DomainConfig, DomainReading, Listed, Listing, Missing, Phase, Readings, Stamp

STAMP = Stamp(process=1, monotonic=2.0, wall=3.0)
DECODER = msgspec.msgpack.Decoder(wire.FromDriver)


def drained(outbox: channel.Outbox) -> list[object]:
    """Everything that an outbox would write, in order."""
    bodies = []
    while (body := outbox.pop()) is not None:
        bodies.append(DECODER.decode(body))
    return bodies


def event(uuid: str, change: Change = Change.LIFECYCLE, detail: str = "") -> DomainChanged:
    """An event."""
    return DomainChanged(uuid=uuid, change=change, detail=detail)


class Ends:
    """Both ends of a channel, and what arrived at each."""

    def __init__(self) -> None:
        self.at_server: list[object] = []
        self.at_driver: list[object] = []
        self.closed = asyncio.Event()
        self.driver_closed = asyncio.Event()
        self.arrived = asyncio.Event()
        self.server = channel.Channel(msgspec.msgpack.Decoder(wire.FromDriver), self._at_server, self.closed.set)
        self.driver = channel.Channel(msgspec.msgpack.Decoder(wire.AnyRequest), self.at_driver.append, self.driver_closed.set)

    async def open(self) -> Ends:
        """Connect them."""
        for end, sock in zip((self.server, self.driver), socket.socketpair(), strict=True):
            sock.setblocking(False)
            await end.open(sock)
        return self

    async def count(self, number: int) -> list[object]:
        """The first messages that arrived at the server."""
        async with asyncio.timeout(60):
            while len(self.at_server) < number:
                self.arrived.clear()
                await self.arrived.wait()
        return self.at_server

    def _at_server(self, message: object) -> None:
        self.at_server.append(message)
        self.arrived.set()

    async def close(self) -> None:
        """Close both."""
        self.server.close()
        self.driver.close()
        await self.closed.wait()
        await self.driver_closed.wait()


def test_control_overtakes_bulk_and_events() -> None:
    """What is queued as control is written before bulk that was queued earlier."""
    outbox = channel.Outbox()
    outbox.put(wire.encode(wire.Reply(id=1)), bulk=True)
    outbox.notice(event("a"))
    outbox.put(wire.encode(wire.Reply(id=2)))
    down = HostDown(fault=Fault(reason=Reason.FAILED, message="x"))
    outbox.notice(down)
    assert drained(outbox) == [wire.Reply(id=2), down, wire.Reply(id=1), event("a")]


def test_events_of_a_domain_coalesce_while_they_wait() -> None:
    """Events that say the same of a domain become one, in the first one's place; another kind of change is kept."""
    outbox = channel.Outbox()
    for item in (event("a"), event("b"), event("a", detail="later"), event("a", Change.DEFINED)):
        outbox.notice(item)
    assert drained(outbox) == [event("a", detail="later"), event("b"), event("a", Change.DEFINED)]


def test_an_event_after_a_written_one_is_kept() -> None:
    """An event is not merged into one that has been written."""
    outbox = channel.Outbox()
    outbox.notice(event("a"))
    assert outbox.pop() is not None
    outbox.notice(event("a"))
    assert drained(outbox) == [event("a")]


def test_too_many_events_become_one_loss() -> None:
    """More domains with events than fit become a single EventsLost; events go on after it."""
    outbox = channel.Outbox(max_events=2)
    for uuid in "abcde":
        outbox.notice(event(uuid))
    assert drained(outbox) == [EventsLost()]
    outbox.notice(event("f"))
    assert drained(outbox) == [event("f")]


def test_reports_of_a_call_coalesce_while_they_wait() -> None:
    """Only the last report of a call is written, with the last word on whether it can be aborted."""
    outbox = channel.Outbox()
    outbox.notice(Report(call_id="a", abortable=True, processed_bytes=1))
    outbox.notice(Report(call_id="b", phase=Phase.WAITING_GUEST))
    outbox.notice(Report(call_id="a", processed_bytes=2))
    assert drained(outbox) == [Report(call_id="a", abortable=True, processed_bytes=2), Report(call_id="b", phase=Phase.WAITING_GUEST)]


def test_reports_come_before_the_answer_that_follows() -> None:
    """A report queued before its call's answer is written before it, though a later one replaced it."""
    outbox = channel.Outbox()
    outbox.notice(Report(call_id="a", processed_bytes=1))
    outbox.notice(Report(call_id="a", processed_bytes=2))
    outbox.put(wire.encode(wire.Reply(id=1)))
    assert drained(outbox) == [Report(call_id="a", processed_bytes=2), wire.Reply(id=1)]


def test_spans_are_bounded() -> None:
    """Spans that nobody reads are dropped, not gathered."""
    outbox = channel.Outbox()
    record = SpanRecord(name="x", trace_id="0", span_id="0", parent_id=None, start_ns=0, end_ns=1, attributes={})
    for _ in range(2 * channel.MAX_SPANS):
        outbox.notice(Spans(spans=(record,)))
    assert len(drained(outbox)) == channel.MAX_SPANS


def test_long_answers_are_cut_and_joined() -> None:
    """An answer of many parts travels in several messages and arrives as it was."""
    readings = Readings(
        found=tuple(DomainReading(uuid=f"u{i}", name="n" * 100, stamp=STAMP) for i in range(500)),
        missing=tuple(Missing(uuid=f"m{i}", stamp=STAMP) for i in range(100)),
    )
    pieces = [DECODER.decode(body) for body in wire.replies(7, readings, piece=4096)]
    assert len(pieces) > 10
    assert [piece.more for piece in pieces if isinstance(piece, wire.Reply)] == [True] * (len(pieces) - 1) + [False]
    parts = [msgspec.msgpack.decode(piece.value, type=Readings) for piece in pieces if isinstance(piece, wire.Reply)]
    assert wire.join(parts) == readings


def test_a_short_answer_is_one_message() -> None:
    """An empty listing is one piece, with its stamp."""
    (body,) = wire.replies(1, Listing(stamp=STAMP, domains=()))
    reply = DECODER.decode(body)
    assert isinstance(reply, wire.Reply)
    assert msgspec.msgpack.decode(reply.value, type=Listing) == Listing(stamp=STAMP, domains=())


def test_an_oversized_answer_is_an_error() -> None:
    """An answer that cannot be cut and is larger than a message is refused; so is an oversized request."""
    with pytest.raises(DriverError) as caught:
        list(wire.replies(1, "x" * (wire.MAX_MESSAGE + 1)))
    assert caught.value.reason is Reason.FAILED
    with pytest.raises(DriverError):
        wire.encode(wire.ReadSnapshotXml(id=1, uuid="u", name="x" * wire.MAX_MESSAGE))


def test_one_oversized_reading_fails_alone() -> None:
    """A domain whose reading is too large is `failed`; the others are read."""
    big = DomainReading(uuid="big", name="b", stamp=STAMP, config=DomainConfig(xml="x" * wire.MAX_MESSAGE))
    small = DomainReading(uuid="small", name="s", stamp=STAMP)
    parts = [DECODER.decode(body) for body in wire.replies(1, Readings(found=(big, small)))]
    joined = wire.join([msgspec.msgpack.decode(part.value, type=Readings) for part in parts if isinstance(part, wire.Reply)])
    assert [reading.uuid for reading in joined.found] == ["small"]
    assert [failed.uuid for failed in joined.failed] == ["big"]


async def test_messages_survive_any_fragmentation() -> None:
    """A message is the same however the bytes that carry it arrive."""
    ends = await Ends().open()
    frames = b"".join(len(body).to_bytes(4) + body for body in (wire.encode(wire.Reply(id=1)), wire.encode(event("a" * 1000))))
    for size in (1, 2, 3, 5, 1000, len(frames)):
        ends.at_server.clear()
        for start in range(0, len(frames), size):
            ends.server.data_received(frames[start : start + size])
        assert ends.at_server == [wire.Reply(id=1), event("a" * 1000)]
    await ends.close()


async def test_a_flood_is_handed_over_a_few_at_a_time() -> None:
    """Others have their turn meanwhile; all of it comes, in order, also what the other end had sent before it went."""
    ends = await Ends().open()
    for number in range(500):
        ends.driver.send(wire.Reply(id=number))
    ends.driver.finish()
    most = 0
    while not ends.closed.is_set():
        before = len(ends.at_server)
        await asyncio.sleep(0)
        most = max(most, len(ends.at_server) - before)
    assert most == channel.AT_ONCE
    assert ends.at_server == [wire.Reply(id=number) for number in range(500)]
    await ends.close()


@pytest.mark.parametrize("frame", [(wire.MAX_MESSAGE + 1).to_bytes(4), b"\0\0\0\3???", b"\0\0\0\1\x80"])
async def test_nonsense_closes_the_channel(frame: bytes) -> None:
    """A frame above the limit, or one that is no known message, closes the channel."""
    ends = await Ends().open()
    ends.server.data_received(frame)
    async with asyncio.timeout(60):
        await ends.closed.wait()
    assert ends.at_server == []
    await ends.close()


async def test_control_passes_a_bulk_answer_on_the_way() -> None:
    """With megabytes of bulk under way, a control message arrives before they are through."""
    ends = await Ends().open()
    listing = Listing(stamp=STAMP, domains=tuple(Listed(uuid=f"{i:036}", name="n" * 50) for i in range(40_000)))
    pieces = list(wire.replies(1, listing))
    for body in pieces:
        ends.driver.put(body, bulk=True)
    await ends.count(1)
    ends.driver.put(wire.encode(wire.Reply(id=2)))
    arrived = await ends.count(len(pieces) + 1)
    assert arrived.index(wire.Reply(id=2)) < len(pieces) - 1
    await ends.close()


async def test_what_waits_is_written_before_an_orderly_end() -> None:
    """Finishing a channel writes what was queued, bulk too."""
    ends = await Ends().open()
    ends.driver.put(wire.encode(wire.Reply(id=1)), bulk=True)
    ends.driver.put(wire.encode(wire.Reply(id=2)))
    ends.driver.finish()
    assert await ends.count(2) == [wire.Reply(id=2), wire.Reply(id=1)]
    await ends.close()


async def test_requests_arrive_in_order() -> None:
    """Requests are all control: a cancel never overtakes the call that it is for."""
    ends = await Ends().open()
    sent = [wire.Probe(id=1, uuid="u"), wire.CancelCall(id=2, call_id="c"), wire.ListDomains(id=3)]
    for request in sent:
        ends.server.send(request)
    async with asyncio.timeout(60):
        while len(ends.at_driver) < len(sent):  # noqa: ASYNC110 - the receiving end is plain
            await asyncio.sleep(0)
    assert ends.at_driver == sent
    await ends.close()
