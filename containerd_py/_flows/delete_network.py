"""Networks removed with what their plugins keep for them, unless a container is attached, in any namespace."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial

from anyio import to_thread

from containerd_py._flows.network_settings import network_settings
from containerd_py._flows.shared_namespace import network_names
from containerd_py.cni.bridges import remove_bridge
from containerd_py.cni.cache import ResultCache
from containerd_py.cni.settings import NetworkSettings
from containerd_py.cni.store import NetworkStore, StoredNetwork
from containerd_py.cni.turns import take_turn
from containerd_py.errors import FailedPreconditionError
from containerd_py.labels import NERDCTL_NETWORKS
from containerd_py.services.bundle import Services


async def delete_network(services: Services, name: str) -> None:
    """Delete a network that nobody uses."""
    settings = network_settings(services.connection)
    store = NetworkStore(settings.conf_dir, services.namespace)
    network = await to_thread.run_sync(partial(store.find, name))
    if network.is_default:
        raise FailedPreconditionError(f"network {network.config.name} is the default one: it stays, as nerdctl has it")
    used = await networks_in_use(services)
    if users := used.get(network.config.name):
        raise FailedPreconditionError(
            f"network {network.config.name} has {len(users)} containers, such as {users[0]}: delete them first"
        )
    await take_turn(settings, lambda _: _remove(settings, store, network))


async def networks_in_use(services: Services) -> Mapping[str, list[str]]:
    """Return the containers of each network that has any, of all namespaces, whether they run or not."""
    used: dict[str, list[str]] = {}
    for namespace in await services.namespaces.list():
        scoped = services.in_scope(namespace=namespace.name)
        for record in await scoped.containers.list([f'labels."{NERDCTL_NETWORKS}"']):
            for name in network_names(record.labels):
                used.setdefault(name, []).append(f"{namespace.name}/{record.id}")
    return used


def _remove(settings: NetworkSettings, store: NetworkStore, network: StoredNetwork) -> None:
    cached = next(ResultCache(settings.cache_dir).attachments(network.config.name), None)
    if cached is not None:
        raise FailedPreconditionError(
            f"network {network.config.name} has container {cached.attachment.container_id}: delete it first, "
            "or, where a program that died has left it, call client.networks.reclaim"
        )
    store.remove(network, partial(_clean, settings, network))


def _clean(settings: NetworkSettings, network: StoredNetwork) -> None:
    first = network.config.plugins[0]
    bridge = first.document.get("bridge")
    if first.type == "bridge" and isinstance(bridge, str):
        remove_bridge(bridge, settings.host_netns)
    leases = settings.leases / network.config.name
    if network.id is not None and leases.is_dir():
        shutil.rmtree(leases)
