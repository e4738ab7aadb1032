"""Walks through images that name the same thing again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from containerd_py import platforms
from containerd_py._flows.image_content import find_manifest, list_content, list_platforms
from containerd_py.errors import NotFoundError
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_documents import descriptor_document, dump_document
from containerd_py.oci.media_types import MEDIA_TYPE_CONFIG, MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST
from containerd_py.types import Descriptor


class Store:
    """A content store in memory that counts how often each blob is read."""

    def __init__(self) -> None:
        self.content = self
        self.reads: Counter[str] = Counter()
        self._blobs: dict[str, bytes] = {}

    def add(self, media_type: str, document: Mapping[str, object]) -> Descriptor:
        data = dump_document({"schemaVersion": 2, "mediaType": media_type, **document})
        self._blobs[digest_of(data)] = data
        return Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))

    async def read(self, digest: str, *, size: int) -> bytes:
        self.reads[digest] += 1
        return self._blobs[digest][:size]


@pytest.fixture
def store() -> Any:
    return Store()


@pytest.fixture
def bomb(store: Store) -> Descriptor:
    """A manifest that three levels of indexes name a hundred times each, without saying its platform."""
    config = store.add(MEDIA_TYPE_CONFIG, {"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers"}})
    target = store.add(MEDIA_TYPE_MANIFEST, {"config": descriptor_document(config), "layers": []})
    for _ in range(3):
        target = store.add(MEDIA_TYPE_INDEX, {"manifests": [descriptor_document(target)] * 100})
    return target


async def test_every_document_is_read_once(store: Any, bomb: Descriptor):
    """However often documents are named, a walk for one platform, for all, or for the content reads each once."""
    assert len(await list_content(store, bomb)) == 5
    assert set(store.reads.values()) == {1}
    store.reads.clear()
    assert await list_platforms(store, bomb) == [platforms.parse("linux/arm64")]
    assert set(store.reads.values()) == {1}
    store.reads.clear()
    with pytest.raises(NotFoundError, match="arm64"):
        await find_manifest(store, bomb, platforms.parse("linux/amd64"))
    assert set(store.reads.values()) == {2}  # once in search of it, once for what the message says there is
