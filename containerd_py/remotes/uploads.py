"""One blob on its way to one host: is it there, can it be mounted, else an upload, resumed where the host allows.

Source: OCI distribution specification 1.1, "Push"; containerd, core/remotes/docker (pusher).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal

import anyio
import attrs

from containerd_py.errors import (
    DigestMismatchError,
    RegistryAuthenticationError,
    RegistryConnectError,
    RegistryDisconnectedError,
    RegistryError,
    RegistryPermissionError,
    RegistryUnavailableError,
)
from containerd_py.oci.digests import algorithm_of, is_digest
from containerd_py.remotes.exchange import Attempts
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.limits import MAX_REDIRECTS
from containerd_py.remotes.responses import Response
from containerd_py.remotes.retries import backoff
from containerd_py.remotes.sending import Content
from containerd_py.remotes.upload_places import Place, place_of
from containerd_py.types import Descriptor

PushOutcome = Literal["uploaded", "already exists", "mounted"]
OpenContent = Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Given an offset and a number of bytes, lends those bytes of the blob; they are iterated in another task."""
Report = Callable[[int], None]

# Getting fewer bytes than this across is no progress: an upload is not resumed byte by byte.
MIN_PROGRESS: Final = 4096
# What a front end that takes no large body is sent instead (nginx takes 1 MiB if not told otherwise, Cloudflare 100).
SMALL_CHUNK: Final = 16 * 1024 * 1024

_RANGE_RE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,19})", re.ASCII)
_NUMBER_RE: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NO_CONTENT: Final = 204
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413
_RANGE_REFUSED: Final = 416
_BEGUN: Final = frozenset({_OK, _ACCEPTED, _NO_CONTENT})
_STORED: Final = frozenset({_OK, _CREATED, _NO_CONTENT})
_TAKEN: Final = frozenset({_OK, _CREATED, _ACCEPTED, _NO_CONTENT})
_MOVED: Final = frozenset({307, 308})
_SESSION_GONE: Final = frozenset({_NOT_FOUND, 410})
_NO_SUCH_METHOD: Final = frozenset({405, 501})
# What some answer to a mount they do not do, or not for us; without it they take the upload.
_MOUNT_REFUSED: Final = frozenset({400, 401, 403, 404, 405, 501})


@attrs.frozen(kw_only=True)
class _Sent:
    """A request with content that was sent; `answer` None says that other credentials were wanted."""

    place: Place
    until: int  # the byte after the last one it brought
    is_closing: bool
    answer: Response | None


