"""A container's network namespace and its place on networks: made together, taken down by whoever has its directory.

Everything is written down in the directory before it is made, so that a program that dies leaves nothing unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
from anyio import to_thread

from containerd_py._completion import run_to_completion
from containerd_py._flows.directories import remove_if_empty
from containerd_py._flows.hosts_files import HOSTS, enter_hosts, leave_hosts
from containerd_py._flows.network_state import FILE, PORTS_FILE, NetworkState, read_network_state
from containerd_py._flows.resolver_file import ResolverWish, resolver_text
from containerd_py._whole_files import write_whole
from containerd_py.cni.attachment import Attachment
from containerd_py.cni.chain import Chain, raise_first
from containerd_py.cni.config import NetworkConfig
from containerd_py.cni.netns import is_netns, keep_netns, make_netns, remove_netns
from containerd_py.cni.ports import PortMapping, PortRequest, choose_ports
from containerd_py.cni.results import CNIResult
from containerd_py.cni.stopping import Stop, Stopped
from containerd_py.cni.turns import take_last_turn, take_turn
from containerd_py.errors import CNIError

PORT_MAPPINGS: Final = "portMappings"
RESOLV_CONF: Final = "resolv.conf"
HOSTNAME: Final = "hostname"


@attrs.frozen(kw_only=True)
class Places:
    """Where a container's network files are: its own directory, and that of its hosts file."""

    folder: str
    hosts: str

    @property
    def hosts_file(self) -> str:
        """The file mounted at /etc/hosts."""
        return f"{self.hosts}/{HOSTS}"


async def attach_networks(
    state: NetworkState, requests: Sequence[PortRequest], wish: ResolverWish, places: Places
) -> NetworkState:
    """Make a container's namespace and attach it to its networks; return what came of it.

    What is made is in the container's directory: `release_networks` takes it down, also where this fails half-way.

    Raises:
        CNIError: A plugin refused or failed.
        AlreadyExistsError: A port to publish is taken.
    """
    return await take_turn(state.settings, partial(_attach, state, requests, wish, places))


async def write_name_files(state: NetworkState, wish: ResolverWish, places: Places, *, shares_host: bool) -> None:
    """Write the files of a container that is on no network of plugins."""
    await run_to_completion(partial(_write_files, state, wish, places, shares_host=shares_host))


async def renew_networks(folder: str, hosts: str) -> None:
    """Attach a container again that is attached no more: after a reboot of the host, or since nerdctl stopped it.

    Raises:
        CNIError: A plugin refused or failed.
    """
    state = await to_thread.run_sync(read_network_state, folder)
    if state is None or not state.networks or await to_thread.run_sync(_is_attached, state):
        return
    await take_turn(state.settings, partial(_renew, state, Places(folder=folder, hosts=hosts)))


async def follow_task(folder: str, hosts: str, pid: int) -> None:
    """Attach the namespace of a task that was just created, where a container's namespace is its task's.

    Raises:
        CNIError: A plugin refused or failed.
        AlreadyExistsError: A port to publish was taken meanwhile.
    """
    state = await to_thread.run_sync(read_network_state, folder)
    if state is not None and state.of_task:
        await take_turn(state.settings, partial(_follow, state, Places(folder=folder, hosts=hosts), pid))


async def release_networks(folder: str, hosts: str) -> None:
    """Detach a container from its networks, and let its namespace go; that there is none is fine.

    Raises:
        CNIError: A plugin failed. Everything is still known: try again.
    """
    state = await to_thread.run_sync(read_network_state, folder)
    if state is None:
        return
    places = Places(folder=folder, hosts=hosts)
    if state.networks:
        await take_last_turn(state.settings, partial(_detach, state, places))
    else:
        await run_to_completion(partial(_forget, places))


def _attach(
    state: NetworkState, requests: Sequence[PortRequest], wish: ResolverWish, places: Places, stop: Stop
) -> NetworkState:
    chain = state.settings.chain
    for network in state.networks:
        chain.negotiated(network.config)  # that a plugin is missing shall be known before anything is made
    ports = tuple(choose_ports(requests, chain.cache, state.settings.host_netns))
    state = _with_ports(state, ports)
    state.write(places.folder)
    if not state.of_task:
        _make_netns(state.netns)
        state = _join(state, chain, stop)
    _write_files(state, wish, places)
    state.write(places.folder)
    if stop.is_set:
        raise Stopped
    return state


