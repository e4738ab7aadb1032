"""A unix-socket proxy in front of a daemon that misbehaves on command.

It forwards whole HTTP/2 frames (other protocols byte for byte), counts them in both directions, and carries out
scripted faults; each fault counts how often it fired and what was in flight. Knows sockets and frames; knows nothing
of gRPC or containerd.
"""

import enum
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness import h2frames
from tests.harness.background import background_tasks
from tests.harness.h2frames import Frame, Kind
from tests.harness.proxy_connection import (
    Action,
    Counters,
    Cut,
    Direction,
    Fault,
    Hole,
    Inject,
    Pause,
    Place,
    ProxyConnection,
    Replace,
    Shape,
)
from tests.harness.unix_stream import UnixStream, connect_unix, serve_unix

__all__ = ["Accept", "Counters", "Direction", "Fault", "Frame", "Kind", "SocketProxy", "open_proxy"]

_BOTH = (Direction.TO_DAEMON, Direction.TO_CLIENT)


class Accept(enum.Enum):
    """What becomes of a new connection."""

    FORWARD = "forward"
    SILENT = "silent"  # accepted, never read, never answered
    CLOSE = "close"  # closed at once


class SocketProxy:
    """See ``open_proxy``. Faults are armed by its methods and stay armed until they fired ``times`` times.

    Where a method takes ``after_bytes`` or ``after_frames``, counting starts when the fault is armed, on each
    connection by itself; frames may be narrowed by ``kind`` and ``match``. With none of the four the fault strikes at
    the first byte to come. ``times=None`` means every time.
    """

    def __init__(self, target: str, path: Path) -> None:
        self.address = f"unix://{path}"
        self.path = path
        self.target = target
        self.accept = Accept.FORWARD
        self.connections: list[ProxyConnection] = []  # in order of arrival, closed ones too
        self.faults: list[Fault] = []
        self.shapes = {direction: Shape() for direction in _BOTH}

    # -- what has passed ----------------------------------------------------------------------------------------

    @property
    def live(self) -> list[ProxyConnection]:
        """The connections that are open now."""
        return [connection for connection in self.connections if not connection.closed]

    @property
    def streams_in_flight(self) -> int:
        return sum(len(connection.streams) for connection in self.live)

    def counters(self, direction: Direction) -> Counters:
        """Sum up what has been forwarded in ``direction``, over all connections."""
        total = Counters()
        for connection in self.connections:
            total.add(connection.counters[direction])
        return total

    def assert_all_fired(self) -> None:
        """Fail if an armed fault never fired: the test would have proved nothing."""
        silent = [fault for fault in self.faults if not fault.fired]
        if silent:
            raise AssertionError("faults that never fired: " + ", ".join(str(fault) for fault in silent))

    # -- faults that wait for their moment ----------------------------------------------------------------------

    def cut(
        self,
        direction: Direction = Direction.TO_CLIENT,
        *,
        after_bytes: int | None = None,
        after_frames: int | None = None,
        kind: int | None = None,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Close both ends; what passed before the cut is still delivered."""
        return self._arm(Cut(), direction, after_bytes, after_frames, kind, match, times)

    def blackhole(
        self,
        direction: Direction = Direction.TO_CLIENT,
        *,
        both: bool = True,
        after_bytes: int | None = None,
        after_frames: int | None = None,
        kind: int | None = None,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Read on but forward nothing more, in this direction or in ``both``."""
        return self._arm(Hole(both=both), direction, after_bytes, after_frames, kind, match, times)

    def pause(
        self,
        direction: Direction = Direction.TO_DAEMON,
        *,
        after_bytes: int | None = None,
        after_frames: int | None = None,
        kind: int | None = None,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Stop reading in ``direction``, so that the sender's buffers fill; see ``resume``."""
        return self._arm(Pause(), direction, after_bytes, after_frames, kind, match, times)

    def inject(
        self,
        payload: bytes | Callable[[ProxyConnection, Frame | None], bytes],
        direction: Direction = Direction.TO_CLIENT,
        *,
        into: Direction | None = None,
        after_bytes: int | None = None,
        after_frames: int | None = None,
        kind: int | None = None,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Send bytes of our own ``into`` a direction (default: the one watched), between two frames."""
        action = Inject(payload=payload, into=into or direction)
        return self._arm(action, direction, after_bytes, after_frames, kind, match, times)

    def reset_stream(
        self,
        code: int,
        direction: Direction = Direction.TO_DAEMON,
        *,
        after_frames: int = 1,
        kind: int | None = Kind.HEADERS,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Answer a frame (by default the next request's HEADERS) with RST_STREAM(code) to the client."""

        def payload(_connection: ProxyConnection, frame: Frame | None) -> bytes:
            return h2frames.rst_stream(frame.stream if frame else 1, code)

        return self.inject(
            payload,
            direction,
            into=Direction.TO_CLIENT,
            after_frames=after_frames,
            kind=kind,
            match=match,
            times=times,
        )

    def goaway(
        self,
        code: int,
        direction: Direction = Direction.TO_DAEMON,
        *,
        last_stream: int | None = None,
        after_frames: int = 1,
        kind: int | None = Kind.HEADERS,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Send GOAWAY(code) to the client; ``last_stream`` defaults to the newest stream it has opened."""

        def payload(connection: ProxyConnection, _frame: Frame | None) -> bytes:
            return h2frames.goaway(connection.newest_stream if last_stream is None else last_stream, code)

        return self.inject(
            payload,
            direction,
            into=Direction.TO_CLIENT,
            after_frames=after_frames,
            kind=kind,
            match=match,
            times=times,
        )

    def replace(
        self,
        change: Callable[[Frame], bytes],
        direction: Direction = Direction.TO_CLIENT,
        *,
        nth: int = 1,
        kind: int | None = None,
        match: Callable[[Frame], bool] | None = None,
        times: int | None = 1,
    ) -> Fault:
        """Forward ``change(frame)`` (possibly nothing) instead of the ``nth`` matching frame."""
        return self._keep(
            Fault(
                action=Replace(change=change),
                direction=direction,
                place=Place.INSTEAD,
                threshold=nth,
                kind=kind,
                match=match,
                times=times,
            )
        )

    def _arm(
        self,
        action: Action,
        direction: Direction,
        after_bytes: int | None,
        after_frames: int | None,
        kind: int | None,
        match: Callable[[Frame], bool] | None,
        times: int | None,
    ) -> Fault:
        if after_bytes is not None:
            if after_frames is not None or kind is not None or match is not None:
                raise ValueError("after_bytes counts bytes: kind, match and after_frames do not go with it")
            place, threshold = Place.AT_BYTE, after_bytes
        elif after_frames:
            place, threshold = Place.AFTER, after_frames
        elif after_frames is None and kind is None and match is None:
            place, threshold = Place.AT_BYTE, 0
        else:
            place, threshold = Place.BEFORE, 1
        return self._keep(
            Fault(
                action=action,
                direction=direction,
                place=place,
                threshold=threshold,
                kind=kind,
                match=match,
                times=times,
            )
        )

    def _keep(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    # -- faults at once -----------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Disarm all faults; what has been cut stays cut, what is muted or paused stays so."""
        for fault in self.faults:
            fault.disarm()

    def shape(self, direction: Direction | None = None, *, latency: float = 0.0, slice_size: int | None = None) -> None:
        """Delay everything by ``latency`` seconds and write at most ``slice_size`` bytes at a time, from now on."""
        for each in _BOTH if direction is None else (direction,):
            self.shapes[each].latency = latency
            self.shapes[each].slice_size = slice_size

    def disconnect(self) -> int:
        """Cut all live connections now; return how many."""
        live = self.live
        for connection in live:
            connection.cut()
        return len(live)

    def pause_now(self, direction: Direction) -> int:
        """Stop reading in ``direction`` on all live connections (a read under way may still end); return how many."""
        for connection in self.live:
            connection.pause(direction)
        return len(self.live)

    def resume(self) -> None:
        """Read again wherever reading is paused."""
        for connection in self.live:
            connection.resume()

    # -- plumbing -----------------------------------------------------------------------------------------------

    async def handle(self, client: UnixStream) -> None:
        async with client:
            if self.accept is Accept.CLOSE:
                return
            connection = ProxyConnection(index=len(self.connections), faults=self.faults, shapes=self.shapes)
            self.connections.append(connection)
            if self.accept is Accept.SILENT:
                await connection.stay_silent()
                return
            try:
                daemon = await connect_unix(self.target)
            except OSError:
                connection.closed = True
                return
            async with daemon:
                await connection.run(client, daemon)


@asynccontextmanager
async def open_proxy(target: str | Path) -> AsyncIterator[SocketProxy]:
    """Listen on a socket of its own and forward to the daemon at ``target`` (a path or ``unix://`` address)."""
    folder = Path(tempfile.mkdtemp(prefix="proxy-"))
    try:
        proxy = SocketProxy(str(target).removeprefix("unix://"), folder / "s")
        async with background_tasks() as group:
            await group.start(functools.partial(serve_unix, proxy.path, proxy.handle, group=group))
            yield proxy
    finally:
        shutil.rmtree(folder)
