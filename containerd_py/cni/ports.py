"""Published ports: what users write, which host ports are taken, which one is chosen.

Source: nerdctl's --publish (`[IP:][HOST:]CONTAINER[/PROTOCOL]`, ranges) and its range of chosen ports.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, cast, get_args

import attrs

from containerd_py.cni.cache import ResultCache
from containerd_py.cni.netns import in_netns
from containerd_py.errors import AlreadyExistsError, InvalidArgumentError, ResourceExhaustedError

Protocol = Literal["tcp", "udp", "sctp"]
ANYWHERE: Final = "0.0.0.0"  # noqa: S104  # all addresses, as everywhere; one is the caller's to name
CHOSEN_PORTS: Final = range(49153, 61000)  # as Docker and nerdctl
_MAX_PORT: Final = 65535
_MAPPING_RE: Final = re.compile(
    r"(?:(?:\[(?P<ip6>[0-9a-fA-F:.]+)\]|(?P<ip>[0-9]+(?:[.][0-9]+){3})):)?"
    r"(?:(?P<host>[0-9-]*):)?(?P<inside>[0-9-]+)(?:/(?P<kind>\w+))?",
    re.ASCII,
)
_TIME_WAIT, _CLOSE_WAIT = "06", "08"  # states in /proc/net/tcp that leave a port free


@attrs.frozen(kw_only=True)
class PortMapping:
    """A container's port that is reached at a port of the host."""

    host_ip: str = ANYWHERE
    host_port: int
    container_port: int
    protocol: Protocol = "tcp"

    def to_document(self) -> dict[str, object]:
        """Return what plugins are told, in the words of the "portMappings" capability."""
        return {
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol,
            "hostIP": self.host_ip,
        }

    def to_request(self) -> PortRequest:
        """Return the wish for just this."""
        return PortRequest(
            host_ip=self.host_ip,
            host_ports=(self.host_port,),
            container_port=self.container_port,
            protocol=self.protocol,
        )

    def __str__(self) -> str:
        ip = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{ip}:{self.host_port}:{self.container_port}/{self.protocol}"


@attrs.frozen(kw_only=True)
class PortRequest:
    """A port to publish, at the first free one of some host ports."""

    host_ip: str
    host_ports: Sequence[int]
    container_port: int
    protocol: Protocol


def parse_ports(ports: Iterable[str | int | PortMapping]) -> list[PortRequest]:
    """Read what users write: "80", "8080:80", "127.0.0.1:8080:80/tcp", "[::1]:53:53/udp", "8000-8002:80-82".

    Without a host port one is chosen; of a range for a single container port, the first free one.

    Raises:
        InvalidArgumentError: It is none of that.
    """
    if isinstance(ports, str):
        raise InvalidArgumentError(f"ports must be a list, not the string {ports!r}")
    return [request for port in ports for request in _parse(port)]


def _parse(port: str | int | PortMapping) -> Iterator[PortRequest]:
    if isinstance(port, PortMapping):
        port = str(port)
    match = _MAPPING_RE.fullmatch(str(port))
    if match is None:
        raise InvalidArgumentError(f"port {str(port)[:64]!a}: write [IP:][HOST:]CONTAINER[/PROTOCOL]")
    protocol = (match["kind"] or "tcp").lower()
    if protocol not in get_args(Protocol):
        raise InvalidArgumentError(f"port {str(port)[:64]!a}: the protocol is one of {', '.join(get_args(Protocol))}")
    ip = _ip(match["ip6"] or match["ip"] or ANYWHERE, port)
    inside = _range(match["inside"], port)
    outside = _range(match["host"], port) if match["host"] else None
    if outside is not None and len(outside) != len(inside) and len(inside) != 1:
        raise InvalidArgumentError(f"port {str(port)[:64]!a}: the ranges differ in length")
    for number, container_port in enumerate(inside):
        if outside is None:
            hosts: Sequence[int] = CHOSEN_PORTS
        else:
            hosts = outside if len(inside) == 1 else outside[number : number + 1]
        yield PortRequest(
            host_ip=ip, host_ports=hosts, container_port=container_port, protocol=cast("Protocol", protocol)
        )


