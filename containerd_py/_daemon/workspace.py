"""The folders of a private daemon, made and removed. Blocking: to be called in worker threads."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final

from containerd_py._daemon.leftovers import mount_points_under

FOLDER_MODE: Final = 0o711  # containers with mapped users must pass through, nobody needs to list
RUNTIME_FOLDER: Final = Path("/run")


class TemporaryFolders:
    """Temporary folders that are removed together. Safe to use from several threads."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        # Cancellation may end the wait for a thread that makes a folder: who removes them waits for that one.
        self._lock = threading.Lock()
        self._closed = False

    def make(self, prefix: str, *, parent: Path | None = None) -> Path:
        """Make a folder in `parent`, or where temporary files belong.

        Raises:
            RuntimeError: They were removed already.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the temporary folders were removed already")
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            self._folders.append(folder)
            folder.chmod(FOLDER_MODE)
            return folder

    def remove(self) -> list[str]:
        """Remove what was made; return what could not be removed."""
        with self._lock:
            self._closed = True
            return [problem for folder in self._folders for problem in _remove(folder)]


class Workspace:
    """The folders of one daemon: a temporary one for its state, and its root."""

    def __init__(self, root: Path | None) -> None:
        self._given_root = root.absolute() if root is not None else None
        self._temporary = TemporaryFolders()
        self.is_made = False

    def make(self) -> None:
        """Make the folders."""
        # Short, as a socket's path has a limit of 107 bytes; and emptied by the next boot, whatever happens to us.
        self.home = self._temporary.make("ctrd-", parent=RUNTIME_FOLDER if os.access(RUNTIME_FOLDER, os.W_OK) else None)
        if self._given_root is None:
            self.root = self._temporary.make("containerd-root-")
        else:
            self.root = self._given_root
            self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self.is_made = True

    @property
    def state(self) -> Path:
        """What containerd calls its state folder: running tasks."""
        return self.home / "state"

    @property
    def address(self) -> str:
        """The path of the API's socket."""
        return str(self.home / "api.sock")

    def remove(self) -> list[str]:
        """Remove what is temporary; return what could not be removed."""
        return self._temporary.remove()


def _remove(folder: Path) -> list[str]:
    if mount_points_under(folder):  # never delete through a mount
        return [f"{folder} was not removed: there are mounts in it"]
    try:
        shutil.rmtree(folder)
    except OSError as error:
        return [f"{folder} was not removed: {error}"]
    return []
