"""Networks found by what callers call them; the default one is made when it is first wanted, as nerdctl does."""

from __future__ import annotations

from functools import partial

from anyio import to_thread

from containerd_py._flows.network_settings import network_settings
from containerd_py.cni.making import default_network, network_document
from containerd_py.cni.settings import NetworkSettings
from containerd_py.cni.store import DEFAULT_NAME, NetworkStore, StoredNetwork
from containerd_py.errors import AlreadyExistsError
from containerd_py.network import Network
from containerd_py.services.bundle import Services


async def find_network(services: Services, network: str | Network) -> StoredNetwork:
    """Return a network by its name or ID; "bridge" is the default network, made where it is missing.

    Raises:
        NotFoundError: There is none.
    """
    settings = network_settings(services.connection)
    name = network if isinstance(network, str) else network.name
    return await to_thread.run_sync(partial(_find, settings, services.namespace, name))


def _find(settings: NetworkSettings, namespace: str, name: str) -> StoredNetwork:
    store = NetworkStore(settings.conf_dir, namespace)
    if name != DEFAULT_NAME:
        return store.find(name)
    found = store.find_default()
    if found is not None:
        return found
    wish = default_network(None if settings.lease_dir is None else str(settings.lease_dir))
    try:
        return store.create(DEFAULT_NAME, lambda _: network_document(wish, ()))
    except AlreadyExistsError:  # by another program meanwhile
        return store.find(name)
