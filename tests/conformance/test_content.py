"""Content: written by several, resumed, truncated, labelled, refused. Each restates a part of the store's own suite."""

from __future__ import annotations

import hashlib
import os

import anyio
import pytest

from containerd_py import Client
from containerd_py.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    OutOfRangeError,
    UnavailableError,
)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def write(client: Client, ref: str, data: bytes) -> str:
    """Write a blob in pieces of uneven sizes."""
    async with client.content.open_writer(ref, total=len(data), expected=digest_of(data)) as writer:
        for start in range(0, len(data), 70_001):
            await writer.write(data[start : start + 70_001])
        return await writer.commit()


async def begin(client: Client, ref: str, data: bytes) -> None:
    """Write the beginning of an ingest and leave it."""
    async with client.content.open_writer(ref) as writer:
        await writer.write(data)
        await writer.release()


async def test_writers_do_not_disturb_each_other(client: Client):
    """Blobs written at the same time are what each of them was given, and no ingest is left."""
    blobs = [os.urandom(100_000 + number) for number in range(8)]
    async with client.hold_lease() as leased:
        async with anyio.create_task_group() as group:
            for number, blob in enumerate(blobs):
                group.start_soon(write, leased, f"ref-{number}", blob)
        for blob in blobs:
            assert await leased.content.read(digest_of(blob)) == blob
        assert await leased.content.list_statuses() == []


async def test_an_ingest_tells_how_far_it_is(client: Client):
    """The offset grows with what is written, the beginning stays, and once committed the ingest is gone."""
    data = os.urandom(10_000)
    async with client.hold_lease() as leased:
        async with leased.content.open_writer("ref", total=len(data), expected=digest_of(data)) as writer:
            began = await leased.content.status("ref")
            assert (began.ref, began.offset, began.total) == ("ref", 0, len(data))
            seen = []
            for start in range(0, len(data), 2_500):
                await writer.write(data[start : start + 2_500])
                await writer.status()
                status = await leased.content.status("ref")
                assert status.started_at == began.started_at
                assert status.updated_at is not None
                assert began.started_at is not None
                assert status.updated_at >= began.started_at
                seen.append(status.offset)
            assert seen == [2_500, 5_000, 7_500, 10_000]
            with pytest.raises(UnavailableError):
                async with leased.content.open_writer("ref", wait=False):
                    pytest.fail("two writers of one ingest")
            await writer.commit()
        with pytest.raises(NotFoundError):
            await leased.content.status("ref")


async def test_what_is_there_is_not_written_again(client: Client):
    """A blob that exists is told when an ingest of it begins, and when one that did not know commits."""
    data = os.urandom(1_000)
    async with client.hold_lease() as leased:
        await write(leased, "first", data)
        with pytest.raises(AlreadyExistsError):
            async with leased.content.open_writer("second", total=len(data), expected=digest_of(data)):
                pytest.fail("entered")
        async with leased.content.open_writer("third") as writer:
            await writer.write(data)
            with pytest.raises(AlreadyExistsError):
                await writer.commit(size=len(data), expected=digest_of(data))
        assert [info.digest for info in await leased.content.list()] == [digest_of(data)]
        assert await leased.content.list_statuses() == []


@pytest.mark.parametrize("resume", ["on", "truncated", "again"])
async def test_an_ingest_is_resumed(client: Client, resume: str):
    """Who opens a left ingest goes on where it ends, or begins again; the blob is whole either way."""
    data = os.urandom(200_000)
    first, rest = data[:77_777], data[77_777:]
    async with client.hold_lease() as leased:
        await begin(leased, "ref", first if resume == "on" else os.urandom(50_000))
        if resume == "again":
            await leased.content.abort("ref")
        async with leased.content.open_writer("ref", total=len(data), expected=digest_of(data)) as writer:
            if resume == "truncated":
                assert writer.offset == 50_000
                await writer.truncate()
            assert writer.offset == (len(first) if resume == "on" else 0)
            await writer.write(rest if resume == "on" else data)
            assert await writer.commit() == digest_of(data)
        assert await leased.content.read(digest_of(data)) == data


async def test_a_blob_may_be_small(client: Client):
    """One byte, and none at all, are content like any other."""
    async with client.hold_lease() as leased:
        for data in (b"x", b""):
            assert await write(leased, "small", data) == digest_of(data)
            assert await leased.content.read(digest_of(data)) == data
            assert (await leased.content.info(digest_of(data))).size == len(data)


async def test_a_blob_is_read_in_part(client: Client):
    """Any range is what it is in the whole, and none begins beyond the end."""
    data = os.urandom(3_000_000)
    async with client.hold_lease() as leased:
        await write(leased, "large", data)
        for offset, size in ((0, 1), (1_048_575, 2), (2_999_999, 1), (17, 2_500_000)):
            assert await leased.content.read(digest_of(data), offset=offset, size=size) == data[offset : offset + size]
        with pytest.raises(OutOfRangeError):
            await leased.content.read(digest_of(data), offset=len(data) + 1)


async def test_labels_are_set_replaced_and_removed(client: Client):
    """Labels come with the commit, change one by one or all, and go with an empty value; the times move."""
    data = os.urandom(100)
    async with client.hold_lease() as leased:
        async with leased.content.open_writer("ref", total=len(data), expected=digest_of(data)) as writer:
            await writer.write(data)
            await writer.commit(labels={"k1": "v1", "k2": "v2"})
        digest = digest_of(data)
        before = await leased.content.info(digest)
        assert before.labels == {"k1": "v1", "k2": "v2"}
        after = await leased.content.update(digest, {"k1": "changed", "k2": "", "k3": "v3"})
        assert after.labels == {"k1": "changed", "k3": "v3"}
        assert after.created_at == before.created_at
        assert before.updated_at is not None
        assert after.updated_at is not None
        assert after.updated_at > before.updated_at
        assert (await leased.content.update(digest, {"only": "one"}, replace=True)).labels == {"only": "one"}
        assert (await leased.content.info(digest)).labels == {"only": "one"}


@pytest.mark.parametrize("lie", ["size", "digest"])
async def test_a_wrong_promise_is_refused(client: Client, lie: str):
    """What is not of the promised size or digest is not committed; the ingest stays, to be told, resumed or aborted."""
    data = os.urandom(1_000)
    async with client.content.open_writer("ref") as writer:
        await writer.write(data)
        with pytest.raises(FailedPreconditionError):
            await writer.commit(
                size=len(data) + 1 if lie == "size" else len(data),
                expected=digest_of(b"else") if lie == "digest" else digest_of(data),
            )
    assert [status.ref for status in await client.content.list_statuses()] == ["ref"]
    with pytest.raises(NotFoundError):
        await client.content.info(digest_of(data))
    await client.content.abort("ref")
    with pytest.raises(NotFoundError):
        await client.content.abort("ref")
