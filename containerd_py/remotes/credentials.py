"""Who we are at which registry. Knows names and secrets; knows no protocol."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import attrs
from anyio import to_thread

from containerd_py.errors import InvalidArgumentError
from containerd_py.remotes.origins import Origin, origin_of
from containerd_py.remotes.secret import Secret, secret

HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
HUB = "docker.io"


@attrs.frozen(kw_only=True)
class Credential:
    """A user name and a secret. Without a user name the secret is a refresh (or identity) token."""

    username: str = ""
    secret: Secret = attrs.field(converter=secret)


CredentialLike: TypeAlias = Credential | tuple[str, str | Secret]
CredentialCallback: TypeAlias = Callable[[str], CredentialLike | Awaitable[CredentialLike | None] | None]
CredentialSource: TypeAlias = Mapping[str, CredentialLike] | CredentialCallback


def sealed(source: CredentialSource | None) -> CredentialSource | None:
    """Wrap the secrets of a mapping, and give its keys the one form they are looked up by.

    Raises:
        InvalidArgumentError: A key is no registry's address, or a value no pair of user name and secret.
    """
    if source is None or callable(source):
        return source
    if not isinstance(source, Mapping):
        raise InvalidArgumentError(
            "credentials are a function or a mapping by registry: {'registry.example': ('user', 'secret')}"
        )
    return {_check_key(key): _credential(value) for key, value in source.items()}


def key_of(origin: Origin) -> str:
    """Tell the one name a registry's credentials are kept under: host and port exactly, Docker Hub's names as one."""
    if origin.scheme == "https" and origin.authority in HUB_NAMES:
        return HUB
    return origin.authority


async def look_up(source: CredentialSource | None, origin: Origin) -> Credential | None:
    """Ask for the credentials of a registry, and of no other.

    Raises:
        InvalidArgumentError: The callback's answer is neither None nor a pair of user name and secret.
    """
    key = key_of(origin)
    if source is None:
        return None
    if callable(source):
        found = await _call(source, key)
    else:
        # A key written with its port holds for exactly that port, also where it is the scheme's own.
        found = source.get(key) or source.get(f"{origin.host}:{origin.port}")
    return None if found is None else _credential(found)


async def _call(callback: CredentialCallback, key: str) -> CredentialLike | None:
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        answer: Any = callback(key)
    else:
        answer = await to_thread.run_sync(callback, key, abandon_on_cancel=True)  # keyrings may take their time
    return cast("CredentialLike | None", await answer if inspect.isawaitable(answer) else answer)


def _credential(value: object) -> Credential:
    if isinstance(value, Credential):
        return value
    if isinstance(value, tuple | list) and len(value) == 2:
        username, hidden = value
        if isinstance(username, str) and isinstance(hidden, str | Secret):
            return Credential(username=username, secret=hidden)
    raise InvalidArgumentError("credentials are a pair of user name and secret, or a Credential")


def _check_key(key: str) -> str:
    """Read a key as a host with or without port; Docker Hub may be named in each of its ways."""
    try:
        origin = origin_of(f"https://{key.lower()}")
    except ValueError as error:
        raise InvalidArgumentError(f"{key!r} is no registry's address (host or host:port): {error}") from None
    if origin.authority != key.lower() and f"{origin.authority}:{origin.port}" != key.lower():
        raise InvalidArgumentError(f"{key!r} is no registry's address: give host or host:port alone")
    return HUB if key.lower() in HUB_NAMES else key.lower()
