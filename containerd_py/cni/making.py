"""New networks as documents: what nerdctl writes for the same wishes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, get_args

import attrs

from containerd_py.cni.attachment import check_interface
from containerd_py.cni.config import check_network_name
from containerd_py.cni.results import IPNetwork
from containerd_py.cni.store import DEFAULT_LABEL, DEFAULT_NAME, PSEUDO_NETWORKS, bridge_name, network_id
from containerd_py.cni.subnets import DEFAULT_SUBNET, free_subnet, parse_subnet, range_document, refuse_overlap
from containerd_py.cni.versions import WRITTEN
from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import check_labels

Driver = Literal["bridge", "macvlan", "ipvlan", "ptp"]
_MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}
_MTU: Final = range(68, 65536)
_RESERVED: Final = re.compile(r"nerdctl/.*")  # nerdctl keeps its own facts there


@attrs.frozen(kw_only=True)
class NetworkWish:
    """What a new network is to be like; see `Networks.create`."""

    name: str
    driver: Driver = "bridge"
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()
    mtu: int | None = None
    internal: bool = False
    ipv6: bool = False
    masquerade: bool = True
    parent: str | None = None
    mode: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict)
    lease_dir: str | None = None
    options: Mapping[str, object] = attrs.field(factory=dict)

    def check(self) -> None:
        """Refuse what cannot be made.

        Raises:
            InvalidArgumentError: The message says which option is at fault.
        """
        check_network_name(self.name)
        if self.name in PSEUDO_NETWORKS:
            raise InvalidArgumentError(f"{self.name!r} is no network of plugins: take another name")
        if self.driver not in get_args(Driver):
            raise InvalidArgumentError(f"driver {self.driver!a} is not one of {', '.join(get_args(Driver))}")
        if self.mtu is not None and self.mtu not in _MTU:
            raise InvalidArgumentError(f"mtu {self.mtu} is not one of {_MTU.start} to {_MTU.stop - 1}")
        if self.mode is not None and self.mode not in _MODES.get(self.driver, ()):
            raise InvalidArgumentError(f"a {self.driver} network has no mode {self.mode!a}")
        if self.parent is not None:
            check_interface(self.parent)
            if self.driver not in _MODES:
                raise InvalidArgumentError(f"a {self.driver} network has no parent interface")
        check_labels(self.labels)
        for key in self.labels:
            if _RESERVED.fullmatch(key) and not (key == DEFAULT_LABEL and self.name == DEFAULT_NAME):
                raise InvalidArgumentError(f"label {key[:64]!a}: nerdctl/ is reserved")


def default_network(lease_dir: str | None = None) -> NetworkWish:
    """Return the network used where none is named, as nerdctl makes it."""
    labels = {DEFAULT_LABEL: "true"}
    return NetworkWish(name=DEFAULT_NAME, subnets=(DEFAULT_SUBNET,), labels=labels, lease_dir=lease_dir)


def network_document(wish: NetworkWish, used: Iterable[IPNetwork]) -> dict[str, object]:
    """Return the file of a new network.

    Raises:
        AlreadyExistsError: A subnet overlaps one that is used.
        InvalidArgumentError: An option cannot be.
    """
    taken = list(used)
    subnets = [parse_subnet(subnet) for subnet in wish.subnets]
    for number, subnet in enumerate(subnets):
        refuse_overlap(subnet, [*taken, *subnets[:number]])
    if not any(subnet.version == 4 for subnet in subnets) and not (subnets and wish.ipv6):
        subnets.append(free_subnet([*taken, *subnets]))
    if not wish.ipv6 and any(subnet.version == 6 for subnet in subnets):
        raise InvalidArgumentError("an IPv6 subnet needs ipv6=True")
    document: dict[str, object] = {"cniVersion": WRITTEN, "name": wish.name, "nerdctlID": network_id(wish.name)}
    if wish.labels:
        document["nerdctlLabels"] = dict(wish.labels)
    return document | {"plugins": _plugins(wish, _ipam(wish, subnets))}


def _ipam(wish: NetworkWish, subnets: Sequence[IPNetwork]) -> dict[str, object]:
    gateways, ip_ranges = list(wish.gateways), list(wish.ip_ranges)
    ranges = []
    for subnet in subnets:
        gateway = _take(gateways, subnet)
        ranges.append([range_document(subnet, gateway, _take(ip_ranges, subnet))])
    for left in (*gateways, *ip_ranges):
        raise InvalidArgumentError(f"{left[:64]!a} lies in no subnet of network {wish.name}")
    ipam: dict[str, object] = {"type": "host-local", "ranges": ranges}
    if not wish.internal:
        destinations = {4: "0.0.0.0/0", 6: "::/0"}
        # nerdctl writes the IPv4 one alone unless there is no IPv4.
        ipam["routes"] = [{"dst": destinations[version]} for version in sorted({subnet.version for subnet in subnets})]
    if wish.lease_dir is not None:
        ipam["dataDir"] = wish.lease_dir
    return ipam


def _take(candidates: list[str], subnet: IPNetwork) -> str | None:
    """Take the first candidate that is of the subnet's family; whether it lies within is checked with it."""
    for candidate in candidates:
        if (":" in candidate) == (subnet.version == 6):
            candidates.remove(candidate)
            return candidate
    return None


def _plugins(wish: NetworkWish, ipam: Mapping[str, object]) -> list[dict[str, object]]:
    capabilities = {"ips": True} if wish.ipv6 else {}
    main: dict[str, object] = {"type": wish.driver}
    match wish.driver:
        case "bridge":
            main |= {"bridge": bridge_name(wish.name), "hairpinMode": True}
            if not wish.internal:
                main |= {"isGateway": True, "ipMasq": wish.masquerade}
        case "ptp":
            main |= {"ipMasq": wish.masquerade and not wish.internal}
        case "macvlan" | "ipvlan":
            main |= {"master": wish.parent or ""}
            if wish.mode is not None:
                main["mode"] = wish.mode
    if wish.mtu is not None:
        main["mtu"] = wish.mtu
    if capabilities:
        main["capabilities"] = capabilities
    main |= {"ipam": dict(ipam), **wish.options}
    if wish.driver not in {"bridge", "ptp"}:
        return [main]
    forwarded: list[dict[str, object]] = [{"type": "portmap", "capabilities": {"portMappings": True}}]
    firewall: dict[str, object] = {"type": "firewall"}
    if wish.driver == "bridge":
        firewall["ingressPolicy"] = "same-bridge"
    return [main, *([] if wish.internal else forwarded), firewall, {"type": "tuning"}]
