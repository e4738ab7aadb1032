"""Whatever happens to the connection, and wherever: a typed error, never a hang, and the next call succeeds."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio
import pytest

from containerd_py import Client
from containerd_py.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    ContainerdError,
    ProtocolError,
    ResourceExhaustedError,
    UnavailableError,
    UnknownError,
)
from tests.faults.proxied import (
    TO_CLIENT,
    TO_DAEMON,
    ask_once,
    create_lease,
    drop_ingests,
    drop_leases,
    outcome,
    part,
    proxied,
    proxy,
    record_edges,
    store,
)
from tests.harness import h2frames
from tests.harness.h2frames import PREFACE, ErrorCode, Frame, Kind
from tests.harness.socket_proxy import Direction, SocketProxy

__all__ = ["proxied", "proxy"]

Flow = Callable[[Client], Awaitable[None]]
SEED = 20261124
RANDOM_CUTS = 10  # in each direction of each flow; fifty times as many in a storm
ONE_LINE = pytest.mark.lines("2.1")  # what is injected does not depend on the daemon
OK = [(":status", "200"), ("content-type", "application/grpc")]


# ── cut anywhere ────────────────────────────────────────────────────────────────────────────────────────────────────


async def unary(client: Client) -> None:
    """One call that changes something and one that does not."""
    await create_lease(client)
    await client.version()


async def content(client: Client) -> None:
    """A blob of several frames written, committed and read."""
    digest, data = await store(client, 100_000)
    assert await client.content.read(digest) == data


async def streams(client: Client) -> None:
    """A server's stream, and one that is left early."""
    await client.content.list()
    async with client.events.subscribe():
        pass


FLOWS: dict[str, Flow] = {"unary": unary, "content": content, "streams": streams}


async def edges_of(proxy: SocketProxy, direction: Direction, client: Client, flow: Flow) -> list[int]:
    """Run the flow on a fresh connection; return the offsets at which frames end in the direction."""
    await part(proxy, client)
    sizes = record_edges(proxy, direction)
    await flow(client)
    proxy.clear()
    start = len(PREFACE) if direction is TO_DAEMON else 0
    return [start + sum(sizes[:count]) for count in range(len(sizes) + 1)]


@pytest.mark.timeout(600)
@pytest.mark.lines("1.6", "2.1")
@pytest.mark.parametrize("direction", [TO_DAEMON, TO_CLIENT], ids=["request", "response"])
@pytest.mark.parametrize("name", FLOWS)
async def test_cut_at_any_byte(
    proxied: Client, proxy: SocketProxy, name: str, direction: Direction, request: pytest.FixtureRequest
):
    """Cut at every edge of a frame, a byte before and after, and anywhere: a typed error or success, and on it goes."""
    flow, rng = FLOWS[name], random.Random(f"{SEED} {name} {direction}")
    count = RANDOM_CUTS * (50 if request.config.getoption("--storm") else 1)
    async with proxied.hold_lease() as client:
        edges = await edges_of(proxy, direction, client, flow)
        offsets = {edge + step for edge in edges for step in (-1, 0, 1)}
        offsets |= {rng.randrange(edges[-1]) for _ in range(count)}
        fired = failed = 0
        for offset in sorted(offset for offset in offsets if offset >= 0):
            await part(proxy, client)
            cut = proxy.cut(direction, after_bytes=offset)
            error = await outcome(lambda: flow(client))
            assert error is None or isinstance(error, UnavailableError), (offset, error)
            fired += cut.fired
            failed += error is not None
            proxy.clear()
            assert await outcome(client.version) is None, f"after a cut at {offset}"
        assert fired > len(edges)
        assert (failed > 0) == (name != "streams"), "what changes nothing is repeated, the rest is not"
        await part(proxy, client)
        assert await outcome(lambda: flow(client)) is None
        await anyio.sleep(0.2)  # a lease whose creation was cut off may come into being late
        await drop_leases(client)
        await drop_ingests(client)


