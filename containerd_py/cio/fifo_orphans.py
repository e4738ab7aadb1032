"""FIFO folders that programs which were killed have left: found, judged and removed. Blocking calls.

A folder is ours by its name, owner, mode and content. It is in use while any process of this machine has one of its
FIFOs open: its program, a shim, whoever attached.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from containerd_py.cio.fifo_folder import PREFIX, FifoFolder, default_directory
from containerd_py.errors import PermissionDeniedError

_PROCESSES: Final = Path("/proc")
_SHIM: Final = "containerd-shim"  # the beginning of their names, of which the kernel keeps 15 characters


@attrs.frozen
class LeftFolder:
    """A folder of FIFOs: its path, and the names in it."""

    path: str
    names: tuple[str, ...]


def find_left_folders(directory: str | os.PathLike[str] | None, *, older_than: float) -> list[LeftFolder]:
    """Return the folders that nobody has open and nobody has touched for so many seconds.

    Raises:
        PermissionDeniedError: There are shims whose files this user may not see.
        FailedPreconditionError: There is no default directory.
    """
    place = default_directory() if directory is None else Path(directory)
    folders = [folder for folder in _folders(place) if _is_ours(folder, older_than)]
    if not folders:
        return []
    in_use = _open_folders()
    return [LeftFolder(str(folder), tuple(os.listdir(folder))) for folder in folders if folder.name not in in_use]  # noqa: PTH208


def folders_open_in(processes: Iterable[int]) -> set[str]:
    """Return the paths of our folders that these processes have something of open; those of others are not seen."""
    found = set()
    for process in processes:
        with suppress(OSError):
            for descriptor in list((_PROCESSES / str(process) / "fd").iterdir()):
                with suppress(OSError):
                    found |= folders_of([os.readlink(descriptor)])  # noqa: PTH115
    return found


def folders_of(fifos: Iterable[str]) -> set[str]:
    """Return the paths of the folders, named as ours are, that these paths of FIFOs are in."""
    folders = {os.path.dirname(fifo) for fifo in fifos if fifo.startswith("/")}  # noqa: PTH120  # text
    return {folder for folder in folders if os.path.basename(folder).startswith(PREFIX)}  # noqa: PTH119


def remove_left_folder(folder: LeftFolder) -> bool:
    """Remove a folder; tell whether it was there and is gone."""
    owned = FifoFolder()
    owned.adopt(f"{folder.path}/{name}" for name in folder.names)
    with suppress(OSError, PermissionDeniedError):
        owned.remove()
        if not folder.names:
            os.rmdir(folder.path)  # noqa: PTH106
        return not os.path.lexists(folder.path)
    return False


def _folders(directory: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from (path for path in directory.iterdir() if path.name.startswith(PREFIX))


def _is_ours(folder: Path, older_than: float) -> bool:
    """Tell whether an earlier one of us made the folder, all there is in it, and not just now."""
    with suppress(OSError):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or (status.st_uid, stat.S_IMODE(status.st_mode)) != (os.geteuid(), 0o700):
            return False
        if max(status.st_mtime, status.st_ctime) > time.time() - older_than:
            return False
        return all(stat.S_ISFIFO(path.lstat().st_mode) for path in folder.iterdir())
    return False


def _open_folders() -> set[str]:
    """Return the names of folders that a process has something of open, in whatever mount namespace."""
    found = set()
    for process in _PROCESSES.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            descriptors = list((process / "fd").iterdir())
        except PermissionError as error:
            _require_no_shim(process, error)
            continue
        except OSError:
            continue  # it has ended
        for descriptor in descriptors:
            with suppress(OSError):
                parts = os.readlink(descriptor).split("/")  # noqa: PTH115
                found |= {part for part in parts if part.startswith(PREFIX)}
    return found


def _require_no_shim(process: Path, error: PermissionError) -> None:
    with suppress(OSError):
        if (process / "comm").read_text().startswith(_SHIM):
            raise PermissionDeniedError(
                "another user's shims may have FIFOs of this one open, which only root can tell: run as root"
            ) from error
