"""FIFOs and the folder they live in: made, opened and removed without following anybody's links.

Blocking calls only, for a worker thread. Knows nothing of streams or tasks.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from containerd_py.cio.config import PATH_MAX
from containerd_py.errors import (
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)

ROOT_DIRECTORY: Final = Path("/run/containerd/fifo")  # containerd defaults
PREFIX: Final = "containerd-py-"  # of our folders below it

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_LONGEST_TAIL: Final = len(f"/{PREFIX}12345678/{2**22}-stdout")  # a FIFO's path after the directory; pids end at 2^22
_ERROR_TYPES: Final[dict[int, type[ContainerdError]]] = {
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EROFS: PermissionDeniedError,
    errno.ELOOP: PermissionDeniedError,
    errno.ENAMETOOLONG: InvalidArgumentError,
    errno.ENOTDIR: InvalidArgumentError,
    errno.ENOENT: NotFoundError,
    errno.EMFILE: ResourceExhaustedError,
    errno.ENFILE: ResourceExhaustedError,
    errno.ENOSPC: ResourceExhaustedError,
    errno.EDQUOT: ResourceExhaustedError,
    errno.ENOMEM: ResourceExhaustedError,
}


class FifoFolder:
    """A folder of our own, mode 0700, below a directory that nobody else can change."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        """Take the directory; None is `default_directory()`."""
        self._directory = directory
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._fifos: list[str] = []

    def create(self) -> None:
        """Make the folder, and the directory where it is missing.

        Raises: PermissionDeniedError where the directory is a link, somebody else's, or open to others;
            InvalidArgumentError where it is no directory or too long for a path; FailedPreconditionError where there
            is no default; ResourceExhaustedError.
        """
        directory = default_directory() if self._directory is None else _absolute(self._directory)
        with _typed_errors(f"FIFO directory {directory}"):
            _make_directory(directory)
            _require_protected(directory)
            self._path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=directory))
            self._identity = _identity(self._path.lstat())

    def adopt(self, paths: Iterable[str]) -> None:
        """Take over the folder that an earlier one of us made for these FIFOs; what it did not make is left alone."""
        fifos = [Path(path) for path in paths if path.startswith("/") and Path(path).parent.name.startswith(PREFIX)]
        if not fifos or any(fifo.parent != fifos[0].parent for fifo in fifos):
            return
        folder = fifos[0].parent
        with suppress(OSError, PermissionDeniedError):
            _require_protected(folder.parent)
            self._identity = _identity(folder.lstat())
            self._path, self._fifos = folder, [fifo.name for fifo in fifos]

    def make_fifo(self, name: str) -> str:
        """Make a FIFO of mode 0600 and return its path."""
        assert self._path is not None, "create comes first"
        path = str(self._path / name)
        with _typed_errors(f"FIFO {path}"):
            os.mkfifo(path, 0o600)
        self._fifos.append(name)
        return path

    def remove(self) -> None:
        """Remove the folder with all it holds; do nothing where it was not made, has gone or is another one by now."""
        if self._path is None:
            return
        name = self._path.name
        with suppress(FileNotFoundError), _opened_directory(self._path.parent) as directory:
            if _identity(os.stat(name, dir_fd=directory, follow_symlinks=False)) != self._identity:
                return
            for fifo in self._fifos:
                with suppress(FileNotFoundError):
                    os.unlink(f"{name}/{fifo}", dir_fd=directory)
            try:
                os.rmdir(name, dir_fd=directory)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                # Only for what somebody else left there: rmtree needs more descriptors, and there may be none.
                shutil.rmtree(name, dir_fd=directory)


def default_directory() -> Path:
    """Return where FIFOs go: root's below /run/containerd, others' below $XDG_RUNTIME_DIR.

    Raises: FailedPreconditionError where an ordinary user has no runtime directory.
    """
    if os.geteuid() == 0:
        return ROOT_DIRECTORY
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    if not runtime.is_absolute() or not runtime.is_dir():
        raise FailedPreconditionError(f"there is no {runtime} for FIFOs: set XDG_RUNTIME_DIR or pass directory=")
    return runtime / "containerd" / "fifo"


def open_fifo(path: str, flags: int) -> int:
    """Open a FIFO of ours without waiting for its other end; return the descriptor.

    Raises: NotFoundError, PermissionDeniedError where it is a link or somebody else's, InvalidArgumentError where it
        is no FIFO, ResourceExhaustedError.
    """
    with _typed_errors(f"FIFO {path}"):
        # O_PATH first: opening a device or a terminal in earnest may have effects.
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if stat.S_ISLNK(status.st_mode):
                raise PermissionDeniedError(f"FIFO {path} is a symbolic link: refused")
            if not stat.S_ISFIFO(status.st_mode):
                raise InvalidArgumentError(f"{path} is not a FIFO")
            if status.st_uid != os.geteuid():
                raise PermissionDeniedError(f"FIFO {path} belongs to user {status.st_uid}: refused")
            return os.open(f"/proc/self/fd/{handle}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(handle)


def _absolute(directory: str | os.PathLike[str]) -> Path:
    name = os.fspath(directory)
    if not name or "\0" in name:
        raise InvalidArgumentError(f"FIFO directory {name!r} is empty or holds a NUL")
    path = Path(os.path.abspath(name))  # noqa: PTH100 - resolve() would follow links  # the shim has another cwd
    if len(os.fsencode(path)) + _LONGEST_TAIL >= PATH_MAX:
        raise InvalidArgumentError(f"FIFO directory {name[:80]!r}… is too long: paths end at {PATH_MAX - 1} bytes")
    return path


def _make_directory(directory: Path) -> None:
    # Path.mkdir(parents=True) would leave the parents to the umask.
    for path in (*reversed(directory.parents), directory):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)


def _require_protected(directory: Path) -> None:
    if directory.is_symlink():
        raise PermissionDeniedError(f"FIFO directory {directory} is a symbolic link: refused")
    with _opened_directory(directory) as descriptor:
        status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise PermissionDeniedError(f"FIFO directory {directory} belongs to user {status.st_uid}: refused")
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise PermissionDeniedError(f"FIFO directory {directory} can be written by others: refused, chmod 0700 it")
    for parent in directory.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:  # anybody could put another directory in its place
            raise PermissionDeniedError(f"FIFO directory {directory} lies below {parent}, which all can write: refused")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextmanager
def _opened_directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _typed_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = _ERROR_TYPES.get(error.errno or 0)
        if kind is None:
            raise
        raise kind(f"{what}: {error.strerror}") from error
