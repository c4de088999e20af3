"""Whatever comes over a socket, the server stays up, goes on answering others, and gives back what it took."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator

import grpc
import pytest

from tests.beds.certificates import Authority
from tests.beds.wait import wait_until
from tests.hostile.bed import GUARD, SPARE_MEMORY, Target, target
from tests.hostile.wire import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    bomb,
    call,
    client_context,
    frame,
    header,
    headers,
    message,
)
from virtrpc.v1 import query_pb2 as q

CONNECTIONS = 100
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
hostile = pytest.mark.hostile


by_both = pytest.mark.parametrize("bed", ["unix", "tls"], indirect=True, scope="module")
by_tls_for_long = pytest.mark.parametrize("bed", ["unix", pytest.param("tls", marks=hostile)], indirect=True, scope="module")
by_tls = pytest.mark.parametrize("bed", ["tls"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest) -> Iterator[Target]:
    """A server for all that it must survive without being started again: attacked by its socket, and within TLS by who has a certificate."""
    with target(tls=request.param == "tls") as made:
        yield made


def nonsense(dice: random.Random) -> bytes:
    """What no HTTP/2 peer would say."""
    junk = dice.randbytes(dice.randrange(1, 3000))
    return dice.choice(
        [
            junk,
            PREFACE[: dice.randrange(1, len(PREFACE))],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00" + junk,
            PREFACE + junk,
            PREFACE + frame(SETTINGS, 0, 0) + frame(dice.randrange(256), dice.randrange(256), dice.randrange(1 << 31), junk[:500]),
            PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 0xFFFFFFFF)),
            PREFACE + frame(SETTINGS, 0, 0, junk[:7]),
            PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, junk[:800]),
            PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 2, headers()),
            PREFACE + frame(SETTINGS, 0, 0) + frame(DATA, 0, 7, junk[:300]),
            PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, bytes(4)) + frame(GOAWAY, 0, 0, junk[:40]),
            PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, headers(":path")) + frame(CONTINUATION, 0, 1, junk[:99]),
            PREFACE + frame(SETTINGS, 0, 0) + struct.pack(">I", 0xFFFFFF << 8)[:3] + b"\0\0\0\0\0\1" + junk,
        ]
    )


@by_both
async def test_nonsense(bed: Target) -> None:
    """Random bytes, half of a preface, HTTP/1, TLS to where there is none, and frames that are wrong in every way harm only who sends them."""

    async def attack(dice: random.Random) -> None:
        for _ in range(300):
            async with await bed.connect(preface=False) as connection:
                await connection.send(nonsense(dice))
                await asyncio.sleep(0)

    async with bed.under(attack(random.Random(6)), attack(random.Random(7))):
        pass
    await asyncio.to_thread(bed.assert_whole)


@by_tls_for_long
async def test_bombs(bed: Target) -> None:
    """A compressed message that would be 256 MiB is refused before it has taken that: the server needs a few MiB more, at most, for many of them."""
    data, before = message(bomb(256 << 20), compressed=True), bed.forget_peak()

    async def attack() -> list[tuple[int, bytes]]:
        async with await bed.connect() as connection:
            await connection.send(frame(HEADERS, END_HEADERS, 1, headers(grpc_encoding="gzip")))
            return await connection.upload(1, data)

    async with asyncio.timeout(GUARD):
        answers = await asyncio.gather(*(attack() for _ in range(20)))
    assert all(b"grpc-status\x018" in answer[-1][1] for answer in answers)
    assert bed.memory("VmHWM") - before < SPARE_MEMORY
    await asyncio.to_thread(bed.assert_whole)


@by_tls_for_long
@pytest.mark.parametrize("size", [40_000, 1_000_000])
async def test_oversized_headers(bed: Target, size: int) -> None:
    """Headers beyond the limit are refused, whether they are one or many, and the server keeps none of them."""
    before = bed.forget_peak()

    async def attack(much: bytes) -> bool:
        async with await bed.connect() as connection:
            await connection.greet()
            block = headers() + much
            await connection.send(frame(HEADERS, 0, 1, block[:16_000]))
            for at in range(16_000, len(block), 16_000):
                last = at + 16_000 >= len(block)
                await connection.send(frame(CONTINUATION, END_HEADERS if last else 0, 1, block[at : at + 16_000]))
            await connection.send(frame(DATA, END_STREAM, 1, message(b"")))
            async with asyncio.timeout(GUARD):
                async for _, flags, stream, body in connection.frames():
                    if stream and flags & END_STREAM:
                        return b"grpc-status\x018" in body
        return True

    much = (header("x-much", "y" * size), b"".join(header(f"x-{number}", "y" * 1000) for number in range(size // 1000)))
    assert all(await asyncio.gather(*(attack(block) for block in much * 10)))
    assert bed.memory("VmHWM") - before < SPARE_MEMORY
    await asyncio.to_thread(bed.assert_whole)


@by_tls_for_long
async def test_calls_that_are_reset_at_once(bed: Target) -> None:
    """Thousands of calls that their caller resets in the same breath cost others no answer, and nothing stays."""

    async def attack() -> None:
        async with await bed.connect() as connection:
            for stream in range(1, 2 * 5_000, 2):
                if not await connection.send(frame(HEADERS, END_HEADERS, stream, headers()) + frame(RST_STREAM, 0, stream, CANCEL)):
                    return

    async with bed.under(*(attack() for _ in range(4))):
        pass
    await asyncio.to_thread(bed.assert_whole)


@by_both
async def test_pings_and_settings_without_end(bed: Target) -> None:
    """Who does nothing but ping, or change its settings, is sent away or ignored."""

    async def attack(piece: bytes) -> None:
        async with await bed.connect() as connection:
            reading = asyncio.ensure_future(connection.closed(GUARD))
            for _ in range(3_000):
                if not await connection.send(piece * 10):
                    break
            reading.cancel()

    async with bed.under(attack(frame(PING, 0, 0, bytes(8))), attack(frame(SETTINGS, 0, 0))):
        pass
    await asyncio.to_thread(bed.assert_whole)


@hostile
@by_both
async def test_who_says_nothing_is_sent_away(bed: Target) -> None:
    """Hundreds of connections that say nothing, or the preface byte by byte, are closed by the server after its ten seconds."""
    await hold_on(bed, lambda: bed.connect(preface=False), PREFACE * 1000)


async def hold_on(bed: Target, connect: Callable[[], Awaitable[Connection]], signs: bytes) -> None:
    """Twice as many connections as there may be say nothing, and as many these signs, one a second: all are closed by the server."""

    async def silent() -> None:
        async with await connect() as connection:
            await connection.closed(GUARD)

    async def slow() -> None:
        async with await connect() as connection:
            for sign in signs:
                if not await connection.send(bytes([sign])):
                    return
                await asyncio.sleep(1.0)

    attacks = [asyncio.ensure_future(attack()) for attack in (silent, slow) for _ in range(2 * CONNECTIONS)]
    async with bed.under():
        await asyncio.wait_for(asyncio.gather(*attacks), GUARD)
    await asyncio.to_thread(bed.assert_whole)


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a TLS hello of half a KiB begins."""