# ── slow and in crumbs ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_crumbs_and_latency_are_no_fault(proxied: Client, proxy: SocketProxy):
    """Bytes that come one at a time, or late, change nothing but the time it takes."""
    proxy.shape(slice_size=1)
    await proxied.version()
    async with proxied.hold_lease() as client:
        digest, data = await store(client, 10_000)
        assert await client.content.read(digest) == data
    proxy.shape(latency=0.2, slice_size=100)
    began = anyio.current_time()
    await proxied.version()
    assert anyio.current_time() - began >= 0.4
    proxy.shape()
    assert len(proxy.connections) == 1


# ── what HTTP/2 can say ─────────────────────────────────────────────────────────────────────────────────────────────


@ONE_LINE
async def test_goaway_ends_the_call_and_the_connection(proxied: Client, proxy: SocketProxy):
    """GOAWAY with any code is a ConnectionLostError for a call that is sent once; the next call connects anew."""
    for number, code in enumerate(ErrorCode, start=1):
        fault = proxy.goaway(code)
        error = await outcome(lambda: ask_once(proxied))
        assert type(error) is ConnectionLostError, code
        assert fault.fired == 1
        assert fault.in_flight == [1]
        assert await ask_once(proxied)
        assert len(proxy.connections) == 1 + number


@ONE_LINE
async def test_goaway_is_unseen_by_reads(proxied: Client, proxy: SocketProxy):
    """A read is repeated on a new connection after GOAWAY, as after any lost connection."""
    fault = proxy.goaway(ErrorCode.NO_ERROR)
    assert await proxied.version()
    assert fault.fired == 1
    assert len(proxy.connections) == 2


@ONE_LINE
async def test_reset_ends_the_call_only(proxied: Client, proxy: SocketProxy):
    """RST_STREAM with any code is a typed error of that call; the connection stays."""
    expected = {ErrorCode.REFUSED_STREAM: UnavailableError, ErrorCode.ENHANCE_YOUR_CALM: ResourceExhaustedError}
    for code in ErrorCode:
        fault = proxy.reset_stream(code)
        error = await outcome(lambda: ask_once(proxied))
        assert type(error) is expected.get(code, ConnectionLostError), code
        assert fault.fired == 1
        assert await ask_once(proxied)
    assert len(proxy.connections) == 1


@ONE_LINE
@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x40\x01" + bytes(6), bytes(range(256))],
    ids=["ones", "http1", "frame too large", "counting"],
)
async def test_garbage_between_frames(proxied: Client, proxy: SocketProxy, garbage: bytes):
    """Bytes that are no frame end the connection at once, however little of the frame they announce comes."""
    fault = proxy.inject(garbage, TO_DAEMON, into=TO_CLIENT, after_frames=1, kind=Kind.HEADERS)
    proxy.pause(TO_CLIENT, after_frames=0, kind=Kind.HEADERS)
    error = await outcome(lambda: ask_once(proxied))
    assert isinstance(error, ConnectionLostError)
    assert fault.fired == 1
    proxy.clear()
    assert await ask_once(proxied)


# ── answers no daemon gives ─────────────────────────────────────────────────────────────────────────────────────────


def forged(fields: list[tuple[str, str]], *, end: bool = True) -> Callable[[Frame], bytes]:
    return lambda frame: h2frames.headers(frame.stream, fields, end_stream=end)


def is_trailer(frame: Frame) -> bool:
    return frame.kind == Kind.HEADERS and frame.ends_stream


def is_header(frame: Frame) -> bool:
    return frame.kind == Kind.HEADERS and not frame.ends_stream


def nothing(_frame: Frame) -> bytes:
    return b""


def end_of_data(frame: Frame) -> bytes:
    return h2frames.data(frame.stream, frame.payload, end_stream=True)


