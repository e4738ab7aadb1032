"""The distribution API over some content: what a well-behaved registry answers. Knows no faults, no sockets."""

import json
import re
import uuid
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from tests.harness.http_wire import Headers, Request, Response
from tests.harness.registry_actions import error_response, json_response
from tests.harness.registry_content import INDEX, Content, digest_of

_NAME: Final = r"/v2/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_RANGE: Final = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_UPLOAD_RANGE: Final = re.compile(r"(?P<first>\d+)-(?P<last>\d+)")


class RegistryService:
    """Answer requests; uploads under way are part of the service, not of the content."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.uploads: dict[str, bytearray] = {}  # by upload id
        routes: list[tuple[str, Callable[..., Response]]] = [
            (r"/v2/", self._ping),
            (r"/v2/_catalog", self._catalog),
            (rf"{_NAME}/tags/list", self._tags),
            (rf"{_NAME}/manifests/(?P<reference>[^/]+)", self._manifest),
            (rf"{_NAME}/blobs/uploads/", self._start_upload),
            (rf"{_NAME}/blobs/uploads/(?P<upload>[^/]+)", self._upload),
            (rf"{_NAME}/blobs/(?P<digest>[^/]+)", self._blob),
            (rf"{_NAME}/referrers/(?P<digest>[^/]+)", self._referrers),
        ]
        self._routes = [(re.compile(pattern), route) for pattern, route in routes]

    async def handle(self, request: Request) -> Response:
        for pattern, route in self._routes:
            if found := pattern.fullmatch(request.path):
                response = route(request, **found.groupdict())
                response.headers.set("Docker-Distribution-API-Version", "registry/2.0")
                return response
        return error_response(404, "NAME_UNKNOWN", "no such path")

    # -- reading ------------------------------------------------------------------------------------------------

    def _ping(self, _request: Request) -> Response:
        return Response(status=200, headers=Headers({"Content-Type": "application/json"}), body=b"{}")

    def _catalog(self, _request: Request) -> Response:
        return json_response({"repositories": sorted(self.content.repositories)})

    def _tags(self, request: Request, name: str) -> Response:
        if name not in self.content.repositories:
            return error_response(404, "NAME_UNKNOWN", name)
        tags = sorted(self.content.repository(name).tags)
        last = request.query.get("last", "")
        tags = [tag for tag in tags if tag > last]
        size = int(request.query.get("n") or len(tags))
        response = json_response({"name": name, "tags": tags[:size]})
        if size and len(tags) > size:
            following = f"/v2/{name}/tags/list?n={size}&last={quote(tags[size - 1])}"
            response.headers.set("Link", f'<{following}>; rel="next"')
        return response

    def _manifest(self, request: Request, name: str, reference: str) -> Response:
        if request.method == "PUT":
            return self._put_manifest(request, name, reference)
        found = self.content.repository(name).manifest(reference)
        if found is None:
            return error_response(404, "MANIFEST_UNKNOWN", reference)
        digest, stored = found
        if request.method == "DELETE":
            return self._delete_manifest(name, reference, digest)
        headers = Headers({"Content-Type": stored.media_type, "Docker-Content-Digest": digest})
        return Response(status=200, headers=headers, body=stored.data)

    def _blob(self, request: Request, name: str, digest: str) -> Response:
        blobs = self.content.repository(name).blobs
        if digest not in blobs:
            return error_response(404, "BLOB_UNKNOWN", digest)
        if request.method == "DELETE":
            del blobs[digest]
            return Response(status=202)
        body = memoryview(blobs[digest])
        headers = Headers(
            {
                "Content-Type": "application/octet-stream",
                "Docker-Content-Digest": digest,
                "Accept-Ranges": "bytes",
                "ETag": f'"{digest}"',
            }
        )
        if not (wanted := _RANGE.fullmatch(request.headers.get("Range"))):
            return Response(status=200, headers=headers, body=body)
        first, last = _bounds(wanted["first"], wanted["last"], len(body))
        if not 0 <= first <= last < len(body):
            response = error_response(416, "RANGE_INVALID", request.headers.get("Range"))
            response.headers.set("Content-Range", f"bytes */{len(body)}")
            return response
        headers.set("Content-Range", f"bytes {first}-{last}/{len(body)}")
        return Response(status=206, headers=headers, body=body[first : last + 1])

    def _referrers(self, _request: Request, name: str, digest: str) -> Response:
        found = []
        for referrer, stored in self.content.repository(name).manifests.items():
            document = json.loads(stored.data)
            if (document.get("subject") or {}).get("digest") == digest:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
                size = len(stored.data)
                found.append({"mediaType": stored.media_type, "digest": referrer, "size": size, "artifactType": kind})
        response = json_response({"schemaVersion": 2, "mediaType": INDEX, "manifests": found})
        response.headers.set("Content-Type", INDEX)
        return response

    # -- writing ------------------------------------------------------------------------------------------------

    def _start_upload(self, request: Request, name: str) -> Response:
        if request.method != "POST":
            return error_response(405, "UNSUPPORTED", request.method)
        query = request.query
        source = self.content.repositories.get(query.get("from", ""))
        if "mount" in query and source is not None and query["mount"] in source.blobs:
            self.content.repository(name).blobs[query["mount"]] = source.blobs[query["mount"]]
            return _created(name, "blobs", query["mount"])
        if "digest" in query:
            return self._finish_upload(name, request.body, query["digest"])
        upload = uuid.uuid4().hex
        self.uploads[upload] = bytearray()
        return self._accepted(name, upload)

    def _upload(self, request: Request, name: str, upload: str) -> Response:
        received = self.uploads.get(upload)
        if received is None:
            return error_response(404, "BLOB_UPLOAD_UNKNOWN", upload)
        if request.method == "GET":
            response = self._accepted(name, upload)
            response.status = 204
            return response
        if request.method == "DELETE":
            del self.uploads[upload]
            return Response(status=204)
        if sent := _UPLOAD_RANGE.fullmatch(request.headers.get("Content-Range").removeprefix("bytes ")):
            wrong_length = int(sent["last"]) - int(sent["first"]) + 1 != len(request.body)
            if int(sent["first"]) != len(received) or wrong_length:
                response = self._accepted(name, upload)
                response.status = 416
                return response
        received += request.body
        if request.method == "PATCH":
            return self._accepted(name, upload)
        if request.method != "PUT":
            return error_response(405, "UNSUPPORTED", request.method)
        del self.uploads[upload]
        return self._finish_upload(name, bytes(received), request.query.get("digest", ""))

    def _accepted(self, name: str, upload: str) -> Response:
        headers = Headers(
            {
                "Location": f"/v2/{name}/blobs/uploads/{upload}",
                "Docker-Upload-UUID": upload,
                "Range": f"0-{max(0, len(self.uploads[upload]) - 1)}",
            }
        )
        return Response(status=202, headers=headers)

    def _finish_upload(self, name: str, data: bytes, digest: str) -> Response:
        if digest != digest_of(data):
            return error_response(400, "DIGEST_INVALID", digest)
        self.content.repository(name).blobs[digest] = data
        return _created(name, "blobs", digest)

    def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        digest = digest_of(request.body)
        if ":" in reference and reference != digest:
            return error_response(400, "DIGEST_INVALID", reference)
        try:
            document = json.loads(request.body)
            children = [child["digest"] for child in document.get("manifests", [])]
            blobs = [blob["digest"] for blob in [document.get("config"), *document.get("layers", [])] if blob]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return error_response(400, "MANIFEST_INVALID", repr(error))
        repository = self.content.repository(name)
        missing = [child for child in children if child not in repository.manifests]
        missing += [blob for blob in blobs if blob not in repository.blobs]
        if missing:
            return error_response(404, "MANIFEST_BLOB_UNKNOWN", ", ".join(missing))
        tag = None if ":" in reference else reference
        media_type = request.headers.get("Content-Type")
        self.content.add_manifest(request.body, repository=name, tag=tag, media_type=media_type)
        response = _created(name, "manifests", digest)
        if subject := (document.get("subject") or {}).get("digest"):
            response.headers.set("OCI-Subject", subject)
        return response

    def _delete_manifest(self, name: str, reference: str, digest: str) -> Response:
        repository = self.content.repository(name)
        if reference in repository.tags:
            del repository.tags[reference]
        else:
            del repository.manifests[digest]
            repository.tags = {tag: target for tag, target in repository.tags.items() if target != digest}
        return Response(status=202)


def _created(name: str, kind: str, digest: str) -> Response:
    headers = Headers({"Location": f"/v2/{name}/{kind}/{digest}", "Docker-Content-Digest": digest})
    return Response(status=201, headers=headers)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Turn a byte range of RFC 9110 into its first and last byte."""
    if not first:
        return (max(0, size - int(last)), size - 1) if last else (0, -1)
    return int(first), min(int(last), size - 1) if last else size - 1
