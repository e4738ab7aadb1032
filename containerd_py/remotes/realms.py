"""Whether a registry may send us to a token service. Pure.

A challenge is a stranger's text: it decides where credentials would go, so not everything it says is done.
"""

from __future__ import annotations

from collections.abc import Collection

from containerd_py.remotes.origins import Origin, origin_of


def check_realm(realm: str, registry: Origin, token_servers: Collection[str] | None) -> Origin:
    """Tell the origin of a token service that a registry may name.

    Over https any host may be named (Docker Hub and GitLab name another one than the registry), unless
    `token_servers` (host or host:port) lists the permitted ones. Plain HTTP is for registries that are asked over
    plain HTTP themselves, on the same host or both on loopback; and what such a registry says in the clear sends
    nobody to another host, unless the registry is on loopback or the service is listed.

    Raises:
        ValueError: It may not; the message says why.
    """
    try:
        service = origin_of(realm)
    except ValueError as error:
        raise ValueError(f"its URL is refused: {error}") from None
    if service == registry:
        return service
    listed = token_servers is not None and service.authority in token_servers
    if token_servers is not None and not listed:
        raise ValueError("it is not among the permitted token servers")
    near = service.host == registry.host or (service.is_loopback and registry.is_loopback)
    if service.scheme == "http" and not (registry.scheme == "http" and near):
        raise ValueError("credentials would go over plain HTTP")
    if registry.scheme == "http" and not (near or listed or registry.is_loopback):
        raise ValueError("a registry asked over plain HTTP names another host")
    return service
