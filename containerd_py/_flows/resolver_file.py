"""A container's resolv.conf: the caller's wishes, else the network's, else the host's, without what only works there.

Source: nerdctl and Docker, which leave out resolvers on loopback addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

from containerd_py.cni.results import CNIDns
from containerd_py.errors import InvalidArgumentError

_HOST_FILE: Final = Path("/etc/resolv.conf")
_SYSTEMD_FILE: Final = Path("/run/systemd/resolve/resolv.conf")  # behind the stub on 127.0.0.53
_STUB: Final = "127.0.0.53"
_FALLBACK: Final = ("8.8.8.8", "8.8.4.4")  # as Docker and nerdctl
_MAX_SIZE: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class ResolverWish:
    """What a container's names are resolved with; empty where the host's own will do."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any wish."""
        return bool(self.nameservers or self.search or self.options)


def resolver_wish(nameservers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> ResolverWish:
    """Check what the caller wants.

    Raises:
        InvalidArgumentError: A server is no address, or a word is none.
    """
    for words, what in ((nameservers, "dns"), (search, "dns_search"), (options, "dns_options")):
        if isinstance(words, str):
            raise InvalidArgumentError(f"{what} must be a list, not the string {words!r}")
        for word in words:
            if not word or not word.isprintable() or any(character.isspace() for character in word):
                raise InvalidArgumentError(f"{what}: {word[:64]!a} is not one word")
    for server in nameservers:
        try:
            ipaddress.ip_address(server)
        except ValueError as error:
            raise InvalidArgumentError(f"dns: {error}") from error
    return ResolverWish(nameservers=tuple(nameservers), search=tuple(search), options=tuple(options))


def resolver_text(wish: ResolverWish, offered: Iterable[CNIDns] = (), *, shares_host: bool = False) -> str:
    """Return the file's text; `offered` is what networks want; `shares_host`: loopback is the host's. Blocks."""
    host = _parse(_host_text())
    from_networks = list(offered)
    nameservers = wish.nameservers or tuple(server for dns in from_networks for server in dns.nameservers)
    search = wish.search or tuple(domain for dns in from_networks for domain in (dns.domain, *dns.search) if domain)
    options = wish.options or tuple(option for dns in from_networks for option in dns.options)
    reachable = host.nameservers if shares_host else tuple(filter(_is_reachable, host.nameservers))
    lines = [f"nameserver {server}" for server in nameservers or reachable or _FALLBACK]
    if words := search or host.search:
        lines.insert(0, f"search {' '.join(words)}")
    if words := options or host.options:
        lines.append(f"options {' '.join(words)}")
    return "".join(f"{line}\n" for line in lines)


def _host_text() -> str:
    text = _read(_HOST_FILE)
    if _parse(text).nameservers == (_STUB,) and _SYSTEMD_FILE.exists():
        return _read(_SYSTEMD_FILE)
    return text


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SIZE).decode(errors="replace")
    except OSError:
        return ""


def _parse(text: str) -> ResolverWish:
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        keyword, *words = line.partition("#")[0].split() or [""]
        if keyword == "nameserver":
            found["nameserver"] += words[:1]
        elif keyword in {"search", "options"}:
            found[keyword] = words  # the last one counts (resolv.conf(5))
        elif keyword == "domain":
            found["search"] = words[:1]
    return ResolverWish(
        nameservers=tuple(found["nameserver"]), search=tuple(found["search"]), options=tuple(found["options"])
    )


def _is_reachable(server: str) -> bool:
    try:
        return not ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False
