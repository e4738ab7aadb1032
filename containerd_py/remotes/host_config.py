"""A host to ask for content, as a value: where it is, what for, and what to show it."""

from __future__ import annotations

from enum import Flag, auto
from typing import Final

import attrs

from containerd_py.references import DEFAULT_DOMAIN
from containerd_py.remotes.origins import Origin, origin_of
from containerd_py.remotes.secret import Secret
from containerd_py.remotes.tls import NO_FILES, TLSFiles

HUB_HOST: Final = "registry-1.docker.io"


class Capability(Flag):
    """What a host may be asked for."""

    PULL = auto()
    RESOLVE = auto()
    PUSH = auto()
    REFERRERS = auto()
    ALL = PULL | RESOLVE | PUSH | REFERRERS


@attrs.frozen(kw_only=True)
class HostConfig:
    """One host to ask: where it is, what for, and what to show it.

    `path` is the root of its API, `skip_verify` None where nothing is said, `dial_timeout` in seconds. The headers are
    secrets of this host's origin.
    """

    origin: Origin
    path: str = "/v2"
    capabilities: Capability = Capability.ALL
    tls: TLSFiles = NO_FILES
    skip_verify: bool | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    dial_timeout: float | None = None

    @property
    def name(self) -> str:
        """The host as messages and the credentials' owner know it."""
        return self.origin.authority

    def is_mirror_of(self, domain: str) -> bool:
        """Tell whether the host stands in for a registry of another name, and so must be told which."""
        if domain == DEFAULT_DOMAIN:
            return self.name != HUB_HOST
        return self.origin != origin_of(f"{self.origin.scheme}://{domain}")


@attrs.frozen(kw_only=True)
class RootConfig:
    """What a hosts directory says of the registry itself: `server` None leaves its own address."""

    server: HostConfig | None = None
    tls: TLSFiles = NO_FILES
    skip_verify: bool | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    dial_timeout: float | None = None
