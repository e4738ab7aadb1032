"""What the registry client is tested against: some content, and honest answers about it for tests to spoil."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from anyio.abc import ByteStream

from containerd_py.references import Reference
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.registry import Registry
from containerd_py.remotes.repository import Repository
from containerd_py.types import Descriptor
from tests.harness.scripted_http import Asked, Reply, ScriptedServer, serve_http

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
SIZE = 3 * 1024 * 1024 + 17

BLOB = random.Random(7).randbytes(SIZE)
MANIFEST = b'{"schemaVersion":2,"mediaType":"' + MANIFEST_TYPE.encode() + b'","layers":[]}'

# Patience that tests can wait for.
QUICK = RegistryLimits(
    connect_timeout=2.0,
    stall_timeout=0.5,
    first_backoff=0.01,
    max_backoff=0.05,
    max_retry_after=2.0,
    min_rate_window=0.4,
)

Script = Callable[[Asked, ByteStream, Reply], Awaitable[Reply | None]]
"""Given a request and the honest answer, gives the answer to send; None after having written to the stream itself."""


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def describe(content: bytes, media_type: str, **more: Any) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(content), size=len(content), **more)


LAYER = describe(BLOB, LAYER_TYPE)
ROOT = describe(MANIFEST, MANIFEST_TYPE)


def honest(asked: Asked) -> Reply:
    """Answer as a registry that has one image, `team/app:1`, and does ranges."""
    name = asked.path.rpartition("/")[2]
    if "/manifests/" in asked.path and name in {"1", ROOT.digest}:
        headers = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": ROOT.digest}
        return Reply(headers=headers, body=MANIFEST)
    if "/blobs/" in asked.path and name == LAYER.digest:
        return part_of(BLOB, asked)
    return Reply(
        404, {"Content-Type": "application/json"}, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}'
    )


def part_of(data: bytes, asked: Asked) -> Reply:
    """Answer with the part of some content that the Range header asks for."""
    start = asked.range_start
    if start is None:
        return Reply(body=data)
    if start >= len(data):
        return Reply(416, {"Content-Range": f"bytes */{len(data)}"})
    return Reply(206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:])


@asynccontextmanager
async def serve_registry(script: Script | None = None, **options: Any) -> AsyncIterator[ScriptedServer]:
    """Serve the image, with answers spoiled by the script."""

    async def handle(asked: Asked, stream: ByteStream) -> Reply | None:
        reply = honest(asked)
        return reply if script is None else await script(asked, stream, reply)

    async with serve_http(handle, **options) as server:
        yield server


def reference_at(server: ScriptedServer, suffix: str = ":1") -> Reference:
    return Reference.parse(f"{server.authority}/team/app{suffix}")


@asynccontextmanager
async def open_at(server: ScriptedServer, suffix: str = ":1", **options: Any) -> AsyncIterator[Repository]:
    """Open the repository of a server, with patience that tests can wait for."""
    registry = Registry(**{"limits": QUICK, **options})
    async with registry.open_repository(reference_at(server, suffix)) as repository:
        yield repository


async def read(repository: Repository, descriptor: Descriptor = LAYER, *, offset: int = 0, **options: Any) -> bytes:
    """Read a blob from an offset to its end."""
    async with repository.open_blob(descriptor, offset=offset, **options) as blob:
        return b"".join([chunk async for chunk in blob])


@attrs.define
class Once:
    """Counts how often something happened, and says whether it is the first time."""

    count: int = 0

    def __call__(self) -> bool:
        self.count += 1
        return self.count == 1
