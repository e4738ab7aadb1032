"""What networks a container is on, as its directory has it, and whether the plugins agree."""

from __future__ import annotations

import attrs
from anyio import to_thread

from containerd_py._flows.network_state import JoinedNetwork, NetworkState, read_network_state
from containerd_py._flows.state_directory import recorded_state_directory
from containerd_py.cni.ports import PortMapping
from containerd_py.cni.results import CNIResult, IPAddress
from containerd_py.cni.stopping import Stop
from containerd_py.cni.turns import take_turn
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord


@attrs.frozen(kw_only=True)
class ContainerNetwork:
    """A container on a network: its interface there, its addresses, and the host's ports that lead to it.

    `result` is all that the network's plugins said; `netns` is the path of the container's network namespace.
    """

    network: str
    interface: str
    mac: str
    addresses: tuple[IPAddress, ...]
    gateways: tuple[IPAddress, ...]
    ports: tuple[PortMapping, ...]
    netns: str
    result: CNIResult


async def container_networks(services: Services, record: ContainerRecord) -> list[ContainerNetwork]:
    """Return the networks of plugins a container is on."""
    state = await _state(services, record)
    if state is None:
        return []
    return [_network(state, network, network.result) for network in state.networks if network.result is not None]


async def check_networks(services: Services, record: ContainerRecord) -> None:
    """Ask the plugins whether a container is attached as it was."""
    state = await _state(services, record)
    if state is None or not state.networks:
        return

    def check(_: Stop) -> None:
        for network in state.networks:
            state.settings.chain.check(network.config, network.attachment)

    await take_turn(state.settings, check)


async def _state(services: Services, record: ContainerRecord) -> NetworkState | None:
    place = recorded_state_directory(services.namespace, record.id, record.labels)
    return None if place is None else await to_thread.run_sync(read_network_state, place.path)


def _network(state: NetworkState, network: JoinedNetwork, result: CNIResult) -> ContainerNetwork:
    name = network.attachment.interface
    macs = (interface.mac for interface in result.interfaces if interface.name == name and interface.sandbox)
    return ContainerNetwork(
        network=network.config.name,
        interface=name,
        mac=next(macs, ""),
        addresses=result.addresses,
        gateways=tuple(ip.gateway for ip in result.ips if ip.gateway is not None),
        ports=state.ports,
        netns=str(state.netns),
        result=result,
    )
