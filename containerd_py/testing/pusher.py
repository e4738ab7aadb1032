"""Push an image layout into a registry with nothing but the standard library.

What seeds a registry must not be what the tests are about. Blocking: to be called in worker threads. Knows the
distribution specification.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final
from urllib.parse import urlsplit

import attrs

from containerd_py.errors import RegistryError
from containerd_py.testing.images import ImageLayout
from containerd_py.types import Descriptor

IO_LIMIT: Final = 60.0  # seconds for one request's progress


@attrs.frozen(kw_only=True)
class PushTarget:
    """A registry to push to. `address` is host:port; `tls` None means plain HTTP."""

    address: str
    tls: ssl.SSLContext | None = None
    user: str = ""
    password: str = attrs.field(default="", repr=False)


def answers(target: PushTarget) -> bool:
    """Tell whether a registry answers, be it with a demand for credentials."""
    with closing(_connection(target)) as http_connection:
        try:
            http_connection.request("GET", "/v2/")
            http_connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
    return True


def push_layout(layout: ImageLayout, target: PushTarget, *, repository: str, tag: str) -> Descriptor:
    """Push the image and everything in it; return what the tag now names.

    Raises:
        RegistryError: The registry refused something.
        OSError: It cannot be reached.
    """
    with closing(_Session(target, repository)) as session:
        for manifest in layout.manifests:
            for blob in layout.blobs_of(manifest):
                session.push_blob(layout, blob)
            session.push_manifest(layout, manifest, manifest.digest)
        session.push_manifest(layout, layout.target, tag)
    return layout.target


class _Session:
    """One HTTP connection to a repository."""

    def __init__(self, target: PushTarget, repository: str) -> None:
        self._http = _connection(target)
        self._target = target
        self._base = f"/v2/{repository}"
        self._headers = {}
        if target.user:
            secret = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"

    def close(self) -> None:
        self._http.close()

    def push_blob(self, layout: ImageLayout, blob: Descriptor) -> None:
        with self._request("HEAD", f"{self._base}/blobs/{blob.digest}", expected=(200, 404)) as reply:
            if reply.status == 200:
                return
        with self._request("POST", f"{self._base}/blobs/uploads/", expected=(202,)) as reply:
            place = urlsplit(reply.headers["Location"])
        url = f"{place.path}?{place.query}{'&' if place.query else ''}digest={blob.digest}"
        with layout.blob(blob.digest).open("rb") as body:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
            with self._request("PUT", url, headers=headers, body=body, expected=(201,)):
                pass

    def push_manifest(self, layout: ImageLayout, manifest: Descriptor, reference: str) -> None:
        data = layout.blob(manifest.digest).read_bytes()
        headers = {"Content-Type": manifest.media_type}
        with self._request("PUT", f"{self._base}/manifests/{reference}", headers=headers, body=data, expected=(201,)):
            pass

    @contextmanager
    def _request(
        self,
        method: str,
        url: str,
        *,
        expected: tuple[int, ...],
        headers: dict[str, str] | None = None,
        body: object = None,
    ) -> Iterator[http.client.HTTPResponse]:
        self._http.request(method, url, body=body, headers={**self._headers, **(headers or {})})  # type: ignore[arg-type]
        reply = self._http.getresponse()
        try:
            if reply.status not in expected:
                said = reply.read(2000).decode(errors="replace")
                raise RegistryError(
                    f"{method} {url.partition('?')[0]} answered {reply.status}: {said}",
                    host=self._target.address,
                    status=reply.status,
                )
            yield reply
        finally:
            reply.read()
            reply.close()


def _connection(target: PushTarget) -> http.client.HTTPConnection:
    if target.tls is None:
        return http.client.HTTPConnection(target.address, timeout=IO_LIMIT)
    return http.client.HTTPSConnection(target.address, timeout=IO_LIMIT, context=target.tls)
