"""Networks listed, and those that nobody is on removed."""

from __future__ import annotations

from functools import partial

from anyio import to_thread

from containerd_py._flows.delete_network import delete_network, networks_in_use
from containerd_py._flows.network_settings import network_settings
from containerd_py.cni.store import NetworkStore, StoredNetwork
from containerd_py.errors import FailedPreconditionError, NotFoundError
from containerd_py.services.bundle import Services


async def list_networks(services: Services) -> list[StoredNetwork]:
    """Return the networks that the namespace sees."""
    settings = network_settings(services.connection)
    return await to_thread.run_sync(partial(NetworkStore(settings.conf_dir, services.namespace).all))


async def prune_networks(services: Services) -> list[str]:
    """Delete unused networks; return their names."""
    used = await networks_in_use(services)
    deleted = []
    for network in await list_networks(services):
        name = network.config.name
        if network.id is None or network.is_default or name in used:
            continue
        try:
            await delete_network(services, name)
        except (FailedPreconditionError, NotFoundError):
            continue  # used, or deleted, meanwhile
        deleted.append(name)
    return deleted
