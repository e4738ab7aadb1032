"""Directories of this machine that several programs share: made private, and locked by the lock nerdctl takes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from containerd_py._flows.undoing import settled
from containerd_py.errors import InvalidArgumentError, PermissionDeniedError

_LOOK_AGAIN: Final = (0.001, 0.002, 0.005, 0.01, 0.02)  # seconds between two tries; the last one repeats


class DirectoryLock:
    """An exclusive lock on a directory itself, gone with this process. Calls block, but never for another's lock."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    @property
    def is_held(self) -> bool:
        """Whether this object has it."""
        return self._fd >= 0

    def try_take(self) -> bool:
        """Take it unless somebody else has it, or the directory has gone.

        Raises:
            PermissionDeniedError: The directory may not be opened.
            InvalidArgumentError: It is a link or a file.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise PermissionDeniedError(f"{self._path} may not be opened: {error.strerror}") from error
        except OSError as error:
            raise InvalidArgumentError(f"{self._path} is no directory: remove it") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking another may have removed it, and a third one made it anew.
            if os.path.samestat(os.fstat(fd), os.lstat(self._path)):
                self._fd, fd = fd, -1
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return self.is_held

    def release(self) -> None:
        """Give it back; harmless where it is not held."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


async def try_lock(lock: DirectoryLock) -> bool:
    """Take a lock as `DirectoryLock.try_take` does; whoever is cancelled meanwhile knows by `is_held` whether it is."""
    return await settled(lambda: to_thread.run_sync(lock.try_take))


@asynccontextmanager
async def locked_directory(path: str, *, below: str) -> AsyncIterator[None]:
    """Make a directory where it is missing and hold its lock; whoever else wants it waits.

    Raises:
        PermissionDeniedError: It may not be made or opened here.
    """
    lock = DirectoryLock(path)

    def take() -> bool:
        make_private_directory(path, below=below)
        return lock.try_take()

    try:
        tries = 0
        while not await settled(lambda: to_thread.run_sync(take)):
            await anyio.sleep(_LOOK_AGAIN[min(tries, len(_LOOK_AGAIN) - 1)])
            tries += 1
        yield
    finally:
        lock.release()


def make_private_directory(path: str, *, below: str) -> bool:
    """Make a directory for this user alone, and so what is missing of its way from `below` on; tell whether it is new.

    Raises:
        PermissionDeniedError: It may not be made here.
        InvalidArgumentError: Something else has its name, or that of a directory on the way.
    """
    parts = Path(path).relative_to(below).parts
    place = Path(below)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        is_new = False
        for part in ("", *parts):
            place = place / part
            is_new = False
            with suppress(FileExistsError):
                place.mkdir(0o700)
                is_new = True
        if not is_new and not place.is_dir():
            raise InvalidArgumentError(f"{path} is no directory: remove it")
    except PermissionError as error:
        raise PermissionDeniedError(
            f"{place} may not be made: {error.strerror}; give a data_root that this user may write"
        ) from error
    except (NotADirectoryError, FileNotFoundError) as error:
        raise InvalidArgumentError(f"{place} cannot be made: {error.strerror}") from error
    return is_new
