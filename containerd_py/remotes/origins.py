"""URLs from strangers: which origin they have, how near to this machine they lead, how to show them. Does no I/O."""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit

import attrs

MAX_URL_LENGTH: Final = 8192

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_HOST_RE: Final = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+", re.ASCII)
_NUMERIC_RE: Final = re.compile(r"[0-9.]+|.*:.*", re.ASCII)  # an address, then, and in its usual notation only
_URL_RE: Final = re.compile(r"[!-~]+", re.ASCII)  # printable ASCII: no blanks, no line ends
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SHOWN_QUERY: Final = "ns"  # the only query value a message shows, as containerd does


class Reach(IntEnum):
    """How near an address is. An untrusted URL never leads nearer than the registry it came from."""

    PUBLIC = 0
    PRIVATE = 1  # another machine of the same network
    LOCAL = 2  # this machine, its link, or no address one could ask


@attrs.frozen(kw_only=True)
class Origin:
    """Scheme, host and port: what must be equal for credentials to be sent along."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The host with its port, where that is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host, as it is written, is this machine: localhost, 127.0.0.0/8 or ::1."""
        address = literal(self.host)
        return self.host == "localhost" or (address is not None and address.is_loopback)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def origin_of(url: str) -> Origin:
    """Tell the origin of an absolute http or https URL, strictly.

    Raises:
        ValueError: The URL is malformed, of another scheme, too long, or carries a user name.
    """
    if len(url) > MAX_URL_LENGTH or not _URL_RE.fullmatch(url) or "\\" in url:
        raise ValueError("it is malformed")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("only http and https are spoken here")
    if "@" in parts.netloc:
        raise ValueError("it carries a user name")
    host = (parts.hostname or "").lower()
    if not _HOST_RE.fullmatch(host) or (_NUMERIC_RE.fullmatch(host) and literal(host) is None):
        raise ValueError("its host is malformed")
    port = parts.port  # raises ValueError itself
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("its port is malformed")
    return Origin(scheme=parts.scheme, host=host, port=port or _DEFAULT_PORTS[parts.scheme])


def target_of(base: str, location: str) -> str:
    """Work out where a `Location` leads, without its fragment; a broken one stays as it is, to be refused."""
    location = location[: MAX_URL_LENGTH + 1].partition("#")[0]
    # urljoin would forgive an absolute URL without a host, and read it as a path.
    if location.startswith("//"):
        return f"{urlsplit(base).scheme}:{location}"
    try:
        return location if urlsplit(location).scheme else urljoin(base, location)
    except ValueError:
        return location


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a host that is an address, in its usual notation, brackets allowed."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def reach_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Reach:
    """Tell how near an address is; what wraps an IPv4 address is as near as that one."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return reach_of(wrapped)
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        return Reach.LOCAL
    if address.version == 4 and int(address) >> 24 in {0, 255}:
        return Reach.LOCAL
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def shown(url: str) -> str:
    """Write a URL for a message: user name out, query values out (signatures live there)."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return "(malformed URL)"
    values = [(key, value if key == _SHOWN_QUERY else "…") for key, value in query]
    netloc = parts.netloc.rpartition("@")[2]
    clean = SplitResult(parts.scheme, netloc, parts.path, urlencode(values, safe="…/:"), "").geturl()
    printable = "".join(character if character.isprintable() else "?" for character in clean)
    return printable if len(printable) <= 300 else printable[:300] + "…"
