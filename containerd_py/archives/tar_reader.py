"""A bounded reader of tar archives that come as a stream: forwards only, nothing written anywhere.

Python's own reader believes sizes: it waits for ever for a member that is said to have 8 TiB, and reads extended
headers of any length into memory. This one refuses with ArchiveError, and knows the place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self

import attrs

from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.archives.member_paths import link_target, member_path
from containerd_py.archives.tar_headers import (
    BLOCK,
    LINKS,
    METADATA,
    Header,
    Kind,
    Overrides,
    check_global_pax,
    read_header,
    read_long,
    read_pax,
    with_overrides,
)
from containerd_py.errors import ArchiveError

_MAX_TRAILER: Final = 1024 * 1024  # bytes of zeros after the end; tars pad to records of 10 KiB, tapes to somewhat more


@attrs.frozen(kw_only=True)
class Member:
    """One member. `path` is relative and clean; `target` is the path in the archive that a link stands for."""

    path: str
    kind: Kind
    size: int
    target: str
    offset: int


class ByteFeed:
    """Bytes that come in chunks, taken in the amounts that a reader needs."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.offset = 0

    async def some(self, limit: int) -> memoryview:
        """Return between 1 and `limit` bytes; none only at the end."""
        while not self._rest:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return self._rest
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:limit], self._rest[limit:]
        self.offset += len(taken)
        return taken

    async def exactly(self, size: int) -> bytes:
        """Return `size` bytes.

        Raises:
            ArchiveError: There are fewer.
        """
        taken = await self.some(size)
        if len(taken) == size:
            return bytes(taken)
        parts = [bytes(taken)]
        missing = size - len(taken)
        while missing:
            taken = await self.some(missing)
            if not taken:
                raise ArchiveError("the archive is truncated", offset=self.offset)
            parts.append(bytes(taken))
            missing -= len(taken)
        return b"".join(parts)


