"""Networks of this host: made, found, removed, and cleared of what programs left that died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from containerd_py._calls.calls import Calls
from containerd_py._flows.create_network import create_network
from containerd_py._flows.default_network import find_network
from containerd_py._flows.delete_network import delete_network
from containerd_py._flows.prune_networks import list_networks, prune_networks
from containerd_py._flows.reclaim_networks import ReclaimReport, reclaim_networks
from containerd_py.cni.making import Driver, NetworkWish
from containerd_py.network import Network
from containerd_py.types import NO_LABELS


class Networks(Calls):
    """Networks that containers can be attached to: files on this host, shared with nerdctl. `client.networks`."""

    async def create(
        self,
        name: str,
        *,
        driver: Driver = "bridge",
        subnet: str | Sequence[str] | None = None,
        gateway: str | Sequence[str] | None = None,
        ip_range: str | Sequence[str] | None = None,
        mtu: int | None = None,
        internal: bool = False,
        ipv6: bool = False,
        masquerade: bool = True,
        parent: str | None = None,
        mode: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Network:
        """Create a network, as `nerdctl network create` does; nothing is made on the host until a container is on it.

        Without a `subnet` the first /24 from 10.4.1.0 on is taken that nobody uses. `gateway` and `ip_range`, the part
        of the subnet that addresses are given from, belong to the subnet of their kind; several subnets may be of IPv4
        and, with `ipv6`, of IPv6. `internal` keeps the network from the outside. `parent` is the host's interface a
        macvlan or ipvlan network is on, `mode` how. `mtu` is in bytes. `options` are members of the first plugin's
        configuration, for what has no argument here.

        Raises:
            AlreadyExistsError: There is one of that name, or the subnet is used on this host.
            CNIPluginNotFoundError: A plugin that it needs is not installed.
            RemoteDaemonError: The daemon is on another host, where its containers would look for the network.
            InvalidArgumentError: An argument cannot work.
        """
        wish = NetworkWish(
            name=name,
            driver=driver,
            subnets=_several(subnet),
            gateways=_several(gateway),
            ip_ranges=_several(ip_range),
            mtu=mtu,
            internal=internal,
            ipv6=ipv6,
            masquerade=masquerade,
            parent=parent,
            mode=mode,
            labels=NO_LABELS if labels is None else labels,
            options={} if options is None else options,
        )
        return await create_network(self._services, wish)

    async def load(self, name: str) -> Network:
        """Return a network by its name, or the beginning of its ID; "bridge" is the default one, made where missing.

        Raises:
            NotFoundError: There is none.
        """
        return Network(self._services, (await find_network(self._services, name)).config.name)

    async def list(self) -> list[Network]:
        """Return all networks that this namespace sees."""
        return [Network(self._services, network.config.name) for network in await list_networks(self._services)]

    async def delete(self, name: str) -> None:
        """Delete a network, with its bridge and what its plugins keep for it.

        Raises:
            FailedPreconditionError: Containers are attached to it, or it is the default one.
            NotFoundError: There is none.
        """
        await delete_network(self._services, name)

    async def prune(self) -> Sequence[str]:
        """Delete networks made here or by nerdctl that no container is attached to, the default one apart.

        Return their names.
        """
        return await prune_networks(self._services)

    async def reclaim(self) -> ReclaimReport:
        """Take down what programs that died have left: containers' networks, namespaces, addresses, ports, names.

        Only of containers that do not exist any more, in this namespace, and that nobody is making.
        """
        return await reclaim_networks(self._services)


def _several(value: str | Sequence[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
