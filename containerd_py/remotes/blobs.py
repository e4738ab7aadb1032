"""The bytes of one blob or manifest, from the hosts that have it, resumed where a connection broke.

Knows ranges, sizes and hosts; checks no digest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Self

import anyio

from containerd_py.errors import (
    ContainerdError,
    RegistryDisconnectedError,
    RegistryError,
    RegistryUnavailableError,
    SizeMismatchError,
)
from containerd_py.remotes.answers import most_telling
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.responses import Response
from containerd_py.remotes.retries import backoff
from containerd_py.remotes.sources import Source

# Getting fewer bytes than this out of a connection is no progress: a blob of 1 GiB is not fetched byte by byte.
MIN_PROGRESS: Final = 4096

_RANGE_RE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|\*)", re.ASCII)
_OK: Final = 200
_PARTIAL: Final = 206
_RANGE_REFUSED: Final = 416

_Read = Callable[[Response], Awaitable[bytes | memoryview]]


class Blob:
    """An asynchronous iterator over the bytes from an offset to an end, in chunks as large as the network gives.

    `offset` is where the next chunk begins, `end` the byte after the last one, `host` who sends it. Exactly those bytes
    come, or an error: a broken connection is resumed at the exact offset, a host that cannot go on is replaced by the
    next one. `size` is that of the whole content.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        size: int,
        offset: int,
        limits: RegistryLimits,
        end: int | None = None,
        inline: bytes | None = None,
    ) -> None:
        self.size = size
        self.end = size if end is None else end
        self._inline = inline  # the whole content, where the descriptor brought it along
        self.offset = offset
        self._limits = limits
        self._sources = list(sources)
        self._failed: list[ContainerdError] = []
        self._response: Response | None = None
        self._opened_at = offset
        self._stuck = 0  # connections in a row that brought (next to) nothing
        self._whole = False  # the source answers ranges with nonsense: ask for everything and skip
        self.has_ranges = True  # as far as is known

    @property
    def host(self) -> str:
        """The host that the bytes come from."""
        return self._sources[0].name if self._sources else ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Wait for the next bytes.

        Raises:
            SizeMismatchError: The host sends more than the descriptor promised, or says it will.
            RegistryError: No host can send (the rest of) the content.
        """
        chunk = await self._next(Response.chunk)
        if not chunk:
            raise StopAsyncIteration
        return bytes(chunk)

    def views(self) -> AsyncIterator[bytes | memoryview]:
        """Iterate over the same bytes without copying them: each chunk is valid until the next one is asked for."""
        return _Views(partial(self._next, Response.view))

    async def _next(self, read: _Read) -> bytes | memoryview:
        """Wait for the next bytes; none at the end."""
        while True:
            if self._response is None:
                if self.offset == self.end:
                    return b""
                if self._inline is not None:
                    return self._taken(self._inline[self.offset : self.end])
                self._response = await self._connect()
            try:
                chunk = await read(self._response)
            except RegistryError as error:
                await self._broken(error)
            else:
                if chunk:
                    return self._taken(chunk)
                self.close()
                if self.offset < self.end:
                    reason = f"{self.host} ended the body at byte {self.offset} of {self.size}"
                    await self._broken(RegistryDisconnectedError(reason, host=self.host))

    def read_on(self) -> None:
        """Go on to the content's very end."""
        self.end = self.size

    def close(self) -> None:
        """Drop the connection, unless its answer was read to the end."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _taken(self, chunk: bytes | memoryview) -> bytes | memoryview:
        self.offset += len(chunk)
        if self.offset > self.size:
            self.close()
            raise SizeMismatchError(f"{self.host} sends more than the {self.size} bytes the descriptor promises")
        if self.end < self.size and self.offset >= self.end:
            chunk = chunk[: len(chunk) - (self.offset - self.end)]
            self.offset = self.end
            if not self.has_ranges:
                self.close()  # the rest is on its way too
        return chunk

    async def _broken(self, error: RegistryError) -> None:
        """Go on after an answer that broke off: with the same host if it merely dropped the connection."""
        if self.offset == self.end:
            self.close()  # all is here: how the answer ended matters no more
        elif isinstance(error, RegistryDisconnectedError):
            await self._dropped(error)
        else:
            self._give_up_source(error)

    async def _dropped(self, error: RegistryError) -> None:
        """Get ready to resume, after a pause if the last connection brought nothing."""
        self.close()
        self._stuck = 0 if self.offset - self._opened_at >= MIN_PROGRESS else self._stuck + 1
        if self._stuck > self._limits.resumes:
            reason = (
                f"{self.host} broke the connection {self._stuck} times at byte {self.offset} of {self.size}: {error}"
            )
            self._give_up_source(RegistryUnavailableError(reason, host=self.host))
        elif self._stuck:
            await anyio.sleep(backoff(self._stuck, self._limits))

    def _give_up_source(self, error: ContainerdError) -> None:
        """Turn to the next host.

        Raises:
            ContainerdError: There is none left; the most telling of all hosts' errors.
        """
        self.close()
        self._failed.append(error)
        if len(self._sources) == 1:
            raise most_telling(self._failed) from None
        del self._sources[0]
        self._stuck, self._whole = 0, False

    async def _connect(self) -> Response:
        """Open an answer whose next byte is the one at our offset."""
        while True:
            self._opened_at = self.offset
            try:
                response = await self._sources[0].open(self._range, last=len(self._sources) == 1)
            except RegistryError as error:
                self._give_up_source(error)
            else:
                if await self._position(response):
                    return response

    @property
    def _range(self) -> tuple[int, int | None]:
        """The bytes to ask for: from where, and to where (the byte after the last one) if not to the end."""
        if self._whole:
            return 0, None
        return self.offset, None if self.end == self.size else self.end

    async def _position(self, response: Response) -> bool:
        """Bring an answer to our offset; False where it broke or was of no use, and the next one is to be opened."""
        usable = False
        try:
            usable = await self._is_positioned(response)
        except RegistryDisconnectedError as error:
            await self._dropped(error)
        except (RegistryError, SizeMismatchError) as error:
            self._give_up_source(error)
        finally:
            if not usable:
                response.close()
        return usable

    async def _is_positioned(self, response: Response) -> bool:
        """Check what an answer holds, and skip to the offset where it holds more; False asks again, for everything.

        Raises:
            SizeMismatchError: Its length is not the descriptor's.
            RegistryError: It is a refusal, is encoded, or holds another part than the one asked for.
        """
        source = self._sources[0]
        if response.status == _RANGE_REFUSED and self._range != (0, None):
            self._whole = True
            return False
        if response.status not in {_OK, _PARTIAL}:
            raise await source.refusal(response)
        encoding = (response.header("Content-Encoding") or "identity").strip().lower()
        if encoding != "identity":
            # Decoding would change the digest, and could blow up a megabyte to gigabytes.
            reason = f"{source.name} sends {encoding[:64]!r}-encoded content though none was asked for"
            raise RegistryError(reason, host=source.name)
        if response.status == _PARTIAL:
            self._check_range(response.header("Content-Range") or "")
        else:
            if response.content_length not in {None, self.size}:
                raise self._wrong_size(response.content_length)
            self.has_ranges = self.has_ranges and not self._whole and self._range == (0, None)
            await self._skip(response, self.offset)
        return True

    def _check_range(self, content_range: str) -> None:
        matched = _RANGE_RE.fullmatch(content_range.strip())
        if matched is None or int(matched[1]) != self.offset or not self.offset <= int(matched[2]) < self.size:
            raise RegistryError(
                f"{self.host} was asked for bytes {self.offset} to {self.end - 1} and sends {content_range[:64]!r}",
                host=self.host,
            )
        if matched[3] is not None and int(matched[3]) != self.size:
            raise self._wrong_size(int(matched[3]))

    async def _skip(self, response: Response, count: int) -> None:
        """Read what we have already; the server does not do ranges."""
        while count:
            chunk = await response.chunk()
            if not chunk:
                raise RegistryDisconnectedError(f"{self.host} ended the body before byte {self.offset}", host=self.host)
            count -= len(chunk)
            if count < 0:
                response.put_back(chunk[count:])
                return

    def _wrong_size(self, size: int | None) -> SizeMismatchError:
        return SizeMismatchError(f"{self.host} has {size} bytes where the descriptor promises {self.size}")


class _Views:
    """What is read until nothing comes; not a generator, which would want to be closed."""

    def __init__(self, read: Callable[[], Awaitable[bytes | memoryview]]) -> None:
        self._read = read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes | memoryview:
        data = await self._read()
        if not data:
            raise StopAsyncIteration
        return data