class TarReader:
    """Iterates over the members of an archive in their order; `chunk` and `read` give the present one's content.

    After the last member the rest of the stream is read as well: an archive that goes on after its end is refused.
    `reads_on=False` stops at the end marker, for streams that do not end.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], limits: ArchiveLimits = DEFAULT_LIMITS, *, reads_on: bool = True
    ) -> None:
        self._reads_on = reads_on
        self._feed = ByteFeed(chunks)
        self._limits = limits
        self._headers = 0
        self._names = 0  # bytes of paths so far
        self._kinds: dict[str, Kind] = {}
        self._left = 0  # bytes of the present member's content not read yet
        self._padding = 0

    @property
    def offset(self) -> int:
        """How many bytes of the archive have been read."""
        return self._feed.offset

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Member:
        await self._finish_member()
        offset = self._feed.offset
        header = await self._next_header()
        if header is None:
            raise StopAsyncIteration
        self._left, self._padding = header.size, -header.size % BLOCK
        return self._member(header, offset)

    async def chunk(self) -> memoryview:
        """Return the next piece of the present member's content; an empty one at its end."""
        if not self._left:
            return memoryview(b"")
        taken = await self._feed.some(self._left)
        if not taken:
            raise ArchiveError(f"the archive is truncated: {self._left} bytes are missing", offset=self.offset)
        self._left -= len(taken)
        return taken

    async def read(self, what: str, limit: int) -> bytes:
        """Return what is left of the present member's content.

        Raises:
            ArchiveError: It has more than `limit` bytes; `what` names it in the message.
        """
        if self._left > limit:
            raise ArchiveError(
                f"{what} has {self._left} bytes, more than the {limit} allowed", offset=self._feed.offset
            )
        data = await self._feed.exactly(self._left)
        self._left = 0
        return data

    async def _finish_member(self) -> None:
        while await self.chunk():
            pass
        if self._padding:
            await self._feed.exactly(self._padding)
            self._padding = 0

    async def _next_header(self) -> Header | None:
        """Read headers up to that of a member; None at the archive's end."""
        overrides = Overrides()
        while True:
            offset = self._feed.offset
            header = read_header(await self._block(), offset)
            if header is None:
                await self._read_end(offset, expects_member=overrides != Overrides())
                return None
            self._count(header, offset)
            if header.kind not in METADATA:
                return with_overrides(header, overrides, offset)
            data = await self._metadata(header, offset)
            if header.kind is Kind.PAX_GLOBAL:
                check_global_pax(data, offset)
            else:
                overrides = _merged(overrides, _overrides(header.kind, data, offset), offset)

    async def _block(self) -> bytes:
        offset = self._feed.offset
        try:
            return await self._feed.exactly(BLOCK)
        except ArchiveError as error:
            if self._feed.offset == offset:
                raise ArchiveError("the archive is truncated: it has no end marker", offset=offset) from error
            raise

    async def _metadata(self, header: Header, offset: int) -> bytes:
        if header.size > self._limits.metadata:
            raise ArchiveError(
                f"a {header.kind.value} has {header.size} bytes, more than the {self._limits.metadata} allowed",
                offset=offset,
            )
        data = await self._feed.exactly(header.size)
        await self._feed.exactly(-header.size % BLOCK)
        return data

    async def _read_end(self, offset: int, *, expects_member: bool) -> None:
        """Read the second block of zeros and what pads the archive."""
        if expects_member:
            raise ArchiveError("the archive ends after a header that announces a member", offset=offset)
        if any(await self._block()):
            raise ArchiveError("the archive goes on after a block of zeros", offset=offset)
        end = self._feed.offset
        while self._reads_on and (taken := await self._feed.some(_MAX_TRAILER)):
            if any(bytes(taken).lstrip(b"\x00")):
                raise ArchiveError("the archive goes on after its end", offset=end)
            if self._feed.offset - end > _MAX_TRAILER:
                raise ArchiveError(f"more than {_MAX_TRAILER} zeros follow the archive's end", offset=end)

    def _count(self, header: Header, offset: int) -> None:
        self._headers += 1
        if self._headers > self._limits.members:
            raise ArchiveError(f"the archive has more than {self._limits.members} members", offset=offset)
        if header.size > self._limits.size - self._feed.offset:
            raise ArchiveError(
                f"a member of {header.size} bytes makes the archive larger than the {self._limits.size} allowed",
                offset=offset,
            )

    def _member(self, header: Header, offset: int) -> Member:
        path = member_path(header.name, self._limits.name, offset)
        if not path and header.kind is not Kind.FOLDER:
            raise ArchiveError(f"a {header.kind.value} has the name of the archive's root", offset=offset)
        target = ""
        if header.kind in LINKS:
            base = path if header.kind is Kind.SYMLINK else ""
            target = link_target(base, header.link, self._limits.name, offset)
        self._note(path, target, header.kind, offset)
        return Member(path=path, kind=header.kind, size=header.size, target=target, offset=offset)

    def _note(self, path: str, target: str, kind: Kind, offset: int) -> None:
        known = self._kinds.get(path)
        if known is not None and not (known is kind is Kind.FOLDER):
            raise ArchiveError(f"{path[:160]!a} is in the archive twice", offset=offset)
        self._kinds[path] = kind
        self._names += len(path) + len(target)
        if self._names > self._limits.names:
            raise ArchiveError(f"the names in the archive take more than {self._limits.names} bytes", offset=offset)


def _overrides(kind: Kind, data: bytes, offset: int) -> Overrides:
    if kind is Kind.PAX:
        return read_pax(data, offset)
    text = read_long(data, offset)
    return Overrides(path=text) if kind is Kind.LONG_NAME else Overrides(link=text)


def _merged(first: Overrides, second: Overrides, offset: int) -> Overrides:
    """Merge what two extended headers say of one member."""
    said, more = attrs.asdict(first), attrs.asdict(second)
    for field, value in more.items():
        if value is not None and said[field] is not None:
            raise ArchiveError(f"two headers set the {field} of one member", offset=offset)  # readers disagree who wins
    return Overrides(**{field: more[field] if value is None else value for field, value in said.items()})