def _ip(text: str, port: object) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise InvalidArgumentError(f"port {str(port)[:64]!a}: {error}") from error


def _range(text: str, port: object) -> range:
    first, _, last = text.partition("-")
    if re.fullmatch(r"[0-9]{1,5}", first) and re.fullmatch(r"[0-9]{0,5}", last):
        low, high = int(first), int(last or first)
        if 1 <= low <= high <= _MAX_PORT and (last or "-" not in text):
            return range(low, high + 1)
    raise InvalidArgumentError(f"port {str(port)[:64]!a}: ports are 1 to {_MAX_PORT}, ranges low-high")


def choose_ports(requests: Iterable[PortRequest], cache: ResultCache, netns: Path | None) -> list[PortMapping]:
    """Settle the host port of each request. Blocks; what holds the networks' lock keeps others from the same ports.

    Raises:
        AlreadyExistsError: A port that was asked for is taken.
        ResourceExhaustedError: All ports to choose from are taken.
    """
    wanted = list(requests)
    if not wanted:
        return []
    taken = {*_listening(netns), *_published(cache)}
    chosen = []
    for request in wanted:
        port = next((port for port in request.host_ports if _is_free(request, port, taken)), None)
        if port is None:
            raise _no_port(request)
        taken.add((request.protocol, request.host_ip, port))
        chosen.append(
            PortMapping(
                host_ip=request.host_ip,
                host_port=port,
                container_port=request.container_port,
                protocol=request.protocol,
            )
        )
    return chosen


def _no_port(request: PortRequest) -> Exception:
    if len(request.host_ports) == 1:
        return AlreadyExistsError(
            f"port {request.host_ports[0]}/{request.protocol} of {request.host_ip} is taken: "
            "publish another one, or leave the host port out and one is chosen"
        )
    low, high = request.host_ports[0], request.host_ports[-1]
    return ResourceExhaustedError(f"all ports {low}-{high}/{request.protocol} of {request.host_ip} are taken")


def _is_free(request: PortRequest, port: int, taken: set[tuple[str, str, int]]) -> bool:
    everywhere = (ANYWHERE, "::")
    return not any(
        protocol == request.protocol
        and number == port
        and (ip == request.host_ip or ip in everywhere or request.host_ip in everywhere)
        for protocol, ip, number in taken
    )


def _published(cache: ResultCache) -> Iterator[tuple[str, str, int]]:
    """Yield what containers have published, those of other programs that use libcni's cache too."""
    for cached in cache.attachments():
        mappings = cached.attachment.capabilities.get("portMappings")
        for mapping in mappings if isinstance(mappings, list) else ():
            # Go's programs write the members as their structs call them.
            folded = {str(key).casefold(): value for key, value in mapping.items()} if isinstance(mapping, dict) else {}
            port = folded.get("hostport")
            if isinstance(port, int):
                ip = str(folded.get("hostip") or ANYWHERE)
                yield str(folded.get("protocol") or "tcp").lower(), ip, port


def _listening(netns: Path | None) -> Iterator[tuple[str, str, int]]:
    for name, text in in_netns(netns, _socket_tables).items():
        protocol = name.removesuffix("6")
        for line in text.splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, port = local.partition(":")
            if state not in {_TIME_WAIT, _CLOSE_WAIT}:
                yield protocol, _address(address), int(port, 16)


def _socket_tables() -> dict[str, str]:
    # Of the thread, not of the process: only the thread is in the namespace.
    tables = {name: Path(f"/proc/thread-self/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6")}
    return {name: path.read_text() for name, path in tables.items() if path.exists()}


def _address(digits: str) -> str:
    words = [int.from_bytes(bytes.fromhex(digits[start : start + 8]), "little") for start in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, "big") for word in words)
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
