"""Blobs from registries that break off, lie and dawdle: every byte exactly once, or a typed error in time."""

from __future__ import annotations

import gc
import time
import tracemalloc

import anyio
import attrs
import pytest
from anyio.abc import ByteStream

from containerd_py.errors import (
    ContainerdError,
    DataLossError,
    InvalidArgumentError,
    RegistryError,
    RegistryNotFoundError,
    RegistryPermissionError,
    RegistryRateLimitedError,
    RegistryStalledError,
    RegistryUnavailableError,
    SizeMismatchError,
)
from containerd_py.remotes import responses
from containerd_py.remotes.blobs import Blob
from containerd_py.types import Descriptor
from tests.faults.registry_content import (
    BLOB,
    LAYER,
    LAYER_TYPE,
    QUICK,
    ROOT,
    SIZE,
    Once,
    describe,
    open_at,
    part_of,
    read,
    serve_registry,
)
from tests.harness.scripted_http import Asked, Reply, until_closed


class Copied:
    """Copies of what a blob lends."""

    def __init__(self, blob: Blob) -> None:
        self.views = blob.views()

    def __aiter__(self) -> Copied:
        return self

    async def __anext__(self) -> bytes:
        return bytes(await anext(self.views))


@pytest.fixture(autouse=True, params=["by the HTTP client", "taken over"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule holds for bodies that the HTTP client receives, and for those we receive ourselves."""
    if request.param == "taken over":
        monkeypatch.setattr(responses, "TAKE_OVER_FROM", 1)
        monkeypatch.setattr(Blob, "__aiter__", lambda blob: Copied(blob))  # a class would not bind


async def test_whole_blob() -> None:
    """A blob is asked for once, unencoded and without a range, and comes in large chunks."""
    async with serve_registry() as server, open_at(server) as repository, repository.open_blob(LAYER) as blob:
        chunks = [chunk async for chunk in blob]
        assert blob.host == server.authority
        assert blob.offset == SIZE
    assert b"".join(chunks) == BLOB
    (asked,) = server.asked
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["accept"] == f"{LAYER_TYPE}, */*"
    assert "range" not in asked.headers
    assert asked.headers["user-agent"].startswith("containerd-py")


@pytest.mark.parametrize("offset", [1, 65536, SIZE - 1])
async def test_from_an_offset(offset: int) -> None:
    """Reading starts exactly at the offset, and only the rest is asked for."""
    async with serve_registry() as server, open_at(server) as repository:
        assert await read(repository, offset=offset) == BLOB[offset:]
    assert server.asked[0].headers["range"] == f"bytes={offset}-"


async def test_at_the_end() -> None:
    """At the end, and of an empty blob, nothing is read and nobody is asked."""
    async with serve_registry() as server, open_at(server) as repository:
        assert await read(repository, offset=SIZE) == b""
        assert await read(repository, describe(b"", LAYER_TYPE)) == b""
    assert server.asked == []


async def test_many_at_once() -> None:
    """Sixteen blobs are read at the same time, each right."""
    got: list[bytes] = []
    async with serve_registry() as server, open_at(server) as repository, anyio.create_task_group() as group:

        async def fetch() -> None:
            got.append(await read(repository))

        for _ in range(16):
            group.start_soon(fetch)
    assert got == [BLOB] * 16


# ── broken connections ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("length", ["announced", "unannounced"])
@pytest.mark.parametrize("cut", [0, 1, 511, 512, 65535, 65536, 1024 * 1024 + 1, SIZE - 1])
async def test_dropped_once(cut: int, length: str) -> None:
    """A body cut off at any byte is resumed at exactly that byte."""
    first = Once()

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if first():
            return attrs.evolve(reply, cut_after=cut, length=None if length == "announced" else "")
        return reply

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB
        assert await read(repository) == BLOB  # and afterwards
    starts = [asked.range_start or 0 for asked in server.asked]
    assert len(starts) == 3
    assert cut - 1024 * 1024 <= starts[1] <= cut


async def test_dropped_without_an_answer() -> None:
    """A connection closed before it answers is tried again."""
    first = Once()

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply | None:
        return None if first() else reply

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB
    assert first.count >= 2


async def test_every_answer_cut() -> None:
    """As long as every connection brings something, a blob is fetched piece by piece without losing patience."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return attrs.evolve(reply, cut_after=100_000)

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB
    assert len(server.asked) >= SIZE // 100_000


async def test_no_progress_ends() -> None:
    """A server that never gets beyond a byte is given up after a bounded number of tries, saying where."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        start = asked.range_start or 0
        return attrs.evolve(reply, cut_after=max(1_000_000 - start, 0))

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryUnavailableError, match="1000000 of"):
            await read(repository)
    assert len(server.asked) <= 1 + QUICK.resumes + 1


async def test_no_answer_at_all_ends() -> None:
    """A server that closes every connection is given up after five tries."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        return None

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryUnavailableError):
            await read(repository)
    assert 2 <= len(server.asked) <= 2 * QUICK.attempts  # the HTTP client repeats a request on a reused connection


async def test_cancelled_in_the_middle() -> None:
    """Whoever stops reading has the connection dropped at once, and the repository stays usable."""
    async with serve_registry() as server, open_at(server) as repository:
        async with repository.open_blob(LAYER) as blob:
            await anext(aiter(blob))
        await _closed(server)
        with anyio.move_on_after(0) as scope:
            await read(repository)
        assert scope.cancelled_caught
        assert await read(repository) == BLOB


# ── ranges ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_ranges_ignored() -> None:
    """From a server that knows no ranges everything is read again, and what is here already skipped."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        whole = Reply(body=BLOB)
        return attrs.evolve(whole, cut_after=2_000_000) if len(server.asked) == 1 else whole

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB
        assert await read(repository, offset=SIZE - 5) == BLOB[-5:]


async def test_ranges_ignored_and_cut_for_ever() -> None:
    """A server that knows no ranges and always cuts at the same byte cannot be won, and ends in an error."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(body=BLOB, cut_after=1_000_000)

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryUnavailableError, match="byte 1000000 of"):
            await read(repository)
    assert len(server.asked) <= 2 + QUICK.resumes


