"""A network's file written, its plugins being there and its addresses free."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import attrs

from containerd_py._completion import run_to_completion
from containerd_py._flows.network_settings import network_settings
from containerd_py._flows.same_host import require_same_host
from containerd_py.cni.making import NetworkWish, network_document
from containerd_py.cni.programs import find_plugin
from containerd_py.cni.settings import NetworkSettings
from containerd_py.cni.store import NetworkStore, StoredNetwork
from containerd_py.cni.subnets import live_subnets, ranges_of
from containerd_py.network import Network
from containerd_py.services.bundle import Services


async def create_network(services: Services, wish: NetworkWish) -> Network:
    """Create a network."""
    wish.check()
    await require_same_host(services, "a network is created")
    settings = network_settings(services.connection)
    lease_dir = None if settings.lease_dir is None else str(settings.lease_dir)
    store = NetworkStore(settings.conf_dir, services.namespace)
    made: list[StoredNetwork] = []
    try:
        await run_to_completion(lambda: made.append(_create(settings, store, attrs.evolve(wish, lease_dir=lease_dir))))
    except BaseException:  # a cancellation: it had succeeded
        for network in made:
            await run_to_completion(partial(store.remove, network, lambda: None))
        raise
    return Network(services, wish.name)


def _create(settings: NetworkSettings, store: NetworkStore, wish: NetworkWish) -> StoredNetwork:
    def make(networks: list[StoredNetwork]) -> Mapping[str, object]:
        used = [subnet for network in networks for subnet, _ in ranges_of(network.config.document)]
        document = network_document(wish, [*live_subnets(settings.host_netns), *used])
        plugins = document["plugins"]
        assert isinstance(plugins, list)
        for plugin in (*plugins, {"type": "host-local"}):
            find_plugin(plugin["type"], settings.plugin_dirs)
        return document

    return store.create(wish.name, make)
