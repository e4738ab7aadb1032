"""Images pulled at once, and exported by digest or in part."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import partial

from containerd_py import Client, Image, NotFoundError, for_each
from containerd_py.oci.digests import chain_ids
from tests.conftest import SeededImages
from tests.integration.test_export_archives import blobs, exported

# OCI image specification, annotations: what `org.opencontainers.image.ref.name` may be.
REF_NAME = re.compile(r"[A-Za-z0-9]+(?:[-._:@/+]+[A-Za-z0-9]+)*", re.ASCII)


async def test_images_of_the_same_layers_are_pulled_at_once(client: Client, seeded_images: SeededImages):
    """Images that share layers, pulled and unpacked at the same time, are all whole; each layer is one snapshot."""
    references = [seeded_images.busybox, seeded_images.layered, seeded_images.docker, seeded_images.index]
    images = await for_each(references * 2, partial(client.pull, via="client"))
    chains = {await image.chain_id() for image in images}
    assert all([await image.is_unpacked() for image in images])
    names = {info.name for info in await client.snapshotter("overlayfs").list()}
    assert chains <= names
    assert len(names) == len({name async for name in _all_chains(images)})
    for image in images[:4]:
        await image.delete(synchronous=True)


async def _all_chains(images: list[Image]):
    for image in images:
        for chain in chain_ids(await image.diff_ids()):
            yield chain


async def test_an_image_named_by_digest_is_exported_under_a_valid_name(client: Client, seeded_images: SeededImages):
    """An image pulled by its digest has a name in the archive that the specification allows, and comes back by it."""
    digest = seeded_images.layouts[seeded_images.busybox].target.digest
    image = await client.pull(f"{seeded_images.busybox.rpartition(':')[0]}@{digest}", via="client")
    files = await exported(client, image.name)
    (entry,) = json.loads(files["index.json"])["manifests"]
    annotations = entry.get("annotations", {})
    assert entry["digest"] == digest
    assert annotations["io.containerd.image.name"] == image.name
    assert REF_NAME.fullmatch(annotations.get("org.opencontainers.image.ref.name", "absent"))
    await image.delete(synchronous=True)


async def test_an_index_without_what_it_names_is_exported_alone(client: Client, seeded_images: SeededImages):
    """When nothing of an index is here but itself, that alone is written, and no list for Docker."""
    image = await client.pull(seeded_images.index, via="client")
    for info in await client.content.list():
        if info.digest != image.target.digest:
            with suppress(NotFoundError):  # collected meanwhile: what named it is gone
                await client.content.delete(info.digest)
    files = await exported(client, image.name, skip_missing=True)
    assert blobs(files) == {image.target.digest}
    assert "manifest.json" not in files
    await image.delete(synchronous=True)
