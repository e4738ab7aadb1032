"""Lists that a registry gives page by page: tags, repositories, referrers. Bounded, and never led to another origin.

Source: OCI distribution specification 1.1, "Content Discovery"; RFC 8288 (Link).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from anyio import to_thread

from containerd_py.errors import InvalidArgumentError, RegistryError
from containerd_py.oci.strict_json import load_object
from containerd_py.remotes.exchange import Attempts, again_if_dropped
from containerd_py.remotes.failures import refused_target
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.origins import origin_of, target_of
from containerd_py.remotes.responses import Response
from containerd_py.types import NO_LABELS

PAGE_SIZE: Final = 1000  # names asked for at once
MAX_PAGE_SIZE: Final = 8 * 1024 * 1024  # bytes

_LINK_RE: Final = re.compile(r"""\s*<([^<>"\s]{1,8192})>([^,<>]{0,256})(?:,|$)""", re.ASCII)
_NEXT_RE: Final = re.compile(r""";\s*rel\s*=\s*(?:"next"|next)\s*(?:;|$)""", re.ASCII | re.IGNORECASE)
_OK: Final = 200


class Pages:
    """The pages of one list, from its first URL on."""

    def __init__(
        self, client: HostClient, url: str, *, what: str, scopes: Collection[str] | None = None, accept: str = "*/*"
    ) -> None:
        self._client = client
        self._limits = client.session.limits
        self._what = what
        self._scopes = scopes
        self._headers = {"Accept": accept}
        self._url: str | None = url
        self._seen: set[str] = set()
        self._count = 0

    async def next(self) -> bytes | None:
        """Fetch the next page; None after the last one.

        Raises:
            RegistryError: The host refused or failed, there are too many pages, or they lead in a circle or elsewhere.
        """
        if self._url is None:
            return None
        if len(self._seen) >= self._limits.max_pages or self._url in self._seen:
            where = "in a circle" if self._url in self._seen else f"on after {len(self._seen)} pages"
            raise self._error(f"goes {where}")
        self._seen.add(self._url)
        url, attempts = self._url, Attempts(self._limits)
        return await again_if_dropped(attempts, lambda: self._fetch(url, attempts))

    def count(self, found: int) -> None:
        """Count what a page had.

        Raises:
            RegistryError: It is too much by now.
        """
        self._count += found
        if self._count > self._limits.max_listed:
            raise self._error(f"has more than {self._limits.max_listed} entries")

    async def _fetch(self, url: str, attempts: Attempts) -> bytes:
        with await self._client.send("GET", url, self._headers, attempts, scopes=self._scopes) as response:
            if response.status != _OK:
                raise await self._client.refusal(response)
            page = await response.read(MAX_PAGE_SIZE)
            if len(page) > MAX_PAGE_SIZE:
                raise self._error(f"has a page of more than {MAX_PAGE_SIZE} bytes")
            self._url = self._next_url(response)
        return page

    def _next_url(self, response: Response) -> str | None:
        link = next_link(response.headers("Link"))
        if link is None:
            return None
        url = target_of(response.url, link)
        try:
            is_own = origin_of(url) == self._client.host.origin
        except ValueError as error:
            raise refused_target(self._client.name, url, str(error)) from None
        if not is_own:
            raise refused_target(self._client.name, url, f"{self._what} goes on at another origin")
        return url

    def _error(self, reason: str) -> RegistryError:
        return RegistryError(f"{self._what} of {self._client.name} {reason}", host=self._client.name)


async def list_names(
    client: HostClient, url: str, key: str, pattern: re.Pattern[str], what: str, scopes: Collection[str] | None = None
) -> list[str]:
    """Collect the names that a list holds under `key`, each once and in its order.

    Raises:
        RegistryError: As `Pages.next`; or what is listed are no names.
    """
    pages = Pages(client, url, what=what, scopes=scopes, accept="application/json")
    names: dict[str, None] = {}
    while (page := await pages.next()) is not None:
        found = await to_thread.run_sync(_names_of, page, key, pattern)
        if found is None:
            raise RegistryError(f"{what} of {client.name} is malformed", host=client.name)
        pages.count(len(found))
        names |= dict.fromkeys(found)
    return list(names)


def next_link(headers: Collection[str]) -> str | None:
    """Find where a list goes on; None where it ends."""
    for header in headers:
        position = 0
        while matched := _LINK_RE.match(header, position):
            if _NEXT_RE.search(matched[2]):
                return matched[1]
            position = matched.end()
    return None


def page_query(query: Mapping[str, str] = NO_LABELS) -> dict[str, str]:
    """Return the query that asks for large pages."""
    return {"n": str(PAGE_SIZE), **query}


def _names_of(page: bytes, key: str, pattern: re.Pattern[str]) -> list[str] | None:
    try:
        names = load_object(page, what="list", max_size=MAX_PAGE_SIZE, fold_case=False).get(key)
    except InvalidArgumentError:
        return None
    if names is None:
        return []  # what Go writes for a list of nothing
    if not isinstance(names, list) or not all(isinstance(name, str) and pattern.fullmatch(name) for name in names):
        return None
    return names
