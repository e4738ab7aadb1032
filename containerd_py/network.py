"""A network that containers can be attached to: a file on the host. A handle; its file is read anew each time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import attrs
from anyio import to_thread

from containerd_py._flows.delete_network import delete_network
from containerd_py._flows.network_settings import network_settings
from containerd_py.cni.config import NetworkConfig
from containerd_py.cni.results import IPAddress, IPNetwork
from containerd_py.cni.store import NetworkStore, StoredNetwork
from containerd_py.cni.subnets import ranges_of
from containerd_py.cni.turns import take_turn
from containerd_py.services.bundle import Services


@attrs.frozen(kw_only=True)
class NetworkInfo:
    """What is known of a network. `id` is None where another program than nerdctl, or this one, has made it.

    `subnets` are where its addresses are from, each with its gateway, as far as its file tells.
    """

    name: str
    id: str | None
    driver: str
    labels: Mapping[str, str]
    subnets: tuple[tuple[IPNetwork, IPAddress | None], ...]
    is_default: bool
    config: NetworkConfig


class Network:
    """A network of this host. Made by `client.networks`. Equal are those of one name in one folder and namespace."""

    def __init__(self, services: Services, name: str) -> None:
        self._services = services
        self._name = name

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    async def info(self) -> NetworkInfo:
        """Return what its file says.

        Raises:
            NotFoundError: It was deleted.
        """
        settings = network_settings(self._services.connection)
        store = NetworkStore(settings.conf_dir, self._services.namespace)
        return network_info(await to_thread.run_sync(partial(store.find, self._name)))

    async def check_ready(self) -> None:
        """Ask its plugins whether they could attach a container now (CNI's STATUS, of version 1.1).

        Raises:
            CNINotReadyError: One could not.
            CNIPluginNotFoundError: One is not installed.
            NotFoundError: It was deleted.
        """
        settings = network_settings(self._services.connection)
        config = (await self.info()).config
        await take_turn(settings, lambda _: settings.chain.status(config))

    async def delete(self) -> None:
        """Delete it, with its bridge and what its plugins keep for it.

        Raises:
            FailedPreconditionError: Containers are attached to it, or it is the default one.
            NotFoundError: It was deleted already.
        """
        await delete_network(self._services, self._name)

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Network) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return (network_settings(self._services.connection).conf_dir, self._services.namespace, self._name)

    def __repr__(self) -> str:
        return f"<Network {self._name}>"

    def __str__(self) -> str:
        return self._name


def network_info(network: StoredNetwork) -> NetworkInfo:
    """Return what is known of a network."""
    return NetworkInfo(
        name=network.config.name,
        id=network.id,
        driver=network.config.plugins[0].type,
        labels=network.labels,
        subnets=tuple(ranges_of(network.config.document)),
        is_default=network.is_default,
        config=network.config,
    )
