"""Progress on its way to whoever watches: the newest of each thing, so that a slow watcher holds up nothing."""

from __future__ import annotations

import anyio

from containerd_py.progress import Progress


class ProgressBoard:
    """Holds what was reported and not yet taken: one entry for each name, the last one.

    Reporting never waits. Memory is bounded by the number of things there is progress about.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Progress] = {}
        self._change = anyio.Event()
        self._is_closed = False

    def report(self, progress: Progress) -> None:
        """Put up one report, in place of an older one about the same."""
        self._pending[progress.name or progress.event] = progress
        self._change.set()

    def close(self) -> None:
        """Say that nothing more will come."""
        self._is_closed = True
        self._change.set()

    async def take(self) -> Progress | None:
        """Return the next report, the oldest first; None when there are no more."""
        while not self._pending:
            if self._is_closed:
                return None
            self._change = anyio.Event()
            await self._change.wait()
        return self._pending.pop(next(iter(self._pending)))