@pytest.mark.parametrize("status", [416])
async def test_range_refused(status: int) -> None:
    """A server that refuses the range is asked for everything."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(status) if asked.range_start else Reply(body=BLOB)

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository, offset=1000) == BLOB[1000:]
    assert len(server.asked) == 2


async def test_range_in_pieces() -> None:
    """A server that sends less than the range asked for is asked for the rest."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        start = asked.range_start
        if start is None:
            return reply
        end = min(start + 700_000, SIZE)
        return Reply(206, {"Content-Range": f"bytes {start}-{end - 1}/{SIZE}"}, BLOB[start:end])

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository, offset=1000) == BLOB[1000:]


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "",
        f"bytes 0-{SIZE - 1}/{SIZE}",
        f"bytes 999-{SIZE - 1}/{SIZE}",
        f"bytes 1001-{SIZE - 1}/{SIZE}",
        f"bytes 1000-{SIZE}/{SIZE}",
        "bytes 1000-999/*",
        "bytes -1000",
        f"items 1000-{SIZE - 1}/{SIZE}",
        "bytes */*",
        "bytes 1000-99999999999999999999/*",
    ],
)
async def test_wrong_range(content_range: str | None) -> None:
    """An answer that holds other bytes than asked for is an error, and not a byte of it is used."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(206, {} if content_range is None else {"Content-Range": content_range}, BLOB[1000:])

    async with serve_registry(script) as server, open_at(server) as repository:
        got = bytearray()
        with pytest.raises(RegistryError):
            async with repository.open_blob(LAYER, offset=1000) as blob:
                async for chunk in blob:
                    got += chunk
        assert not got
        await _closed(server)


async def test_multipart_ranges() -> None:
    """An answer of several parts is not taken for one."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x\r\n\r\n" + BLOB)

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryError):
            await read(repository, offset=1000)


# ── sizes and encodings ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("announced", [True, False])
async def test_too_long(announced: bool) -> None:
    """A body longer than the descriptor says is dropped at the first byte too many, not read to its end."""
    sent = 0

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        nonlocal sent
        total = SIZE + 1024 * 1024 * 1024
        length = f"Content-Length: {total}\r\n" if announced else ""
        await stream.send(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + BLOB)
        while sent < total:
            await stream.send(bytes(65536))
            sent += 65536

    async with serve_registry(script) as server, open_at(server) as repository:
        got = 0
        with pytest.raises(SizeMismatchError):
            async with repository.open_blob(LAYER) as blob:
                async for chunk in blob:
                    got += len(chunk)
        assert got <= SIZE
        await _closed(server)
    assert sent < 32 * 1024 * 1024  # what socket buffers swallow


