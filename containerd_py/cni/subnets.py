"""Address ranges: which are used here, which is free, what a network gives out. Knows addresses; asks no plugin."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from containerd_py.cni.netns import in_netns
from containerd_py.cni.results import IPAddress, IPNetwork
from containerd_py.errors import AlreadyExistsError, InvalidArgumentError, ResourceExhaustedError

DEFAULT_SUBNET: Final = "10.4.0.0/24"  # of the default network (nerdctl)
_FIRST_SUBNET: Final = ipaddress.IPv4Network("10.4.1.0/24")  # tried for others, then the next (nerdctl)
_LAST_RESORT: Final = ipaddress.IPv4Network("10.255.255.0/24")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{8}")


def parse_subnet(text: str) -> IPNetwork:
    """Read a subnet such as 10.9.0.0/24.

    Raises:
        InvalidArgumentError: It is none, has bits set beyond its prefix, or has addresses that no network can give out.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidArgumentError(f"subnet {str(text)[:64]!a}: {error}") from error
    if "/" not in text or str(network.network_address) != text.partition("/")[0]:
        raise InvalidArgumentError(f"subnet {str(text)[:64]!a}: did you mean {network}?")
    if network.is_loopback or network.is_multicast or network.is_unspecified:
        raise InvalidArgumentError(f"subnet {network} is for loopback or multicast: take a private one, as 10.9.0.0/24")
    return network


def refuse_overlap(subnet: IPNetwork, used: Iterable[IPNetwork]) -> None:
    """Refuse a subnet that has addresses of another network.

    Raises:
        AlreadyExistsError: It has.
    """
    for other in used:
        if _overlap(subnet, other):
            raise AlreadyExistsError(
                f"subnet {subnet} overlaps {other}, which is used on this host: take another one, or leave it out"
            )


def free_subnet(used: Iterable[IPNetwork]) -> IPNetwork:
    """Return the first /24 from 10.4.1.0 on that nobody uses.

    Raises:
        ResourceExhaustedError: All are used.
    """
    taken = list(used)
    subnet = _FIRST_SUBNET
    while any(_overlap(subnet, other) for other in taken):
        if subnet == _LAST_RESORT:
            raise ResourceExhaustedError("all subnets of 10.0.0.0/8 are used: name one with subnet=")
        subnet = ipaddress.IPv4Network((int(subnet.network_address) + subnet.num_addresses, subnet.prefixlen))
    return subnet


def range_document(subnet: IPNetwork, gateway: str | None, ip_range: str | None) -> dict[str, object]:
    """Return a range as host-local takes it.

    Raises:
        InvalidArgumentError: The gateway or the range is none, or lies outside the subnet.
    """
    try:
        chosen = ipaddress.ip_address(gateway) if gateway else subnet.network_address + (subnet.num_addresses > 1)
        part = ipaddress.ip_network(ip_range) if ip_range else None
    except ValueError as error:
        raise InvalidArgumentError(f"subnet {subnet}: {error}") from error
    document: dict[str, object] = {"subnet": str(subnet), "gateway": str(chosen)}
    if chosen not in subnet:
        raise InvalidArgumentError(f"gateway {chosen} is not in subnet {subnet}")
    if part is not None:
        if not _overlap(part, subnet) or part.prefixlen < subnet.prefixlen:
            raise InvalidArgumentError(f"the range {part} is not in subnet {subnet}")
        last = part.broadcast_address
        if last == subnet.broadcast_address and subnet.version == 4:
            last -= 1
        document |= {"rangeStart": str(part.network_address + 1), "rangeEnd": str(last), "ipRange": str(part)}
    return document


def ranges_of(document: Mapping[str, object]) -> list[tuple[IPNetwork, IPAddress | None]]:
    """Return the subnets and gateways that a network's document says it gives addresses from."""
    found = []
    for item in _range_items(document):
        try:
            subnet = ipaddress.ip_network(str(item.get("subnet")), strict=False)
            gateway = item.get("gateway")
            found.append((subnet, ipaddress.ip_address(str(gateway)) if gateway else None))
        except ValueError:
            continue  # the plugin will tell
    return found


def live_subnets(netns: Path | None) -> list[IPNetwork]:
    """Return the subnets of the host's interfaces. Blocks."""
    routes, routes6 = in_netns(netns, _route_tables)
    return [*_ipv4_routes(routes), *_ipv6_routes(routes6)]


def _range_items(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    plugins = document.get("plugins")
    for plugin in plugins if isinstance(plugins, list) else [document]:
        ipam = plugin.get("ipam") if isinstance(plugin, dict) else None
        if not isinstance(ipam, dict):
            continue
        if "subnet" in ipam:  # host-local's old form
            yield ipam
        ranges = ipam.get("ranges")
        for alternatives in ranges if isinstance(ranges, Sequence) else ():
            for item in alternatives if isinstance(alternatives, Sequence) else ():
                if isinstance(item, dict):
                    yield item


def _route_tables() -> tuple[str, str]:
    # Of the thread, not of the process: only the thread is in the namespace.
    tables = (Path("/proc/thread-self/net/route"), Path("/proc/thread-self/net/ipv6_route"))
    routes, routes6 = (table.read_text() if table.exists() else "" for table in tables)
    return routes, routes6


def _ipv4_routes(table: str) -> Iterator[IPNetwork]:
    """Yield the destinations that are reached without a gateway: an interface's own subnets."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if _HEX.fullmatch(fields[2]) and int(fields[2], 16) == 0 and int(fields[7], 16):
            destination, mask = (int.from_bytes(bytes.fromhex(fields[column]), "little") for column in (1, 7))
            yield ipaddress.IPv4Network((destination, mask.bit_count()))


def _ipv6_routes(table: str) -> Iterator[IPNetwork]:
    for line in table.splitlines():
        fields = line.split()
        prefix, gateway, device = int(fields[1], 16), int(fields[4], 16), fields[9]
        destination = ipaddress.IPv6Network((int(fields[0], 16), prefix))
        local = destination.is_link_local or destination.is_multicast or device == "lo" or prefix in {0, 128}
        if gateway == 0 and not local:
            yield destination


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    if isinstance(one, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return one.overlaps(other)
    if isinstance(one, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return one.overlaps(other)
    return False