class Upload:
    """A blob to be pushed to a host. `report` is told how many of its bytes are there."""

    def __init__(self, client: HostClient, descriptor: Descriptor, content: OpenContent, report: Report) -> None:
        self._client = client
        self._descriptor = descriptor
        self._open = content
        self._report = report
        self._limits = client.session.limits
        self._scopes = client.push_scopes
        self._chunk = self._limits.upload_chunk_size
        self._resumes = True  # until the host shows that it cannot
        self._has_resumed = False
        self._attempts = Attempts(self._limits)  # that brought next to nothing across, or to be begun anew
        self._stuck = 0  # connections in a row that brought next to nothing across
        self._moves = 0

    async def push(self, *, mount_from: str | None = None, check: bool = True) -> PushOutcome:
        """Bring the blob to the host; `check` asks first whether it is there.

        Raises:
            RegistryError: The host refused, failed or misbehaved.
            SizeMismatchError: The content has another size than the descriptor says.
            DigestMismatchError: The host says that it stored something else.
        """
        if check and await has_blob(self._client, self._descriptor, self._scopes):
            return "already exists"
        place = await self._begin() if mount_from is None else await self._mount_or_begin(mount_from)
        if place is None:
            return "mounted"
        while place is not None:
            place = await self._advance(place)
        return "uploaded"

    # ── upload sessions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> Place:
        """Ask for a place to upload to."""
        url = self._client.url("blobs", "uploads/")
        attempts = Attempts(self._limits)
        with await self._client.send("POST", url, {}, attempts, scopes=self._scopes, content=b"") as response:
            if response.status not in _BEGUN:
                raise await self._client.refusal(response)
            return self._place(response)

    async def _mount_or_begin(self, repository: str) -> Place | None:
        """Have the blob mounted from another repository, and return None; or a place to upload to, where it is not."""
        response = await self._mount(repository)
        if response is None:
            return await self._begin()
        with response:
            if response.status != _CREATED:
                return self._place(response)
            self._check_digest(response)
            return None

    async def _mount(self, repository: str) -> Response | None:
        """Ask for a mount; None where the host will not even begin an upload so."""
        digest = self._descriptor.digest
        url = self._client.url("blobs", "uploads/", {"mount": digest, "from": repository})
        scopes = (*self._scopes, f"repository:{repository}:pull")
        try:
            response = await self._client.send("POST", url, {}, Attempts(self._limits), scopes=scopes, content=b"")
        except RegistryAuthenticationError:
            return None  # of the other repository; whether this one may be written to, the upload will tell
        if response.status in _MOUNT_REFUSED:
            response.close()
            return None
        if response.status not in _TAKEN:
            raise await self._client.refusal(response)
        return response

    async def _advance(self, place: Place) -> Place | None:
        """Send what is missing, or some of it; None once all is stored, else where to go on."""
        try:
            sent = await self._send(place)
        except (RegistryDisconnectedError, RegistryConnectError) as error:
            return await self._after_failure(place, error)
        if sent.answer is None:
            self._count(None)
            return place
        with sent.answer:
            return await self._after_answer(sent, sent.answer)

    async def _send(self, place: Place) -> _Sent:
        """Send the rest in one request, or a chunk of it, or nothing but the end."""
        missing = self._descriptor.size - place.offset
        size = missing if self._chunk is None else min(missing, self._chunk)
        is_closing = not missing or (place.offset == 0 and size == missing)
        url = place.closing_url(self._descriptor.digest) if is_closing else place.url
        headers = {"Content-Type": "application/octet-stream"}
        if not is_closing:
            headers["Content-Range"] = f"{place.offset}-{place.offset + size - 1}"

        def report(taken: int) -> None:
            self._report(place.offset + taken)

        async with self._open(place.offset, size) as chunks:
            content = Content(chunks=chunks, size=size, report=report)
            method = "PUT" if is_closing else "PATCH"
            answer = await self._client.send_once(method, url, headers, content, self._scopes)
        return _Sent(place=place, until=place.offset + size, is_closing=is_closing, answer=answer)

    # ── what became of it ───────────────────────────────────────────────────────────────────────────────────────────

    async def _after_answer(self, sent: _Sent, answer: Response) -> Place | None:
        if sent.is_closing and answer.status in _STORED:
            self._check_digest(answer)
            return None
        if sent.is_closing and answer.status == _ACCEPTED:
            answer.close()
            await self._confirm()
            return None
        if not sent.is_closing and answer.status in _TAKEN:
            self._stuck = 0
            return self._place(answer, offset=sent.until, before=sent.place)
        if answer.status in _MOVED:
            return self._moved(answer, sent.place)
        pause = 0.0 if answer.status == _RANGE_REFUSED else self._attempts.pause_after(answer)
        error = await self._client.refusal(answer)
        if pause is not None:
            self._count(error)
            await anyio.sleep(pause)
            return await self._located(sent.place) or await self._begin()
        if not self._is_worth_beginning_anew(sent.place, answer.status):
            raise error
        self._count(error)
        return await self._begin()

    def _is_worth_beginning_anew(self, place: Place, status: int) -> bool:
        """Tell whether a new upload may end better than this one, which was refused; and change what may help."""
        if status in _SESSION_GONE:
            return True
        if status == _TOO_LARGE and self._chunk is None and self._descriptor.size - place.offset > SMALL_CHUNK:
            self._chunk = SMALL_CHUNK
            return True
        if self._has_resumed and self._resumes:
            self._resumes = False  # it does not do PATCH, or puts the parts together wrongly
            return True
        return False

    async def _after_failure(self, place: Place, error: RegistryError) -> Place | None:
        """Go on after the connection broke."""
        again = await self._located(place)
        if again is None:
            self._count(error)
            await anyio.sleep(backoff(self._attempts.made, self._limits))
            return await self._begin()
        self._stuck = 0 if again.offset - place.offset >= MIN_PROGRESS else self._stuck + 1
        if self._stuck > self._limits.resumes:
            name, size = self._client.name, self._descriptor.size
            reason = f"{name} broke the connection {self._stuck} times at byte {place.offset} of {size}: {error}"
            raise RegistryUnavailableError(reason, host=name)
        if self._stuck:
            await anyio.sleep(backoff(self._stuck, self._limits))
        return again

    async def _located(self, place: Place) -> Place | None:
        """Ask how much of an upload arrived; None where the host does not tell, or nothing did."""
        if not self._resumes:
            return None
        if place.is_at(self._client.host.origin):
            answer = await self._client.send("GET", place.url, {}, Attempts(self._limits), scopes=self._scopes)
        else:
            answer = await self._client.send_elsewhere(place.url, {})
        with answer:
            matched = _RANGE_RE.fullmatch((answer.header("Range") or "").strip())
            if answer.status not in _TAKEN or matched is None:
                return None
            offset = int(matched[1]) + 1
            # "0-0" is what a registry says that has nothing, too; and what has too much can only be begun anew.
            if offset == 1 or offset > self._descriptor.size:
                return None
            self._has_resumed = True
            self._report(offset)
            return self._place(answer, offset=offset, before=place)

    def _moved(self, answer: Response, place: Place) -> Place:
        self._moves += 1
        if self._moves > MAX_REDIRECTS:
            raise RegistryError(f"{self._client.name} redirects an upload for ever", host=self._client.name)
        return self._place(answer, offset=place.offset)

    async def _confirm(self) -> None:
        """Make sure of a blob that the host says it will store some time."""
        made = 0
        while not await has_blob(self._client, self._descriptor, self._scopes):
            made += 1
            if made >= self._limits.attempts:
                reason = f"{self._client.name} accepted {self._descriptor.digest} and does not have it"
                raise RegistryError(reason, host=self._client.name, status=_ACCEPTED)
            await anyio.sleep(backoff(made, self._limits))

    def _place(self, answer: Response, *, offset: int = 0, before: Place | None = None) -> Place:
        least = answer.header("OCI-Chunk-Min-Length") or ""
        if self._chunk is not None and _NUMBER_RE.fullmatch(least):
            self._chunk = max(self._chunk, int(least))
        return place_of(answer, self._client.host.origin, offset=offset, before=before)

    def _count(self, error: RegistryError | None) -> None:
        """Count an attempt that failed.

        Raises:
            RegistryError: It was the last one.
        """
        self._attempts.made += 1
        if self._attempts.made < self._limits.attempts:
            return
        if error is None:
            reason = f"{self._client.name} wants ever other credentials for an upload"
            error = RegistryAuthenticationError(reason, host=self._client.name, status=401)
        error.add_note(f"given up after {self._attempts.made} attempts to upload {self._descriptor.digest}")
        raise error

    def _check_digest(self, response: Response) -> None:
        stored = response.header("Docker-Content-Digest")
        wanted = self._descriptor.digest
        if stored and stored != wanted and is_digest(stored) and algorithm_of(stored) == algorithm_of(wanted):
            raise DigestMismatchError(expected=wanted, actual=stored, source=f"an upload to {self._client.name}")


async def has_blob(client: HostClient, descriptor: Descriptor, scopes: tuple[str, ...] | None = None) -> bool:
    """Tell whether a host has a blob, of the size that it should have.

    Raises:
        RegistryError: The host failed. A refusal to tell is no failure: the upload says more about it.
    """
    url = client.url("blobs", descriptor.digest)
    try:
        response = await client.send("HEAD", url, {"Accept": "*/*"}, Attempts(client.session.limits), scopes=scopes)
    except (RegistryAuthenticationError, RegistryPermissionError):
        return False
    with response:
        if response.status == _OK:
            return response.content_length in {None, descriptor.size}
        if response.status in {401, 403, _NOT_FOUND} | _NO_SUCH_METHOD:
            return False
        raise await client.refusal(response)
