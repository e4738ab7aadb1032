"""Transfers by the daemon: bytes that come back, and the names that imports give."""

from __future__ import annotations

import os

import anyio
import pytest

from containerd_py import Client, NotFoundError
from containerd_py.services.transfer import (
    ExportStreamEndpoint,
    ExtraReference,
    ImageStoreEndpoint,
    ImportStreamEndpoint,
)
from tests.integration.test_every_rpc import echoed
from tests.unit.tars import Layout, chunked, tar_layer

pytestmark = pytest.mark.lines("1.7", "2.1")
NAME, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"


@pytest.mark.parametrize("size", [0, 11, 187 * 1024, 9 * 1024 * 1024 + 1])
async def test_bytes_come_back_as_they_went(client: Client, size: int):
    """What is sent on one stream comes back on the other, however long, with its end."""
    sent = os.urandom(size)
    assert await echoed(client, sent) == sent


async def test_a_pair_the_daemon_does_not_know(client: Client):
    """A stream that is not there is missed, whichever end it is."""
    octets = "application/octet-stream"
    with pytest.raises(NotFoundError):
        await client.transfer.transfer(
            ImportStreamEndpoint(stream="nobody", media_type=octets), ExportStreamEndpoint(stream="nobody")
        )


INDEX = "registry.test/all:index"
ONE = "registry.test/all:1"
BASE = "registry.test/all"


def prefix(name: str, *, overwrite: bool = False, digest: bool = False, skip_named: bool = False) -> ExtraReference:
    return ExtraReference(
        name=name, is_prefix=True, allow_overwrite=overwrite, add_digest=digest, skip_named_digest=skip_named
    )


@pytest.mark.parametrize(
    ("index", "annotations", "references", "expected"),
    [
        ("", {NAME: ONE}, prefix("unused", overwrite=True), {ONE}),
        (INDEX, {}, None, {INDEX}),
        (INDEX, {NAME: ONE}, prefix(BASE), {INDEX, ONE}),
        (INDEX, {NAME: ONE}, prefix(BASE, digest=True), {INDEX, ONE, f"{BASE}@DIGEST"}),
        (INDEX, {NAME: ONE}, prefix(BASE, digest=True, skip_named=True), {INDEX, ONE}),
        ("", {}, prefix("imported", digest=True, skip_named=True), {"imported@DIGEST"}),
        (INDEX, {NAME: ONE}, prefix("other", overwrite=True, digest=True), {INDEX, ONE, "other@DIGEST"}),
        ("", {REF: "best"}, prefix(BASE), {f"{BASE}:best"}),
        (INDEX, {REF: "best"}, prefix(BASE, overwrite=True, digest=True), {INDEX, f"{BASE}:best", f"{BASE}@DIGEST"}),
        (INDEX, {NAME: ONE}, prefix("other"), {INDEX}),
    ],
    ids=[
        "basic",
        "index",
        "all",
        "digests",
        "skip-named",
        "digest-only",
        "overwrite",
        "tag",
        "tag-overwrite",
        "not-the-prefix",
    ],
)
async def test_imports_give_the_names_they_are_asked_for(
    client: Client, index: str, annotations: dict[str, str], references: ExtraReference | None, expected: set[str]
):
    """The index's own name, names in the archive, tags below a prefix, digests: what is asked for is stored."""
    made = Layout()
    manifest = made.image(layers=[tar_layer()], name=None)
    manifest["annotations"] = annotations
    destination = ImageStoreEndpoint(name=index, extra_references=() if references is None else (references,))
    async with client.streaming.open("archive") as stream, anyio.create_task_group() as group:
        group.start_soon(stream.send_bytes, chunked(made.tar()))
        await client.transfer.transfer(ImportStreamEndpoint(stream="archive"), destination)
    records = {record.name: record.target for record in await client.images.list()}
    assert records.keys() == {name.replace("DIGEST", str(manifest["digest"])) for name in expected}
    for name, target in records.items():
        assert (target.digest == manifest["digest"]) == (name != index)
        await client.images.delete(name, synchronous=True)
