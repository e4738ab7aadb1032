"""Where the bytes of one descriptor can be had: a host of the registry, or a URL the manifest names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol, TypeAlias

import attrs

from containerd_py.errors import RegistryError
from containerd_py.remotes.exchange import Attempts
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.responses import Response

Range: TypeAlias = tuple[int, int | None]
"""Bytes of some content: from where, and the byte after the last one; None: to the end."""

_MEDIA_TYPE_RE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}", re.ASCII)


class Source(Protocol):
    """Something that can be asked for a range of bytes."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    async def open(self, wanted: Range, *, last: bool) -> Response:
        """Ask for bytes; `last` says that there is no other source to turn to."""
        ...

    async def refusal(self, response: Response) -> RegistryError:
        """Make the error for an answer that is none."""
        ...


@attrs.frozen
class HostSource:
    """A blob or manifest at a host of the registry; `path` is below the repository."""

    client: HostClient
    kind: str
    digest: str
    media_type: str

    @property
    def name(self) -> str:
        """The host."""
        return self.client.name

    async def open(self, wanted: Range, *, last: bool) -> Response:
        """Ask the host, with all it demands."""
        url = self.client.url(self.kind, self.digest)
        attempts = Attempts(self.client.session.limits, last_host=last)
        return await self.client.send("GET", url, _headers(self.media_type, wanted), attempts)

    async def refusal(self, response: Response) -> RegistryError:
        """Make the error for an answer that is none."""
        return await self.client.refusal(response)


@attrs.frozen
class ForeignSource:
    """A URL that a descriptor names: asked without showing anything of ours."""

    client: HostClient
    url: str
    media_type: str

    @property
    def name(self) -> str:
        """The host that led us here."""
        return f"a URL named by {self.client.name}"

    async def open(self, wanted: Range, *, last: bool) -> Response:  # noqa: ARG002  the registry itself comes after it
        """Ask the URL."""
        return await self.client.send_elsewhere(self.url, _headers(self.media_type, wanted))

    async def refusal(self, response: Response) -> RegistryError:
        """Make the error for an answer that is none."""
        return await self.client.refusal(response)


def _headers(media_type: str, wanted: Range) -> Mapping[str, str]:
    # The media type is a stranger's: what cannot stand in a header is not asked for.
    headers = {"Accept": f"{media_type}, */*" if _MEDIA_TYPE_RE.fullmatch(media_type) else "*/*"}
    offset, end = wanted
    if end is not None:
        headers["Range"] = f"bytes={offset}-{end - 1}"
    elif offset:
        headers["Range"] = f"bytes={offset}-"
    return headers
