"""Files in and out of a container: as a tar stream, and between it and this machine by the rules of `docker cp`.

Everything is packed and unpacked by the same two, `trees.packing` and `trees.unpacking`, a piece of at most about 1 MiB
at a time, in worker threads: memory is bounded, and whoever reads slowly slows down the copy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Final, Literal, Self

import attrs
from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._completion import run_to_completion
from containerd_py._flows.container_root import open_container_root
from containerd_py.archives.sources import ArchiveSource, open_source
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.services.bundle import Services
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.packing import Packer, PackOptions
from containerd_py.trees.places import check_path, name_of, place_for
from containerd_py.trees.roots import OPEN_PATH, Root, opened_destination
from containerd_py.trees.unpacking import Unpacker, UnpackOptions
from containerd_py.types import Timestamp

Owner = Literal["source"] | tuple[int, int] | None
"""Who owns copied files: who owned them at the source, a user and a group ID, or, None, who is meant by default."""

_ROOT_OF_CONTAINER: Final = (0, 0)


@attrs.frozen(kw_only=True)
class FileStatus:
    """What a path in a container stands for: `mode` with its file type as of `stat`, `size` in bytes.

    `owner` is a user and a group ID as the container numbers them; `link` what a symbolic link holds, else "".
    """

    name: str
    mode: int
    size: int
    owner: tuple[int, int]
    mtime: Timestamp
    link: str = ""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class CopiedOut:
    """A tar archive of something in a container, as it is read. Made by `Container.copy_out`; iterate over it once."""

    def __init__(self, status: FileStatus, pieces: Iterator[bytes]) -> None:
        self.status = status
        """What is copied."""
        self._pieces = pieces
        self._ready: bytes | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ready is None:
            await run_to_completion(self._read)  # a cancellation is raised once this piece is kept for the next call
        await checkpoint_if_cancelled()
        if not self._ready:
            raise StopAsyncIteration
        piece, self._ready = self._ready, None
        return piece

    def _read(self) -> None:
        self._ready = next(self._pieces, b"")


@asynccontextmanager
async def copy_out(
    services: Services, container_id: str, path: str, *, follow_link: bool, owner: Owner, sparse: bool
) -> AsyncIterator[CopiedOut]:
    """Lend the archive; see `Container.copy_out`."""
    check_path(path)
    options = PackOptions(owner=owner if isinstance(owner, tuple) else None, is_sparse=sparse)
    async with open_container_root(services, container_id, writable=False) as root:
        with ExitStack() as opened:
            source = await run_to_completion(partial(_open_source, opened, root, path, follow_link=follow_link))
            pieces = Packer(root, source.descriptor, source.name, options).pieces()
            try:
                yield CopiedOut(source.status, pieces)
            finally:
                await run_to_completion(pieces.close)


async def copy_in(services: Services, container_id: str, path: str, source: ArchiveSource, *, owner: Owner) -> None:
    """Unpack an archive; see `Container.copy_in`."""
    check_path(path)
    options = UnpackOptions(owner=owner if isinstance(owner, tuple) else None)
    async with (
        open_source(source) as chunks,
        open_container_root(services, container_id, writable=True) as root,
        _unpacking(root, path, options) as unpacker,
    ):
        async for chunk in chunks:
            await run_to_completion(partial(unpacker.feed, chunk))
            await checkpoint_if_cancelled()
        unpacker.finish()


async def copy_to_local(
    services: Services,
    container_id: str,
    path: str,
    destination: str | os.PathLike[str],
    *,
    follow_link: bool,
    owner: Owner,
) -> None:
    """Copy from a container; see `Container.copy_to_local`."""
    unpack = UnpackOptions(owner=owner if isinstance(owner, tuple) else None, keeps_owner=owner == "source")
    async with open_container_root(services, container_id, writable=False) as root, _local_root() as local:
        await _copy(root, path, local, _absolute(destination), follow_link=follow_link, pack=None, unpack=unpack)


async def copy_from_local(
    services: Services, container_id: str, source: str | os.PathLike[str], path: str, *, follow_link: bool, owner: Owner
) -> None:
    """Copy into a container; see `Container.copy_from_local`."""
    pack = None if owner == "source" else (owner or _ROOT_OF_CONTAINER)
    async with open_container_root(services, container_id, writable=True) as root, _local_root() as local:
        await _copy(local, _absolute(source), root, path, follow_link=follow_link, pack=pack, unpack=UnpackOptions())


async def _copy(
    source_root: Root,
    source: str,
    target_root: Root,
    target: str,
    *,
    follow_link: bool,
    pack: tuple[int, int] | None,
    unpack: UnpackOptions,
) -> None:
    check_path(source)
    with ExitStack() as opened:
        found = await run_to_completion(partial(_open_source, opened, source_root, source, follow_link=follow_link))
        is_folder = found.status.is_directory
        place = await run_to_completion(partial(place_for, target_root, target, name=found.name, is_folder=is_folder))
        packer = Packer(source_root, found.descriptor, place.name, PackOptions(owner=pack, is_sparse=True))
        pieces = packer.pieces()
        try:
            async with _unpacking(target_root, place.folder, unpack) as unpacker:
                while await run_to_completion(partial(_pass_on, pieces, unpacker.feed)):
                    await checkpoint_if_cancelled()
                unpacker.finish()
        finally:
            await run_to_completion(pieces.close)


@asynccontextmanager
async def _unpacking(root: Root, path: str, options: UnpackOptions) -> AsyncIterator[Unpacker]:
    with ExitStack() as opened:
        made: list[Unpacker] = []

        def make() -> None:
            with typed_errors(f"copying into {shown(path)}"):
                destination = opened.enter_context(opened_destination(root, path))
            made.append(Unpacker(destination, options))

        try:
            await run_to_completion(make)
            yield made[0]
        finally:
            for unpacker in made:
                await run_to_completion(unpacker.close)


@attrs.frozen
class _Source:
    descriptor: int
    name: str
    status: FileStatus


def _open_source(opened: ExitStack, root: Root, path: str, *, follow_link: bool) -> _Source:
    """Open what is to be copied; `opened` closes it. A slash at the end asks for a directory, through a link too."""
    with typed_errors(f"copying {shown(path)}"):
        descriptor = opened.enter_context(root.opened(path, os.O_PATH if follow_link else OPEN_PATH))
        status = os.fstat(descriptor)
        if path.endswith("/") and not stat.S_ISDIR(status.st_mode):
            raise NotFoundError(f"{shown(path)} is no directory")
        if stat.S_ISSOCK(status.st_mode):
            raise InvalidArgumentError(f"{shown(path)} is a socket: it cannot be copied")
        link = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else ""
    name = name_of(path)
    told = FileStatus(
        name=name,
        mode=status.st_mode,
        size=status.st_size,
        owner=root.ids.to_container(status.st_uid, status.st_gid),
        mtime=Timestamp.from_parts(*divmod(status.st_mtime_ns, 10**9)),
        link=link,
    )
    return _Source(descriptor, name, told)


@asynccontextmanager
async def _local_root() -> AsyncIterator[Root]:
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Root(descriptor=descriptor, is_local=True)
    finally:
        os.close(descriptor)


def _absolute(path: str | os.PathLike[str]) -> str:
    # Not abspath(), which takes ".." for what is before it, links or not; and the slash at the end means something.
    name = os.fspath(path)
    return name if name.startswith("/") or not name else f"{os.getcwd()}/{name}"  # noqa: PTH109


def _pass_on(pieces: Iterator[bytes], feed: Callable[[bytes], None]) -> bool:
    piece = next(pieces, None)
    if piece is None:
        return False
    feed(piece)
    return True
