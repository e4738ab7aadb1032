"""A container's json-file log as lines. Knows containers, tasks and the files; writes nothing."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal

import anyio
import attrs
from anyio import to_thread

from containerd_py._flows.exits import wait_for_exit
from containerd_py._flows.prepare_log import log_folder
from containerd_py._flows.same_host import require_same_host
from containerd_py._flows.together import working_together
from containerd_py.cio.copying import LineSplitter
from containerd_py.cio.json_log import LogFiles, settle_log
from containerd_py.errors import InvalidArgumentError, NotFoundError, TaskLostError
from containerd_py.oci.rfc3339 import parse_time
from containerd_py.services.bundle import Services
from containerd_py.types import Timestamp

_CHUNK: Final = 1 << 16  # bytes
_LOOK_AGAIN: Final = 0.05  # seconds between two looks at a file that is followed


@attrs.frozen(kw_only=True)
class LogLine:
    r"""A line a container wrote: where, when it was read from the process, and its bytes.

    `data` has its b"\n"; a last line may lack it, and so do the pieces of a line of more than 16 KiB, but its last.
    """

    stream: Literal["stdout", "stderr"]
    time: Timestamp
    data: bytes


@attrs.frozen(kw_only=True)
class LogWindow:
    """Which lines are wanted."""

    since: datetime | None
    until: datetime | None
    tail: int | None
    timestamps: bool

    def wants(self, line: LogLine) -> bool:
        """Tell whether the line is not before its time. Those after it are where reading ends."""
        return self.since is None or line.time >= self.since

    def is_past(self, line: LogLine) -> bool:
        """Tell whether neither this line nor one after it is wanted."""
        return self.until is not None and line.time > self.until

    def dressed(self, line: LogLine) -> LogLine:
        """Return the line as it is asked for."""
        return attrs.evolve(line, data=f"{line.time} ".encode() + line.data) if self.timestamps else line


def window(
    *, tail: int | None, since: datetime | timedelta | None, until: datetime | timedelta | None, timestamps: bool
) -> LogWindow:
    """Check what is asked for.

    Raises:
        InvalidArgumentError: `tail` is negative, a time has no time zone, or lies too far back to be one.
    """
    if tail is not None and tail < 0:
        raise InvalidArgumentError(f"tail={tail}: there are no fewer than 0 lines")
    return LogWindow(since=_moment(since, "since"), until=_moment(until, "until"), tail=tail, timestamps=timestamps)


def _moment(time: datetime | timedelta | None, what: str) -> datetime | None:
    if isinstance(time, timedelta):
        try:
            return datetime.now(UTC) - time
        except OverflowError as error:
            raise InvalidArgumentError(f"{what}={time}: there was no time then, leave it out") from error
    if time is not None and time.tzinfo is None:
        raise InvalidArgumentError(f"{what}={time}: a time without a time zone is ambiguous, use datetime.now(UTC)")
    return time


class LogLines(AsyncIterator[LogLine]):
    """The lines of a log. Made by `Container.logs`; a cancelled iteration can go on."""

    def __init__(self, files: LogFiles, wanted: LogWindow) -> None:
        self._files = files
        self._window = wanted
        self._splitter = LineSplitter()
        self._ready: deque[LogLine] = deque()
        self._backlog = 0
        self._is_over = False
        self._ends_with_backlog = False
        self.settled = anyio.Event()

    async def open(self) -> None:
        """Open the files."""
        self._backlog = await to_thread.run_sync(self._files.open)

    def __aiter__(self) -> LogLines:
        return self

    async def __anext__(self) -> LogLine:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            is_settled = self.settled.is_set()
            if not await to_thread.run_sync(self._take) and not self._is_over:
                if is_settled:
                    self._is_over = True
                else:
                    with anyio.move_on_after(_LOOK_AGAIN):
                        await self.settled.wait()
        return self._ready.popleft()

    def read_no_further(self) -> None:
        """Take what was there when the log was opened for all there is."""
        self.settled.set()
        self._ends_with_backlog = True

    def _take(self) -> bool:
        """Read on and make lines; for a worker thread, which is waited for: nothing that was read is lost."""
        if self._backlog > 0 and self._window.tail is not None:
            self._take_tail(self._window.tail)
            return True
        if self._ends_with_backlog and self._backlog <= 0:
            return False
        raw = self._read()
        for line in raw or ():
            self._accept(line, self._ready)
        return raw is not None

    def _read(self) -> list[bytes] | None:
        # What has come since the log was opened is neither a part of the tail nor of what was there.
        chunk = self._files.read(min(self._backlog, _CHUNK) if self._backlog > 0 else _CHUNK)
        if not chunk:
            return None
        self._backlog -= len(chunk)
        return self._splitter.feed(chunk)

    def _take_tail(self, tail: int) -> None:
        # Only what is kept is parsed, unless lines are chosen by their time.
        if self._window.since is None and self._window.until is None:
            raw: deque[bytes] = deque(maxlen=tail)
            while self._backlog > 0 and (lines := self._read()) is not None:
                raw.extend(lines)
            for line in raw:
                self._accept(line, self._ready)
        else:
            kept: deque[LogLine] = deque(maxlen=tail)
            while self._backlog > 0 and not self._is_over and (lines := self._read()) is not None:
                for line in lines:
                    self._accept(line, kept)
            self._ready.extend(kept)
        self._backlog = 0

    def _accept(self, raw: bytes, lines: deque[LogLine]) -> None:
        line = parse_line(raw)
        if line is None or self._is_over:
            return
        if self._window.is_past(line):
            self._is_over = True
        elif self._window.wants(line):
            lines.append(self._window.dressed(line))


def parse_line(raw: bytes) -> LogLine | None:
    """Return an entry of the log; None for what is none, as what a log process left that was killed while writing."""
    try:
        entry = json.loads(raw)
        stream, time = entry["stream"], parse_time(entry["time"])
        if time is None or stream not in ("stdout", "stderr"):
            return None
        # Bytes that are no UTF-8 were written as lone surrogates.
        return LogLine(stream=stream, time=time, data=entry["log"].encode("utf-8", "surrogateescape"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


@asynccontextmanager
async def open_logs(
    services: Services, container_id: str, wanted: LogWindow, *, follow: bool
) -> AsyncIterator[AsyncIterator[LogLine]]:
    """Lend the lines of a container's log."""
    record = await services.containers.get(container_id)
    await require_same_host(services, "a container's log is read")
    folder = await to_thread.run_sync(log_folder, services.namespace, record)
    if folder is None:
        raise NotFoundError(f"container {container_id} has no log: create its task with io=json_file_log()")
    name = f"{container_id}-json.log"
    files = LogFiles(folder, name)
    lines = LogLines(files, wanted)
    try:
        async with working_together() as workers:
            if follow:
                workers.start_soon(_settle_at_end, services, container_id, lines, folder, name, wanted.until)
            else:
                await to_thread.run_sync(partial(settle_log, folder, name, has_ended=False))
            await lines.open()
            if not follow:
                lines.read_no_further()
            yield lines
            await workers.end()
    finally:
        files.close()


async def _settle_at_end(
    services: Services, container_id: str, lines: LogLines, folder: str, name: str, until: datetime | None
) -> None:
    """Wait for the end of the task, or of the time that is wanted, and for the log to have everything of it."""
    has_ended = False
    bound = float("inf") if until is None else max(0.0, (until - datetime.now(UTC)).total_seconds())
    with anyio.move_on_after(bound):
        with suppress(TaskLostError):  # deleted: the log process has ended before
            await wait_for_exit(services, container_id)
        has_ended = True
    await to_thread.run_sync(partial(settle_log, folder, name, has_ended=has_ended))
    lines.settled.set()