@by_tls
async def test_handshakes_that_fail(bed: Target) -> None:
    """Garbage, half a hello, HTTP/2 in the clear, and TLS with no certificate or a stranger's: nobody gets in, and nothing stays."""
    assert bed.authority is not None
    stranger = Authority(bed.authority.directory, "stranger").issue("stranger", dns=["attacker"])
    contexts = [client_context(bed.authority.path, pair) for pair in (None, stranger)]

    async def babble(dice: random.Random) -> None:
        for _ in range(100):
            async with await Connection.to(bed.address, preface=False) as connection:
                await connection.send(dice.choice([nonsense(dice), HELLO + dice.randbytes(200), PREFACE + frame(SETTINGS, 0, 0)]))
                await asyncio.sleep(0)

    async def knock(tls: ssl.SSLContext) -> None:
        for _ in range(20):
            # TLS 1.3: the client hears only after its own part that it was refused.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                async with await Connection.to(bed.address, tls=tls) as connection:
                    await connection.send(call(1))
                    assert not await connection.answered()

    attacks = [asyncio.ensure_future(attack) for attack in (babble(random.Random(6)), babble(random.Random(7)), *map(knock, contexts))]
    async with bed.under():
        await asyncio.wait_for(asyncio.gather(*attacks), GUARD)
    await asyncio.to_thread(bed.assert_whole)


