"""What plugins answer to ADD, as frozen values. Their words are checked: addresses and names end up in files.

Source: CNI specification 0.3 to 1.1, section 5 "Result types".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import attrs

from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

MAX_RESULT_SIZE: Final = 1024 * 1024  # bytes
_RESULT: Final = frozenset(["cniVersion", "interfaces", "ips", "routes", "dns"])
_INTERFACE: Final = frozenset(["name", "mac", "sandbox", "mtu", "socketPath", "pciID"])
_IP: Final = frozenset(["interface", "address", "gateway", "version"])
_ROUTE: Final = frozenset(["dst", "gw", "mtu", "advmss", "priority", "table", "scope"])
_DNS: Final = frozenset(["nameservers", "domain", "search", "options"])

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen(kw_only=True)
class CNIInterface:
    """A network interface a plugin made; with `sandbox` "" it is the host's."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None  # 1.1
    socket_path: str = ""  # 1.1
    pci_id: str = ""  # 1.1


@attrs.frozen(kw_only=True)
class CNIAddress:
    """An address given out, with the length of its network's prefix; `interface` counts into the interfaces."""

    address: IPInterface
    gateway: IPAddress | None = None
    interface: int | None = None


@attrs.frozen(kw_only=True)
class CNIRoute:
    """A route made in the container."""

    destination: IPNetwork
    gateway: IPAddress | None = None
    mtu: int | None = None  # 1.1, as all below
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


@attrs.frozen(kw_only=True)
class CNIDns:
    """What a network wants names to be resolved with."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class CNIResult:
    """What attaching a container to a network has made. `document` is the plugin's own, with what is unknown here."""

    cni_version: str
    interfaces: tuple[CNIInterface, ...] = ()
    ips: tuple[CNIAddress, ...] = ()
    routes: tuple[CNIRoute, ...] = ()
    dns: CNIDns = CNIDns()
    document: Mapping[str, object] = attrs.field(repr=False, eq=False, factory=dict)

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The container's addresses, without prefixes; those of the host's side are not among them."""
        return tuple(ip.address.ip for ip in self.ips if self._is_inside(ip))

    def _is_inside(self, ip: CNIAddress) -> bool:
        return ip.interface is None or bool(self.interfaces[ip.interface].sandbox)


def parse_result(data: bytes, *, what: str) -> CNIResult:
    """Read a plugin's answer.

    Raises:
        InvalidArgumentError: It is no result of the versions 0.3 to 1.1.
    """
    return result_from(load_object(data, what=what, max_size=MAX_RESULT_SIZE), what=what)


def result_from(document: Mapping[str, object], *, what: str) -> CNIResult:
    """Read a result from a parsed document.

    Raises:
        InvalidArgumentError: It is none.
    """
    fields = Fields(members=document, known=_RESULT, what=what)
    interfaces = tuple(_interface(child) for child in fields.nested_array("interfaces", _INTERFACE))
    dns = fields.nested("dns", _DNS)
    return CNIResult(
        cni_version=fields.string("cniVersion"),
        interfaces=interfaces,
        ips=tuple(_ip(child, len(interfaces)) for child in fields.nested_array("ips", _IP)),
        routes=tuple(_route(child) for child in fields.nested_array("routes", _ROUTE)),
        dns=CNIDns() if dns is None else _dns(dns),
        document=document,
    )


def _interface(fields: Fields) -> CNIInterface:
    return CNIInterface(
        name=_plain(fields, "name"),
        mac=_plain(fields, "mac"),
        sandbox=fields.string("sandbox"),
        mtu=fields.integer("mtu"),
        socket_path=fields.string("socketPath"),
        pci_id=_plain(fields, "pciID"),
    )


def _ip(fields: Fields, interfaces: int) -> CNIAddress:
    index = fields.integer("interface")
    if index is not None and not 0 <= index < interfaces:
        raise fields.error("interface", f"there is no interface {index}")
    try:
        address = ipaddress.ip_interface(fields.string("address"))
    except ValueError as error:
        raise fields.error("address", str(error)) from error
    return CNIAddress(address=address, gateway=_address(fields, "gateway"), interface=index)


def _route(fields: Fields) -> CNIRoute:
    try:
        destination = ipaddress.ip_network(fields.string("dst"), strict=False)
    except ValueError as error:
        raise fields.error("dst", str(error)) from error
    return CNIRoute(
        destination=destination,
        gateway=_address(fields, "gw"),
        mtu=fields.integer("mtu"),
        advmss=fields.integer("advmss"),
        priority=fields.integer("priority"),
        table=fields.integer("table"),
        scope=fields.integer("scope"),
    )


def _dns(fields: Fields) -> CNIDns:
    lists = {key: fields.strings(key) for key in ("nameservers", "search", "options")}
    for key, words in lists.items():
        for word in words:
            _check_word(fields, key, word)
    return CNIDns(domain=_plain(fields, "domain"), **lists)


def _address(fields: Fields, key: str) -> IPAddress | None:
    text = fields.string(key)
    if not text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise fields.error(key, str(error)) from error


def _plain(fields: Fields, key: str) -> str:
    text = fields.string(key)
    _check_word(fields, key, text)
    return text


def _check_word(fields: Fields, key: str, word: str) -> None:
    """Refuse what would be more than one word in a file such as resolv.conf."""
    if not word.isprintable() or any(character.isspace() for character in word) or len(word) > 253:
        raise fields.error(key, f"{word[:64]!a} is not one printable word")
