"""The memory for documents: bounded by bytes, read once however many ask, never wrong."""

import anyio
import pytest

from containerd_py._flows.assembling import chosen_epoch
from containerd_py._flows.blob_cache import BlobCache
from containerd_py._flows.image_layers import DirectoryLayer, RunLayer, TarLayer, history_of
from containerd_py._flows.publishing import new_name
from containerd_py.errors import InvalidArgumentError, NotFoundError


class Source:
    """Counts how often it was read."""

    def __init__(self, data: bytes = b"data", *, delay: float = 0.0) -> None:
        self.data = data
        self.delay = delay
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        await anyio.sleep(self.delay)
        return self.data


async def test_what_was_read_is_not_read_again():
    """The second one who asks gets the same bytes from memory; another namespace does not."""
    cache, source = BlobCache(), Source()
    first = await cache.get(("a", "x"), source.read)
    assert await cache.get(("a", "x"), source.read) is first
    assert source.reads == 1
    await cache.get(("b", "x"), source.read)
    assert source.reads == 2


async def test_what_was_not_used_for_longest_goes_first():
    """The bytes kept never exceed the bound, and what is asked for stays."""
    cache = BlobCache(max_bytes=100, max_item=50)
    sources = {name: Source(name.encode() * 40) for name in "abc"}
    for name in "abac":
        await cache.get(("n", name), sources[name].read)
    assert cache.size == 80
    await cache.get(("n", "a"), sources["a"].read)
    await cache.get(("n", "b"), sources["b"].read)
    assert {name: source.reads for name, source in sources.items()} == {"a": 1, "b": 2, "c": 1}


async def test_what_is_too_large_is_not_kept():
    """An item beyond the bound for one passes through."""
    cache, source = BlobCache(max_item=3), Source(b"1234")
    assert await cache.get(("n", "x"), source.read) == b"1234"
    assert (cache.size, source.reads) == (0, 1)


async def test_many_at_once_read_once():
    """Whoever asks while it is being read waits for that reading."""
    cache, source = BlobCache(), Source(delay=0.01)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(cache.get, ("n", "x"), source.read)
    assert source.reads == 1


async def test_a_cancelled_reader_hands_over():
    """When the one who reads is cancelled, the next one reads, and gets the bytes."""
    cache, source = BlobCache(), Source(delay=0.01)
    results = []

    async def ask() -> None:
        results.append(await cache.get(("n", "x"), source.read))

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as leader:
            group.start_soon(ask)
            leader.cancel()
        async with anyio.create_task_group() as inner:
            with anyio.move_on_after(0.001):
                await cache.get(("n", "x"), source.read)
            inner.start_soon(ask)
    assert results == [b"data", b"data"]


async def test_failures_are_not_remembered():
    """An error goes to who asked; the next one asks anew."""
    cache, source = BlobCache(), Source()

    async def fail() -> bytes:
        raise NotFoundError("x")

    for _ in range(2):
        with pytest.raises(NotFoundError):
            await cache.get(("n", "x"), fail)
    assert await cache.get(("n", "x"), source.read) == b"data"


# ── what else is settled before a daemon is asked ───────────────────────────────────────────────────────────────────


def test_the_time_of_a_reproducible_image(monkeypatch):
    """The argument wins over the environment; neither is no time; anything else is refused."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert chosen_epoch(None) is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12")
    found = chosen_epoch(None)
    assert found is not None
    assert found.parts == (12, 0)
    given = chosen_epoch(0)
    assert given is not None
    assert given.parts == (0, 0)
    for wrong in ("-1", "1.5", "12\n", "٣", "999999999999"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(InvalidArgumentError, match="SOURCE_DATE_EPOCH"):
            chosen_epoch(None)


def test_layers_are_checked_when_written_down():
    """A destination is absolute and does not climb; arguments are a list."""
    for wrong in ("relative", "/a/../b", "/x\0"):
        with pytest.raises(InvalidArgumentError):
            DirectoryLayer("x", destination=wrong)
    with pytest.raises(InvalidArgumentError):
        RunLayer("true")
    assert RunLayer(["a", "b"]).args == ("a", "b")


def test_history_tells_nothing_of_this_machine():
    """What the history says of a layer is the same wherever the files were."""
    assert history_of(DirectoryLayer("/home/me/x", destination="/opt")) == "directory to /opt"
    assert history_of(TarLayer("/home/me/x.tar")) == "tar archive"
    assert history_of(RunLayer(["make", "all"])) == "make all"
    assert history_of(TarLayer("x", created_by="mine")) == "mine"


def test_new_names_are_tags():
    """A name is completed as in a pull; a digest cannot be chosen."""
    assert new_name("x") == "docker.io/library/x:latest"
    with pytest.raises(InvalidArgumentError, match="digest"):
        new_name(f"x@sha256:{'0' * 64}")
