"""HTTP proxies from the environment, by Go's rules: HTTPS_PROXY, HTTP_PROXY, NO_PROXY. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.remotes.origins import Origin, literal
from containerd_py.remotes.secret import Secret


@attrs.frozen(kw_only=True)
class Proxies:
    """Which proxy to go through, and where not to. The URLs may hold passwords."""

    https: Secret | None = None
    http: Secret | None = None
    bypass: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Read the variables, upper or lower case.

        Raises:
            InvalidArgumentError: A proxy is of a kind not spoken here.
        """
        bypass = tuple(part.strip().lower() for part in _variable(environment, "no_proxy").split(",") if part.strip())
        https, http = _proxy(environment, "https_proxy"), _proxy(environment, "http_proxy")
        if "REQUEST_METHOD" in environment:
            http = None  # under CGI the variable is a request's header, set by a stranger
        return cls(https=https, http=http, bypass=bypass)

    def choose(self, origin: Origin) -> Secret | None:
        """Choose the proxy for an origin; loopback is never proxied."""
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or origin.is_loopback or any(_matches(pattern, origin) for pattern in self.bypass):
            return None
        return proxy


def _variable(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name.upper()) or environment.get(name) or "").strip()


def _proxy(environment: Mapping[str, str], name: str) -> Secret | None:
    proxy = _variable(environment, name)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        del proxy  # it may hold a password, and tracebacks may show it
        raise InvalidArgumentError(f"{name.upper()} is no http:// or https:// URL of a proxy: fix or unset it")
    return Secret(proxy)


def _matches(pattern: str, origin: Origin) -> bool:
    if pattern == "*":
        return True
    address = literal(origin.host)
    if "/" in pattern:
        try:
            return address is not None and address in ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            return False
    host, colon, port = pattern.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.endswith("]")):
        if port != str(origin.port):
            return False
        pattern = host
    pattern = pattern.removeprefix("[").removesuffix("]")
    if address is not None:
        return literal(pattern) == address
    if pattern.startswith("*."):
        pattern = pattern[1:]
    if pattern.startswith("."):
        return origin.host.endswith(pattern)
    return origin.host == pattern or origin.host.endswith("." + pattern)
