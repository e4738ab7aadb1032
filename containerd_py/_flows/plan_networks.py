"""What a new container's network options come to: checked, looked up, nothing made yet."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

import attrs

from containerd_py._flows.attach_networks import (
    HOSTNAME,
    RESOLV_CONF,
    Places,
    attach_networks,
    publishes_ports,
    write_name_files,
)
from containerd_py._flows.default_network import find_network
from containerd_py._flows.hosts_files import check_host_name
from containerd_py._flows.network_settings import network_settings
from containerd_py._flows.network_state import HostsEntry, JoinedNetwork, NetworkState
from containerd_py._flows.resolver_file import ResolverWish, resolver_wish
from containerd_py._flows.shared_namespace import CONTAINER_PREFIX, find_container, namespace_path
from containerd_py._flows.specs import spec_of
from containerd_py._flows.state_directory import StateDirectory, state_directory
from containerd_py.cni.attachment import Attachment
from containerd_py.cni.ports import PortMapping, PortRequest, parse_ports
from containerd_py.cni.results import IPAddress
from containerd_py.cni.store import StoredNetwork
from containerd_py.cni.subnets import ranges_of
from containerd_py.errors import InvalidArgumentError
from containerd_py.network import Network
from containerd_py.oci.namespace_options import with_hostname, with_linux_namespace, with_sysctl
from containerd_py.oci.runtime_spec import Mount, Spec
from containerd_py.oci.spec_editing import spec_option
from containerd_py.oci.spec_options import (
    SpecOption,
    with_host_hosts_file,
    with_host_namespace,
    with_host_resolv_conf,
    with_mounts,
)
from containerd_py.services.bundle import Services

_HOST_GATEWAY: Final = "host-gateway"  # the host's address on the network, as Docker calls it
_NAME_FILES: Final = frozenset(["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"])
_SHORT_ID: Final = 12  # characters of an ID that make a host name, as Docker's
_GENERATED_ID_RE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OWN_FILE_RE: Final = re.compile(r"/.+/(etchosts|containers)/[^/]+/[^/]+/(hosts|resolv\.conf|hostname)")
_MAC_RE: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
NetworkChoice = str | Network | Sequence[str | Network]


class NetworkOptions(TypedDict, total=False):
    """What a container's networks are to be like; see `Client.create_container`."""

    network: NetworkChoice | None
    ports: Sequence[str | int | PortMapping]
    hostname: str | None
    dns: Sequence[str]
    dns_search: Sequence[str]
    dns_options: Sequence[str]
    extra_hosts: Mapping[str, str] | None
    ip: str | Sequence[str] | None
    mac: str | None
    plugin_arguments: Mapping[str, object] | None


@attrs.frozen(kw_only=True)
class NetworkPlan:
    """How a new container is to be connected. `names` are its networks as nerdctl calls them."""

    names: tuple[str, ...]
    options: tuple[SpecOption, ...] = ()
    state: NetworkState | None = None  # None: no files of its own
    requests: tuple[PortRequest, ...] = ()
    resolver: ResolverWish = attrs.field(factory=ResolverWish)
    shares_host: bool = False

    async def carry_out(self, state: StateDirectory) -> None:
        """Make what the container needs on the host; its directory remembers it."""
        if self.state is None:
            return
        places = Places(folder=state.path, hosts=state.hosts)
        if self.state.networks:
            await attach_networks(self.state, self.requests, self.resolver, places)
        else:
            await write_name_files(self.state, self.resolver, places, shares_host=self.shares_host)

    def spec_options(self, state: StateDirectory | None) -> list[SpecOption]:
        """Return what the container's spec needs."""
        options = list(self.options)
        if self.state is not None and state is not None:
            places = Places(folder=state.path, hosts=state.hosts)
            options.append(with_hostname(self.state.hosts.hostname))
            options.append(with_mounts(_file_mounts(places)))
            if self.state.networks:
                path = None if self.state.of_task else str(self.state.netns)
                options.append(with_linux_namespace("network", path))
                # As nerdctl and Docker: who cannot reach the host's ports may open all of its own.
                options.append(with_sysctl({"net.ipv4.ip_unprivileged_port_start": "0"}))
        return options


