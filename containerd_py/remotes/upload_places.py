"""Where a registry says that an upload goes. Pure: reads Location headers, which are a stranger's words."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs

from containerd_py.errors import RegistryError
from containerd_py.remotes.failures import refused_target
from containerd_py.remotes.origins import Origin, origin_of, target_of
from containerd_py.remotes.responses import Response

_PLAIN_PORT: Final = 80


@attrs.frozen(kw_only=True)
class Place:
    """A place that takes (the rest of) a blob, from a byte on."""

    url: str
    offset: int = 0

    def is_at(self, origin: Origin) -> bool:
        """Tell whether this is a place of an origin, to which its credentials may be shown."""
        return origin_of(self.url) == origin

    def closing_url(self, digest: str) -> str:
        """Write the URL that takes the last bytes, and stores the blob under its digest."""
        query = urlsplit(self.url).query
        if any(key == "digest" for key, _ in parse_qsl(query)):
            return self.url  # a redirect of such a URL
        return f"{self.url}{'&' if query else '?'}{urlencode({'digest': digest})}"


def place_of(response: Response, host: Origin, *, offset: int = 0, before: Place | None = None) -> Place:
    """Read where an upload goes on. `before` is where it was, should the answer not say.

    Raises:
        RegistryError: The answer does not say, or names a place that nothing is sent to.
    """
    location = response.header("Location")
    if location is None:
        if before is None:
            reason = f"{response.host} takes an upload without saying where it goes (no Location to {response.asked})"
            raise RegistryError(reason, host=response.host, status=response.status)
        return Place(url=before.url, offset=offset)
    url = target_of(response.url, location)
    try:
        origin = origin_of(url)
    except ValueError as error:
        raise refused_target(response.host, url, str(error)) from None
    if host.scheme == "https" and origin.scheme == "http":
        # Behind a front end that does TLS for it, a registry may believe that it speaks plain HTTP.
        if origin.host != host.host or origin.port not in {_PLAIN_PORT, host.port}:
            raise refused_target(response.host, url, "it leaves TLS")
        url = urlsplit(url)._replace(scheme=host.scheme, netloc=host.authority).geturl()
    return Place(url=url, offset=offset)
