"""Progress for people: live bars on a terminal, plain lines elsewhere. Needs the extra `console` (rich).

Knows `Progress` and a console; knows nothing of registries or daemons.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from containerd_py.progress import Progress

_SHORT_DIGEST: Final = 12  # hex digits, as Docker shows
_DIGEST: Final = "sha256:"  # in the names of pieces of content
_LINE_PAUSE: Final = 2.0  # seconds between two plain lines about the same bytes
_ALL_HERE: Final = frozenset({"complete", "already exists", "extracting", "extracted"})  # every byte has arrived


class PullBars:
    """Shows a transfer's progress: one bar per piece of content where there is a terminal, lines where there is none.

    Use as a context manager and `update` it, or let `follow` do both::

        with PullBars() as bars:
            async with client.open_pull("alpine") as pull:
                await bars.follow(pull)
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._bars: RichProgress | None = None
        self._rows: dict[str, TaskID] = {}
        self._last: dict[str, Progress] = {}
        self._printed_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars = RichProgress(
                TextColumn("{task.fields[label]}", style="cyan"),
                TextColumn("{task.fields[event]}", style="dim"),
                BarColumn(bar_width=30),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                console=self._console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    async def follow(self, progress: AsyncIterable[Progress]) -> None:
        """Show everything until the transfer ends; its errors are raised from here."""
        async for moment in progress:
            self.update(moment)

    def update(self, progress: Progress) -> None:
        """Show one moment of the transfer."""
        if self._bars is not None:
            self._update_bar(self._bars, progress)
        else:
            self._print_line(progress)
        self._last[_key(progress)] = progress

    def _update_bar(self, bars: RichProgress, progress: Progress) -> None:
        if _DIGEST not in progress.name:  # about the transfer, not about a piece of content
            bars.console.print(f"{progress.name} {progress.event}".strip(), style="bold", highlight=False)
            return
        before = self._last.get(progress.name)
        total = progress.total or (before.total if before is not None else 0)
        done = total if progress.event in _ALL_HERE else progress.progress
        row = self._rows.get(progress.name)
        if row is None:
            label = _label(progress.name)
            row = bars.add_task("", total=total or None, completed=done, label=label, event=progress.event)
            self._rows[progress.name] = row
        bars.update(row, event=progress.event, completed=done, total=total or None)

    def _print_line(self, progress: Progress) -> None:
        before = self._last.get(_key(progress))
        is_news = before is None or before.event != progress.event
        now = time.monotonic()
        if not is_news and now - self._printed_at.get(_key(progress), 0.0) < _LINE_PAUSE:
            return
        self._printed_at[_key(progress)] = now
        amount = ""
        if progress.total and progress.event in {"downloading", "uploading"}:
            amount = f" {_mebibytes(progress.progress)} of {_mebibytes(progress.total)}"
        self._console.print(
            f"{_label(progress.name)} {progress.event}{amount}".strip(), highlight=False, soft_wrap=True
        )


def _key(progress: Progress) -> str:
    return progress.name or progress.event


def _label(name: str) -> str:
    """Shorten "layer-sha256:…" to the kind and the first digits of the digest."""
    kind, separator, digest = name.rpartition(_DIGEST)
    return f"{kind.rstrip('-')} {digest[:_SHORT_DIGEST]}".strip() if separator else name


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