@hostile
@by_tls
async def test_handshakes_without_end(bed: Target) -> None:
    """Hundreds of connections that say nothing, or half a hello byte by byte, are closed by the server after its ten seconds."""
    await hold_on(bed, lambda: Connection.to(bed.address, preface=False), HELLO + bytes(400))


async def flood(address: str, calls: int) -> None:
    """So many small calls, as fast as they go through."""
    async with await Connection.to(address) as connection:
        answers = asyncio.ensure_future(connection.closed(GUARD))
        for stream in range(1, 2 * calls, 2):
            if not await connection.send(call(stream)):
                break
        answers.cancel()


async def heard(limited: Target) -> int:
    """How many of 50 queries are answered or refused while a caller of the same name floods the server."""
    count = 0
    attacks = [asyncio.ensure_future(flood(limited.address, 25_000)) for _ in range(4)]
    async with limited.server.channel() as channel:
        for _ in range(50):
            try:
                await channel.query.ListHosts(q.ListHostsRequest(), timeout=GUARD)
                count += 1
            except grpc.aio.AioRpcError as error:
                count += error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for task in attacks:
        task.cancel()
    await asyncio.gather(*attacks, return_exceptions=True)
    return count


@hostile
def test_tiny_requests_without_end() -> None:
    """While one caller sends a hundred thousand requests as fast as they go through, each other call has its answer, or its refusal."""
    with target() as free:
        assert asyncio.run(heard(free)) == 50
    with target(calls_per_second=200, burst=200) as limited:
        assert asyncio.run(heard(limited)) == 50
        # Its bucket is full again within a second.
        wait_until(lambda: asyncio.run(answered(limited)), "the limit to be over", GUARD)


async def answered(limited: Target) -> bool:
    """Whether a query is answered now."""
    try:
        return await limited.ask(1) == 1
    except grpc.aio.AioRpcError:
        return False


@hostile
@by_both
async def test_calls_that_never_send_their_request(bed: Target) -> None:
    """Calls whose request never comes are ended by the server with a status, and give back what they took."""

    async def attack() -> None:
        async with await bed.connect() as connection:
            await connection.greet()
            for stream in range(1, 2 * 500, 2):
                await connection.send(frame(HEADERS, END_HEADERS, stream, headers()) + frame(DATA, 0, stream, b"\0"))
            ended: set[int] = set()
            async with asyncio.timeout(GUARD):
                async for kind, flags, stream, _ in connection.frames():
                    if stream and kind == HEADERS and flags & END_STREAM:
                        ended.add(stream)
                    if len(ended) == 500:
                        return
            raise AssertionError(f"{len(ended)} of 500 were ended")

    attacks = [asyncio.ensure_future(attack()) for _ in range(4)]
    async with bed.under():
        await asyncio.wait_for(asyncio.gather(*attacks), GUARD)
    await asyncio.to_thread(bed.assert_whole)


@hostile
@by_both
async def test_endless_requests_to_reflection(bed: Target) -> None:
    """A stream that asks for the contract without end is answered as far as it reads, and others are answered meanwhile."""
    ask = message(b"\x3a\x00")  # list_services

    async def attack() -> None:
        async with await bed.connect() as connection:
            await connection.send(frame(HEADERS, END_HEADERS, 1, headers(REFLECTION)))
            await connection.upload(1, ask * 200_000)

    async with bed.under(*(attack() for _ in range(4))):
        pass
    await asyncio.to_thread(bed.assert_whole)