async def test_too_short() -> None:
    """A body announced shorter than the descriptor says is an error before any of it is read."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(body=BLOB[:-1])

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(DataLossError):
            await read(repository)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate", "br", "gzip, gzip", "x" * 5000, "GZIP"])
async def test_encoded(encoding: str) -> None:
    """Encoded content is refused before its body: decoding it would change the digest, and could fill the disk."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return attrs.evolve(reply, headers={"Content-Encoding": encoding})

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryError, match="encoded"):
            await read(repository)


async def test_identity_said() -> None:
    """The identity encoding may be named."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return attrs.evolve(reply, headers={"Content-Encoding": "Identity"})

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1024 * 1024 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ],
)
async def test_broken_http(head: bytes) -> None:
    """What is not HTTP, or HTTP beyond all bounds, is a typed error in bounded memory."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        await stream.send(head)

    async with serve_registry(script) as server, open_at(server) as repository:
        tracemalloc.start()
        try:
            with anyio.fail_after(10), pytest.raises((RegistryError, SizeMismatchError)):
                await read(repository)
            assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
        finally:
            tracemalloc.stop()
    assert len(server.asked) <= 2 * QUICK.attempts


# ── stalls ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + BLOB[:1_000_000],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
)
async def test_stalled(sent: bytes) -> None:
    """A server that stops sending, before its answer or in it, ends in an error a stall timeout later."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        await stream.send(sent)
        await until_closed(stream)

    async with serve_registry(script) as server, open_at(server) as repository:
        with anyio.fail_after(30), pytest.raises(RegistryStalledError):
            await read(repository)
        await _closed(server)
    assert len(server.asked) == 1


async def test_trickle() -> None:
    """A server that sends a byte now and then, and so never stalls, ends in an error all the same."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(1000):
            await stream.send(b"x")
            await anyio.sleep(0.05)

    async with serve_registry(script) as server, open_at(server) as repository:
        with anyio.fail_after(3), pytest.raises(RegistryStalledError, match="bytes/s"):
            await read(repository)


async def test_trickling_head() -> None:
    """A server that sends its headers a byte now and then is given up too."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        for _ in range(1000):
            await stream.send(b"H")
            await anyio.sleep(0.05)

    limits = attrs.evolve(QUICK, connect_timeout=0.5)
    async with serve_registry(script) as server, open_at(server, limits=limits) as repository:
        with anyio.fail_after(5), pytest.raises(RegistryError):
            await read(repository)


async def test_slow_reader_is_no_stall() -> None:
    """Only the registry's time counts: a reader may take longer over a chunk than any timeout."""
    async with serve_registry() as server, open_at(server) as repository, repository.open_blob(LAYER) as blob:
        first = await anext(aiter(blob))
        await anyio.sleep(QUICK.stall_timeout * 2)
        rest = b"".join([chunk async for chunk in blob])
    assert first + rest == BLOB
    assert len(server.asked) == 1


async def test_stalled_after_the_last_byte() -> None:
    """Once all bytes are here it does not matter how the answer ends."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % SIZE + BLOB + b"\r\n")
        await until_closed(stream)

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "kind", "tries"),
    [
        (400, RegistryError, 1),
        (403, RegistryPermissionError, 1),
        (404, RegistryNotFoundError, 1),
        (405, RegistryError, 1),
        (410, RegistryError, 1),
        (418, RegistryError, 1),
        (451, RegistryError, 1),
        (501, RegistryUnavailableError, 1),
        (204, RegistryError, 1),
        (300, RegistryError, 1),
        (304, RegistryError, 1),
        (408, RegistryUnavailableError, 5),
        (425, RegistryUnavailableError, 5),
        (429, RegistryRateLimitedError, 5),
        (500, RegistryUnavailableError, 5),
        (502, RegistryUnavailableError, 5),
        (503, RegistryUnavailableError, 5),
        (504, RegistryUnavailableError, 5),
        (520, RegistryUnavailableError, 5),
    ],
)
async def test_refused(status: int, kind: type[RegistryError], tries: int) -> None:
    """A refusal is final unless the server asks for patience or is broken; then it is tried five times."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        words = b'{"errors":[{"code":"WHY","message":"because"}]}'
        return Reply(status, {"Content-Type": "application/json"}, words if status not in {204, 304} else b"")

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(kind) as caught:
            await read(repository)
    assert caught.value.status == status
    assert len(server.asked) == tries
    assert status in {204, 304} or caught.value.code == "WHY"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("times", [1, 4])
