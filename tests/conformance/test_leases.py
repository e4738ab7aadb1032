"""Leases keep what they name, and nothing else."""

from __future__ import annotations

import pytest

from containerd_py import Client, Image, LeaseResource, NotFoundError
from tests.conftest import SeededImages


async def test_a_lease_keeps_what_it_names_alone(client: Client, seeded_images: SeededImages):
    """A leased snapshot outlives its image, whose content goes; no longer leased it goes with the next collection."""
    image = await client.pull(seeded_images.busybox, via="client")
    chain, config = await image.chain_id(), (await image.manifest()).config.digest
    snapshots = client.snapshotter("overlayfs")
    await client.leases.create("keeper")
    resource = LeaseResource(type="snapshots/overlayfs", id=chain)
    await client.leases.add_resource("keeper", resource)
    assert await client.leases.list_resources("keeper") == [resource]
    await image.delete(synchronous=True)
    assert (await snapshots.stat(chain)).is_committed
    with pytest.raises(NotFoundError):
        await client.content.info(config)
    await client.leases.delete_resource("keeper", resource)
    await client.leases.delete("keeper", synchronous=True)
    with pytest.raises(NotFoundError):
        await snapshots.stat(chain)


async def test_a_lease_of_content_keeps_what_that_refers_to(client: Client, busybox: Image):
    """What a leased manifest names lives as long as the lease; a flat lease keeps the manifest alone."""
    manifest = busybox.target.digest
    config = (await busybox.manifest()).config.digest
    resource = LeaseResource(type="content", id=manifest)
    for id_, labels in (("deep", {}), ("flat", {"containerd.io/gc.flat": "true"})):
        await client.leases.create(id_, labels=labels)
        await client.leases.add_resource(id_, resource)
    await busybox.delete(synchronous=True)
    assert (await client.content.info(config)).digest == config
    await client.leases.delete("deep", synchronous=True)
    assert (await client.content.info(manifest)).digest == manifest
    with pytest.raises(NotFoundError):
        await client.content.info(config)
    await client.leases.delete("flat", synchronous=True)
    assert await client.content.list() == []
