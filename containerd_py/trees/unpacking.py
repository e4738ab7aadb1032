"""A tar archive into a directory of a tree, piece by piece, in bounded memory. Calls block.

Both sides may be strangers. An archive cannot leave the destination: paths are clean, and links that came in it are not
walked through. Who owns the tree cannot lead us out of it (see `roots`). A file gets its name once it is whole.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from containerd_py.errors import ArchiveError, FailedPreconditionError, ResourceExhaustedError
from containerd_py.trees.entries import BLOCK, CAPABILITY, Entry
from containerd_py.trees.entry_reader import EntryReader, Steps
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.roots import OPEN_PATH, Destination

_log = logging.getLogger(__name__)
_MAX_REMEMBERED: Final = 64 * 1024 * 1024  # bytes of links' names
_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID
_USER: Final = "user."
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.frozen(kw_only=True)
class UnpackOptions:
    """How an archive is unpacked.

    `owner` replaces everybody's, in the container's numbers; `keeps_owner` False leaves files to whom makes them. Then
    they gain nobody any rights either: no set-ID bits, capabilities or devices.
    """

    owner: tuple[int, int] | None = None
    keeps_owner: bool = True


@attrs.define
class _Folder:
    """A directory that further members may go into; it gets its mode and times when they are through."""

    entry: Entry
    identity: tuple[int, int]


class Unpacker:
    """Takes an archive in pieces and makes files of it. Close it in any case."""

    def __init__(self, destination: Destination, options: UnpackOptions) -> None:
        self._destination = destination
        self._options = options
        self._reader = EntryReader()
        self._open_folders: list[_Folder] = []
        self._parent: tuple[str, int] | None = None
        self._links: set[str] = set()
        self._remembered = 0
        self._is_over = False
        self._steps = self._run()
        next(self._steps)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece; all of it is on the disk, or in a few blocks' memory, on return.

        Raises:
            ArchiveError: The archive is damaged or hostile.
            FailedPreconditionError: Something is in the way, or the place is read-only.
            ResourceExhaustedError: The disk is full.
        """
        if self._is_over or not data:
            return  # what pads the archive
        self._reader.feed(data)
        try:
            next(self._steps)
        except StopIteration:
            self._is_over = True

    def finish(self) -> None:
        """Say that the archive has ended.

        Raises:
            ArchiveError: In the middle.
        """
        if not self._is_over:
            raise ArchiveError("the archive is truncated", offset=self._reader.offset)

    def close(self) -> None:
        """Let go of everything; what is unpacked stays, a file that is not whole does not."""
        self._steps.close()
        self._leave_parent()

    def _run(self) -> Generator[None, None, None]:
        yield  # the first piece comes with the next step
        while (entry := (yield from self._reader.next_entry())) is not None:
            with typed_errors(f"copying to {shown(entry.path)}"):
                self._finish_folders(entry.path)
                self._check_way(entry.path)
                yield from self._unpack(entry)
            yield from self._reader.exactly(-entry.data_size % BLOCK)
        self._finish_folders(None)

    def _unpack(self, entry: Entry) -> Steps[None]:
        if entry.kind == stat.S_IFDIR:
            self._folder(entry)
        elif entry.hard_link is not None:
            self._hard_link(entry, entry.hard_link)
        elif entry.kind == stat.S_IFREG:
            yield from self._file(entry)
        elif entry.kind == stat.S_IFLNK:
            self._symlink(entry)
        else:
            self._node(entry)

    # ── the way to a member ────────────────────────────────────────────────────────────────────────────────────────

    def _check_way(self, path: str) -> None:
        """Refuse to go through a link of this archive: where it leads is for its author to say, not to use."""
        if not self._links:
            return
        parts = path.split("/")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in self._links:
                raise ArchiveError(f"{shown(path)} lies behind a link of the archive", offset=self._reader.offset)

    def _open_parent(self, path: str) -> tuple[int, str]:
        """Return the directory that a member goes into, made where it is missing, and the member's name."""
        folder, _, name = path.rpartition("/")
        if not name:
            raise ArchiveError("something that is no directory has no name", offset=self._reader.offset)
        if self._parent is None or self._parent[0] != folder:
            self._leave_parent()
            self._parent = (folder, self._open_or_make(folder))
        return self._parent[1], name

    def _leave_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _open_or_make(self, folder: str) -> int:
        try:
            return self._destination.open_folder(folder)
        except FileNotFoundError:
            if not folder:
                raise
        above, _, name = folder.rpartition("/")
        parent = self._open_or_make(above)
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
                self._own(name, parent, Entry(path=folder))
        finally:
            os.close(parent)
        return self._destination.open_folder(folder)

    # ── members ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _folder(self, entry: Entry) -> None:
        if not entry.path:
            return  # the destination itself stays as it is
        if entry.path in self._links:
            raise ArchiveError(f"{shown(entry.path)} is a link and a directory", offset=self._reader.offset)
        parent, name = self._open_parent(entry.path)
        is_new = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            is_new = False
        try:
            descriptor = self._destination.open_folder(entry.path)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise FailedPreconditionError(
                    f"{shown(entry.path)} is there and no directory: a directory does not replace it"
                ) from error
            raise
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            self._own(name, parent, entry)
        self._open_folders.append(_Folder(entry, (status.st_dev, status.st_ino)))

    def _finish_folders(self, path: str | None) -> None:
        """Give directories their modes and times once no member is to come that lies in them."""
        while self._open_folders:
            entry = self._open_folders[-1].entry
            if path is not None and path.startswith(f"{entry.path}/"):
                return
            folder = self._open_folders.pop()
            self._finish_folder(entry, folder.identity)

    def _finish_folder(self, entry: Entry, identity: tuple[int, int]) -> None:
        try:
            descriptor = self._destination.open_folder(entry.path)
        except OSError:
            return  # whoever owns the tree has removed it meanwhile
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == identity:
                place = f"/proc/self/fd/{descriptor}"
                if (owner := self._owner(entry)) is not None:
                    os.chown(place, *owner)
                os.chmod(place, self._mode(entry))  # noqa: PTH101
                os.utime(place, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)

    def _file(self, entry: Entry) -> Steps[None]:
        self._links.discard(entry.path)  # which it replaces
        parent, name = self._open_parent(entry.path)
        temporary = _temporary_name()
        descriptor = os.open(temporary, _NEW, 0o600, dir_fd=parent)
        try:
            yield from self._content(descriptor, entry)
            self._dress(descriptor, entry)
            if _is_mounted(name, parent):
                _copy_in_place(descriptor, name, parent)  # as /etc/hosts often is: by a new file it would be unmounted
            else:
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)

    def _content(self, descriptor: int, entry: Entry) -> Steps[None]:
        for start, size in [(0, entry.size)] if entry.extents is None else entry.extents:
            position, left = start, size
            while left:
                data = yield from self._reader.some(left)
                left -= len(data)
                while data:
                    written = os.pwrite(descriptor, data, position)
                    data, position = data[written:], position + written
        if entry.extents is not None:
            os.ftruncate(descriptor, entry.size)

    def _dress(self, descriptor: int, entry: Entry) -> None:
        if (owner := self._owner(entry)) is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, self._mode(entry))
        for name, value in entry.attributes.items():
            if name.startswith(_USER) or (name == CAPABILITY and self._options.keeps_owner):
                with suppress(OSError):  # a file system without attributes
                    os.setxattr(descriptor, name, value)
        os.utime(descriptor, ns=(entry.mtime, entry.mtime))

    def _symlink(self, entry: Entry) -> None:
        parent, name = self._open_parent(entry.path)
        temporary = _temporary_name()
        os.symlink(entry.link, temporary, dir_fd=parent)
        self._remember(entry.path)
        self._place(entry, temporary, name, parent)

    def _hard_link(self, entry: Entry, target: str) -> None:
        self._check_way(target)
        parent, name = self._open_parent(entry.path)
        folder, _, old = target.rpartition("/")
        temporary = _temporary_name()
        source = self._destination.open_folder(folder)
        try:
            os.link(old, temporary, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except IsADirectoryError:
            raise ArchiveError("a hard link leads to a directory", offset=self._reader.offset) from None
        finally:
            os.close(source)
        if target in self._links:
            self._remember(entry.path)
        else:
            self._links.discard(entry.path)
        _rename(temporary, name, parent)

    def _node(self, entry: Entry) -> None:
        if entry.kind != stat.S_IFIFO and not self._options.keeps_owner:
            _log.warning("%s is a device: it is not made here", shown(entry.path))
            return
        parent, name = self._open_parent(entry.path)
        temporary = _temporary_name()
        os.mknod(temporary, entry.kind | 0o600, os.makedev(*entry.device), dir_fd=parent)
        self._place(entry, temporary, name, parent)

    def _place(self, entry: Entry, temporary: str, name: str, parent: int) -> None:
        """Give something just made its owner, mode, times and name."""
        try:
            self._own(temporary, parent, entry)
            if entry.kind != stat.S_IFLNK:
                _change_mode(temporary, self._mode(entry), parent)
            os.utime(temporary, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        _rename(temporary, name, parent)

    def _own(self, name: str, parent: int, entry: Entry) -> None:
        if (owner := self._owner(entry)) is not None:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)

    def _owner(self, entry: Entry) -> tuple[int, int] | None:
        if not self._options.keeps_owner and self._options.owner is None:
            return None
        return self._destination.root.ids.to_host(*(self._options.owner or entry.owner))

    def _mode(self, entry: Entry) -> int:
        return entry.mode if self._options.keeps_owner else entry.mode & ~_SET_IDS

    def _remember(self, path: str) -> None:
        self._links.add(path)
        self._remembered += len(path) + 64
        if self._remembered > _MAX_REMEMBERED:
            raise ResourceExhaustedError("the archive holds too many links")


def _temporary_name() -> str:
    return f".containerd-py-{secrets.token_hex(8)}"


def _rename(temporary: str, name: str, parent: int) -> None:
    try:
        if _is_mounted(name, parent):
            raise FailedPreconditionError(f"{shown(name)} is mounted there: only a file's content can go there")
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        with suppress(OSError):  # rename() leaves it where both are the same file already
            os.unlink(temporary, dir_fd=parent)


def _change_mode(name: str, mode: int, parent: int) -> None:
    # By its name it might be a link by now, which chmod(2) would follow: out of the container, for us.
    with _opened(name, parent) as handle:
        os.chmod(f"/proc/self/fd/{handle}", mode)  # noqa: PTH101


def _is_mounted(name: str, parent: int) -> bool:
    """Tell whether something is mounted at a name: in another mount namespace than ours rename(2) would remove it."""
    try:
        with _opened(name, parent) as handle:
            return _mount_of(handle) != _mount_of(parent)
    except FileNotFoundError:
        return False


def _mount_of(descriptor: int) -> str:
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        if line.startswith("mnt_id:"):
            return line
    raise FailedPreconditionError("the kernel does not tell what is mounted where")


def _copy_in_place(source: int, name: str, parent: int) -> None:
    with _opened(name, parent) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FailedPreconditionError(f"{shown(name)} is mounted there and no file")
        target = os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(source, 0, os.SEEK_SET)
        while os.sendfile(target, source, None, 1 << 20):
            pass
    finally:
        os.close(target)


@contextmanager
def _opened(name: str, parent: int) -> Iterator[int]:
    handle = os.open(name, OPEN_PATH | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)