async def plan_networks(
    services: Services, container_id: str, name: str | None, options: NetworkOptions, *, is_mapped: bool = False
) -> NetworkPlan:
    """Check the options of a container that is going to be made, and look its networks up.

    Where it `is_mapped`, in a user namespace of its own, its network namespace must belong to that one: its task's.

    Raises:
        InvalidArgumentError: Options do not go together, or cannot be what they say.
        NotFoundError: There is no such network or container.
    """
    chosen = _chosen(options.get("network"))
    requests = tuple(parse_ports(options.get("ports", ())))
    resolver = resolver_wish(options.get("dns", ()), options.get("dns_search", ()), options.get("dns_options", ()))
    entry = _hosts_entry(container_id, name, options)
    if chosen in (["host"], ["none"]) or _container_of(chosen) is not None:
        if requests or any(options.get(key) for key in ("ip", "mac", "plugin_arguments")):
            raise InvalidArgumentError(
                f"network {chosen[0]!r} has no ports, ip, mac or plugin_arguments: drop them, or use 'bridge'"
            )
        if (other := _container_of(chosen)) is not None:
            return await _shared(services, other, options)
        return _without_plugins(services, container_id, str(chosen[0]), entry, resolver, options)
    networks = [await find_network(services, network) for network in chosen]
    if requests and not any(publishes_ports(network.config) for network in networks):
        raise InvalidArgumentError(f"ports: {', '.join(map(str, chosen))} publishes none: it has no portmap plugin")
    plugins_id = f"{services.namespace}-{container_id}"
    settings = network_settings(services.connection)
    store = (await state_directory(services, container_id)).store
    netns = settings.netns_dir / Path(store).name / services.namespace / container_id
    state = NetworkState(
        settings=settings,
        netns=netns,
        container_id=plugins_id,
        networks=tuple(_join(networks, plugins_id, netns, options)),
        hosts=_with_gateway(entry, networks),
        of_task=is_mapped,
    )
    return NetworkPlan(
        names=tuple(network.config.name for network in networks), state=state, requests=requests, resolver=resolver
    )


def _chosen(network: NetworkChoice | None) -> list[str | Network]:
    """Return the networks wanted, as a list that makes sense."""
    match network:
        case None:
            return ["none"]
        case str() | Network():
            return [network]
    chosen = list(network)
    alone = [name for name in chosen if isinstance(name, str) and (name in {"host", "none"} or _container_of([name]))]
    names = [str(name) for name in chosen]
    if not chosen or (alone and len(chosen) > 1) or len(set(names)) < len(names):
        raise InvalidArgumentError(f"network: {names} cannot be joined together: name networks, each once")
    return chosen


def _container_of(chosen: Sequence[str | Network]) -> str | None:
    name = chosen[0]
    if isinstance(name, str) and name.startswith(CONTAINER_PREFIX):
        return name.removeprefix(CONTAINER_PREFIX)
    return None


def _hosts_entry(container_id: str, name: str | None, options: NetworkOptions) -> HostsEntry:
    hostname = options.get("hostname")
    extra = options.get("extra_hosts") or {}
    for host, ip in extra.items():
        check_host_name(host)
        if ip != _HOST_GATEWAY:
            _address(ip, "extra_hosts")
    return HostsEntry(
        hostname=check_host_name(container_id[:_SHORT_ID].rstrip("-.") if hostname is None else hostname),
        name=name or ("" if _GENERATED_ID_RE.fullmatch(container_id) else container_id),
        extra_hosts=dict(extra),
    )


def _without_plugins(
    services: Services,
    container_id: str,
    kind: str,
    entry: HostsEntry,
    resolver: ResolverWish,
    options: NetworkOptions,
) -> NetworkPlan:
    """Plan a container on the host's network, or on none."""
    host = [with_host_namespace("network")] if kind == "host" else []
    if not (resolver or entry.extra_hosts or options.get("hostname") is not None):
        files = [with_host_hosts_file(), with_host_resolv_conf()] if kind == "host" else []
        return NetworkPlan(names=(kind,), options=(*host, *files))
    state = NetworkState(
        settings=network_settings(services.connection),
        netns=Path("/"),
        container_id=f"{services.namespace}-{container_id}",
        networks=(),
        hosts=_with_gateway(entry, []),
    )
    return NetworkPlan(names=(kind,), options=tuple(host), state=state, resolver=resolver, shares_host=kind == "host")


async def _shared(services: Services, other: str, options: NetworkOptions) -> NetworkPlan:
    """Plan a container in another one's network namespace, with that one's files."""
    if any(options.get(key) for key in ("hostname", "dns", "dns_search", "dns_options", "extra_hosts")):
        raise InvalidArgumentError(f"a container on the network of container {other} has its names: drop your own")
    record = await find_container(services, other)
    spec = spec_of(record)
    shared = [with_mounts([mount for mount in spec.get("mounts", []) if mount["destination"] in _NAME_FILES])]
    if hostname := spec.get("hostname"):
        shared.append(with_hostname(hostname))
    path = await namespace_path(services, record)
    joined = with_host_namespace("network") if path is None else with_linux_namespace("network", path)
    return NetworkPlan(names=(f"{CONTAINER_PREFIX}{record.id}",), options=(joined, *shared))