FORGERIES = {
    "no status": (is_trailer, forged([("x", "y")]), UnknownError, "Missing grpc-status"),
    "status is no number": (is_trailer, forged([("grpc-status", "ok")]), UnknownError, "Invalid grpc-status"),
    "status is unknown": (is_trailer, forged([("grpc-status", "99")]), UnknownError, "Invalid grpc-status"),
    "message is no text": (is_trailer, forged([("grpc-status", "6"), ("grpc-message", "%ff")]), AlreadyExistsError, ""),
    "details are no base64": (
        is_trailer,
        forged([("grpc-status", "6"), ("grpc-message", "it is here"), ("grpc-status-details-bin", "!")]),
        AlreadyExistsError,
        "it is here",
    ),
    "metadata is no base64": (
        is_trailer,
        forged([("grpc-status", "0"), ("x-bin", "a")]),
        ProtocolError,
        "headers that make no sense",
    ),
    "headers that are no text": (
        is_trailer,
        forged([("grpc-status", "0"), ("x", "ä")]),
        ProtocolError,
        "headers that make no sense",
    ),
    "no trailers": (lambda frame: frame.kind == Kind.DATA, end_of_data, ProtocolError, "without saying how it went"),
    "no HTTP status": (is_header, forged(OK[1:], end=False), ProtocolError, "headers that make no sense"),
    "HTTP error": (is_header, forged([(":status", "404"), ("content-type", "text/plain")]), ContainerdError, "404"),
    "no content type": (is_header, forged(OK[:1], end=False), UnknownError, "content-type"),
    "web page": (
        is_header,
        forged([OK[0], ("content-type", "text/html")], end=False),
        UnknownError,
        "Invalid content-type",
    ),
    "nothing but OK": (is_header, forged([*OK, ("grpc-status", "0")]), ProtocolError, "OK without a message"),
    "no message": (lambda frame: frame.kind == Kind.DATA, nothing, ProtocolError, "OK without a message"),
    "half a message": (
        lambda frame: frame.kind == Kind.DATA,
        lambda frame: h2frames.data(frame.stream, frame.payload[:-1]),
        ProtocolError,
        "ended within its message",
    ),
    "half a prefix": (
        lambda frame: frame.kind == Kind.DATA,
        lambda frame: h2frames.data(frame.stream, b"\0\0"),
        ProtocolError,
        "ended within its message",
    ),
    "damaged message": (
        lambda frame: frame.kind == Kind.DATA,
        lambda frame: h2frames.data(frame.stream, h2frames.grpc_message(b"\x0a\x02\xff\xfe")),
        ProtocolError,
        "damaged VersionResponse",
    ),
}


@ONE_LINE
@pytest.mark.parametrize("name", FORGERIES)
async def test_an_answer_no_daemon_gives(proxied: Client, proxy: SocketProxy, name: str):
    """Missing, lying and damaged parts of an answer are typed errors that say what was wrong."""
    match, change, error_class, text = FORGERIES[name]
    fault = proxy.replace(change, match=match)
    error = await outcome(lambda: ask_once(proxied))
    assert fault.fired == 1
    assert isinstance(error, error_class), repr(error)
    assert text in str(error)
    proxy.disconnect()  # a forged header block may have cost the connection its compression table
    assert await outcome(lambda: proxied.version()) is None


@ONE_LINE
async def test_frames_of_unknown_kinds_are_ignored(proxied: Client, proxy: SocketProxy):
    """Extension frames, PRIORITY, unasked PING answers and window updates of streams long gone change nothing."""
    frames = [
        Frame(kind=0x20, payload=b"what"),
        Frame(kind=Kind.PRIORITY, stream=1, payload=bytes(5)),
        Frame(kind=Kind.PING, flags=1, payload=bytes(8)),
        Frame(kind=Kind.WINDOW_UPDATE, stream=1, payload=b"\0\0\0\1"),
        Frame(kind=0xC, stream=1, payload=b"altsvc"),
    ]
    noise = b"".join(frame.encode() for frame in frames)
    fault = proxy.inject(noise, TO_DAEMON, into=TO_CLIENT, after_frames=1, kind=Kind.HEADERS, times=None)
    for _ in range(3):
        assert await ask_once(proxied)
    assert fault.fired == 3
    assert len(proxy.connections) == 1