def _renew(state: NetworkState, places: Places, stop: Stop) -> None:
    _join_anew(state, places, stop, partial(make_netns, state.netns))


def _follow(state: NetworkState, places: Places, pid: int, stop: Stop) -> None:
    _join_anew(state, places, stop, partial(keep_netns, state.netns, pid))


def _join_anew(state: NetworkState, places: Places, stop: Stop, make: Callable[[], None]) -> None:
    remove_netns(state.netns)  # no task is in it; and what is left in it would be in the way
    raise_first(_delete(state))
    settings = state.settings
    choose_ports([port.to_request() for port in state.ports], settings.chain.cache, settings.host_netns)
    make()
    state = _join(state, state.settings.chain, stop)
    enter_hosts(places.hosts, _own_id(places), state.hosts, _results(state))
    state.write(places.folder)


def _is_attached(state: NetworkState) -> bool:
    if state.of_task:
        return True  # it will be: `follow_task`
    cache = state.settings.chain.cache
    known = (cache.result(network.config.name, network.attachment) for network in state.networks)
    return is_netns(state.netns) and all(result is not None for result in known)


def _detach(state: NetworkState, places: Places) -> None:
    if _delete(state):
        # The bridge plugin fails for good once its rules were flushed, but not where there is no namespace any more.
        remove_netns(state.netns)
        raise_first(_delete(state))
    remove_netns(state.netns)
    for folder in (state.netns.parent, state.netns.parent.parent, state.settings.netns_dir):
        remove_if_empty(folder)
    _forget(places)


def _delete(state: NetworkState) -> list[CNIError]:
    failures: list[CNIError] = []
    for network in reversed(state.networks):
        try:
            state.settings.chain.delete(network.config, network.attachment, network.result)
        except CNIError as error:
            failures.append(error)
    return failures


def _forget(places: Places) -> None:
    leave_hosts(places.hosts)
    for name in (PORTS_FILE, FILE):
        Path(places.folder, name).unlink(missing_ok=True)


def _join(state: NetworkState, chain: Chain, stop: Stop) -> NetworkState:
    joined = [
        attrs.evolve(network, result=chain.add(network.config, network.attachment, stop)) for network in state.networks
    ]
    return attrs.evolve(state, networks=tuple(joined))


def _make_netns(path: Path) -> None:
    remove_netns(path)  # of a container of that name whose program died: its directory is held by us alone
    make_netns(path)


def _with_ports(state: NetworkState, ports: tuple[PortMapping, ...]) -> NetworkState:
    if not ports:
        return state
    mappings = [port.to_document() for port in ports]

    def told(attachment: Attachment) -> Attachment:
        return attrs.evolve(attachment, capabilities={**attachment.capabilities, PORT_MAPPINGS: mappings})

    # One of them: the same port of the host cannot lead to two addresses.
    first = next(network for network in state.networks if publishes_ports(network.config))
    networks = tuple(
        attrs.evolve(network, attachment=told(network.attachment)) if network is first else network
        for network in state.networks
    )
    return attrs.evolve(state, networks=networks, ports=ports)


def publishes_ports(network: NetworkConfig) -> bool:
    """Tell whether a network has a plugin that publishes ports."""
    return any(PORT_MAPPINGS in plugin.capabilities for plugin in network.plugins)


def _write_files(state: NetworkState, wish: ResolverWish, places: Places, *, shares_host: bool = False) -> None:
    state.write(places.folder)
    results = _results(state)
    offered = [result.dns for result in results.values()]
    text = resolver_text(wish, offered, shares_host=shares_host)
    write_whole(Path(places.folder, RESOLV_CONF), text.encode(), mode=0o644)
    write_whole(Path(places.folder, HOSTNAME), f"{state.hosts.hostname}\n".encode(), mode=0o644)
    enter_hosts(places.hosts, _own_id(places), state.hosts, results)


def _results(state: NetworkState) -> Mapping[str, CNIResult]:
    return {network.config.name: network.result for network in state.networks if network.result is not None}


def _own_id(places: Places) -> str:
    return Path(places.hosts).name