def _join(
    networks: Sequence[StoredNetwork], plugins_id: str, netns: Path, options: NetworkOptions
) -> Iterable[JoinedNetwork]:
    addresses = options.get("ip") or ()
    wanted = [_address(ip, "ip") for ip in ([addresses] if isinstance(addresses, str) else addresses)]
    mac = _mac(options.get("mac"))
    for number, network in enumerate(networks):
        ranges = ranges_of(network.config.document)
        own = [ip for ip in wanted if any(ip in subnet for subnet, _ in ranges) or not ranges]
        wanted = [ip for ip in wanted if ip not in own]
        arguments = {"IgnoreUnknown": "1"}
        capabilities = dict(options.get("plugin_arguments") or {})
        if options.get("dns") or options.get("dns_search") or options.get("dns_options"):
            capabilities["dns"] = {
                "servers": list(options.get("dns", ())),
                "searches": list(options.get("dns_search", ())),
                "options": list(options.get("dns_options", ())),
            }
        if first := next((ip for ip in own if ip.version == 4), None):
            arguments["IP"] = str(first)
        if own:
            prefixes = {ip: subnet.prefixlen for ip in own for subnet, _ in ranges if ip in subnet}
            capabilities["ips"] = [f"{ip}/{prefixes.get(ip, ip.max_prefixlen)}" for ip in own]
        if mac is not None and number == 0:
            arguments["MAC"] = mac
            capabilities["mac"] = mac
        yield JoinedNetwork(
            config=network.config,
            attachment=Attachment(
                container_id=plugins_id,
                netns=netns,
                interface=f"eth{number}",
                arguments=arguments,
                capabilities=capabilities,
            ),
        )
    if wanted:
        raise InvalidArgumentError(f"ip: {', '.join(map(str, wanted))} lies in no subnet of the container's networks")


def _with_gateway(entry: HostsEntry, networks: Sequence[StoredNetwork]) -> HostsEntry:
    """Put the host's address on the first network where extra hosts ask for it, as Docker does."""
    if _HOST_GATEWAY not in entry.extra_hosts.values():
        return entry
    gateways = (gateway for network in networks for _, gateway in ranges_of(network.config.document) if gateway)
    gateway = next(gateways, None)
    if gateway is None:
        raise InvalidArgumentError(
            f"extra_hosts: the container's networks have no gateway to stand for {_HOST_GATEWAY}"
        )
    hosts = {name: str(gateway) if ip == _HOST_GATEWAY else ip for name, ip in entry.extra_hosts.items()}
    return attrs.evolve(entry, extra_hosts=hosts)


def _address(text: str, what: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{what}: {error}") from error


def _mac(text: str | None) -> str | None:
    if text is None:
        return None
    if not _MAC_RE.fullmatch(text.lower()):
        raise InvalidArgumentError(f"mac: {text[:64]!a} is no address such as 02:42:ac:11:00:02")
    return text.lower()


def with_own_network() -> SpecOption:
    """Take a spec out of the networks its container was on: their namespace and files are another container's."""

    def edit(spec: Spec) -> None:
        for namespace in spec.get("linux", {}).get("namespaces", []):
            if namespace["type"] == "network":
                namespace.pop("path", None)
        if "mounts" in spec:
            spec["mounts"] = [mount for mount in spec["mounts"] if not _is_of_a_container(mount)]

    return spec_option(edit)


def _is_of_a_container(mount: Mount) -> bool:
    """Tell whether a mount shows a file with names that was made for one container, here or by nerdctl."""
    return mount["destination"] in _NAME_FILES and bool(_OWN_FILE_RE.fullmatch(mount.get("source", "")))


def _file_mounts(places: Places) -> list[Mount]:
    sources = {
        "/etc/hosts": places.hosts_file,
        "/etc/resolv.conf": f"{places.folder}/{RESOLV_CONF}",
        "/etc/hostname": f"{places.folder}/{HOSTNAME}",
    }
    return [
        {"destination": path, "type": "bind", "source": source, "options": ["rbind", "rprivate", "rw"]}
        for path, source in sources.items()
    ]