async def test_refused_for_a_while(status: int, times: int) -> None:
    """A server that recovers within four answers is forgiven."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(status) if len(server.asked) <= times else reply

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository) == BLOB
    assert len(server.asked) == times + 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(status: int) -> None:
    """The pause a server asks for is kept."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(status, {"Retry-After": "1"}) if len(server.asked) == 1 else reply

    async with serve_registry(script) as server, open_at(server) as repository:
        started = time.monotonic()
        assert await read(repository) == BLOB
        assert time.monotonic() - started >= 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_too_long(status: int) -> None:
    """A pause beyond our patience is told at once, with its length."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(status, {"Retry-After": "1000000000"})

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryRateLimitedError) as caught:
            await read(repository)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 1e9
    assert len(server.asked) == 1


async def test_endless_error_body() -> None:
    """The body of an error is read up to a bound."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        await stream.send(b"HTTP/1.1 403 No\r\n\r\n")
        while True:
            await stream.send(b'{"errors":' * 6000)

    async with serve_registry(script) as server, open_at(server) as repository:
        with anyio.fail_after(10), pytest.raises(RegistryPermissionError):
            await read(repository)
        await _closed(server)


# ── what descriptors say ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("digest", ["", "sha256:abc", "sha256:" + "A" * 64, "sha256:../../x", "md5:" + "a" * 32])
async def test_malformed_digests(digest: str) -> None:
    """A digest is checked before it becomes part of a URL."""
    descriptor = Descriptor(media_type=LAYER_TYPE, digest=digest, size=5)
    async with serve_registry() as server, open_at(server) as repository:
        with pytest.raises(ContainerdError):
            await read(repository, descriptor)
        with pytest.raises(ContainerdError):
            await repository.fetch_manifest(descriptor)
    assert server.asked == []


@pytest.mark.parametrize("offset", [-1, SIZE + 1])
async def test_offset_outside(offset: int) -> None:
    """An offset outside the content is the caller's mistake, and nobody is asked."""
    async with serve_registry() as server, open_at(server) as repository:
        with pytest.raises(InvalidArgumentError):
            await read(repository, offset=offset)
    assert server.asked == []


@pytest.mark.parametrize("media_type", ["", "x", "a/b\r\nX-Evil: 1", "a/b, c/d", "ä/ö", "a/" + "b" * 100_000])
async def test_hostile_media_types(media_type: str) -> None:
    """A media type out of a manifest that cannot stand in a header stays out of it."""
    async with serve_registry() as server, open_at(server) as repository:
        assert await read(repository, attrs.evolve(LAYER, media_type=media_type)) == BLOB
    assert server.asked[0].headers["accept"] == "*/*"
    assert "x-evil" not in server.asked[0].headers


async def test_inline_data() -> None:
    """Content that a descriptor brings along needs no request, from any offset."""
    inline = describe(b"hello", "text/plain", data=b"hello")
    async with serve_registry() as server, open_at(server) as repository:
        assert await read(repository, inline) == b"hello"
        assert await read(repository, inline, offset=3) == b"lo"
        assert await repository.fetch_manifest(attrs.evolve(ROOT, data=b"x")) is not None
    assert len(server.asked) == 1  # for the manifest, whose data was not what it claimed


@pytest.mark.parametrize("data", [b"hellO", b"hell", b"hello!"])
async def test_inline_data_that_lies(data: bytes) -> None:
    """Inline data of another digest or size is left out, and the registry asked."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return part_of(b"hello", asked)

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await read(repository, describe(b"hello", "text/plain", data=data)) == b"hello"
    assert len(server.asked) == 1


async def test_memory_stays_flat() -> None:
    """Reading a large blob keeps a few chunks in memory, not the blob."""
    size = 128 * 1024 * 1024

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(1024 * 1024)
        for _ in range(size // len(piece)):
            await stream.send(piece)

    big = Descriptor(media_type=LAYER_TYPE, digest=LAYER.digest, size=size)
    async with serve_registry(script) as server, open_at(server) as repository:
        gc.collect()
        tracemalloc.start()
        try:
            async with repository.open_blob(big) as blob:
                async for _ in blob:
                    pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


async def _closed(server: object) -> None:
    """Wait until the server sees all its connections closed."""
    with anyio.fail_after(5):
        while server.open:  # type: ignore[attr-defined]
            await anyio.sleep(0.01)
