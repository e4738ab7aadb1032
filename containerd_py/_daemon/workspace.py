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


class Workspace:
    """Temporary folders for a daemon's state and, unless one is given, its root. Safe to use from several threads."""

    def __init__(self, root: Path | None) -> None:
        self._given_root = root.absolute() if root is not None else None
        self._folders: list[Path] = []
        # Cancellation may end the wait for a thread that makes folders: who removes them waits for that one.
        self._lock = threading.Lock()
        self._closed = False

    @property
    def home(self) -> Path:
        """The folder for sockets, configuration, log and the daemon's own state; always temporary."""
        return self._folders[0]

    @property
    def root(self) -> Path:
        """The folder for images, snapshots and metadata."""
        return self._given_root or self._folders[1]

    @property
    def state(self) -> Path:
        """What containerd calls its state folder: running tasks."""
        return self.home / "state"

    @property
    def address(self) -> str:
        """The path of the API's socket."""
        return str(self.home / "api.sock")

    @property
    def is_made(self) -> bool:
        """Whether there are folders."""
        return bool(self._folders)

    def make(self) -> None:
        """Make the folders."""
        with self._lock:
            if self._closed:
                return
            # Short, as a socket's path has a limit of 107 bytes; and emptied by the next boot, whatever happens to us.
            self._make_folder("ctrd-", RUNTIME_FOLDER if os.access(RUNTIME_FOLDER, os.W_OK) else None)
            if self._given_root is None:
                self._make_folder("containerd-root-", None)
            else:
                self._given_root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def remove(self) -> list[str]:
        """Remove what was made; return what could not be removed."""
        with self._lock:
            self._closed = True
            return [problem for folder in self._folders for problem in _remove(folder)]

    def _make_folder(self, prefix: str, parent: Path | None) -> None:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._folders.append(folder)
        folder.chmod(FOLDER_MODE)


def _remove(folder: Path) -> list[str]:
    if mount_points_under(folder):  # never delete through a mount
        return [f"{folder} was not removed: there are mounts in it"]
    try:
        shutil.rmtree(folder)
    except OSError as error:
        return [f"{folder} was not removed: {error}"]
    return []
