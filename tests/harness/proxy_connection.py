"""One connection through the socket proxy: two lanes of frames, and the faults that strike on them."""

import contextlib
import enum
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import attrs

from tests.harness.h2frames import Frame, FrameScanner, Kind, Piece
from tests.harness.unix_stream import UnixStream

READ_SIZE: Final = 1 << 18
QUEUE_LIMIT: Final = 256  # delayed writes a lane holds before its reader waits


class Direction(enum.Enum):
    """Which way bytes go."""

    TO_DAEMON = "to daemon"
    TO_CLIENT = "to client"

    @property
    def opposite(self) -> "Direction":
        return Direction.TO_CLIENT if self is Direction.TO_DAEMON else Direction.TO_DAEMON


class Place(enum.Enum):
    """Where a fault strikes, relative to its threshold."""

    BEFORE = "before frame"
    INSTEAD = "instead of frame"
    AFTER = "after frame"
    AT_BYTE = "after bytes"


@attrs.define
class Counters:
    """What a lane has forwarded."""

    bytes: int = 0
    frames: int = 0
    kinds: Counter[int] = attrs.Factory(Counter)

    def add(self, other: "Counters") -> None:
        self.bytes += other.bytes
        self.frames += other.frames
        self.kinds += other.kinds


@attrs.define
class Shape:
    """How a lane writes; shared by all connections of a proxy and changeable at any time."""

    latency: float = 0.0  # seconds
    slice_size: int | None = None  # bytes per write


@attrs.frozen
class Cut:
    """Close both ends."""


@attrs.frozen
class Hole:
    """Forward nothing more."""

    both: bool


@attrs.frozen
class Pause:
    """Read no more until resumed."""


@attrs.frozen
class Inject:
    """Write bytes of our own."""

    payload: "bytes | Callable[[ProxyConnection, Frame | None], bytes]"
    into: Direction


@attrs.frozen
class Replace:
    """Write something else than the frame."""

    change: Callable[[Frame], bytes]


Action = Cut | Hole | Pause | Inject | Replace


@attrs.define(eq=False, kw_only=True)
class Fault:
    """One scripted fault. ``fired`` and ``in_flight`` prove that it struck, and while what was going on."""

    action: Action
    direction: Direction
    place: Place
    threshold: int
    kind: int | None = None
    match: Callable[[Frame], bool] | None = None
    times: int | None = 1
    fired: int = 0
    in_flight: list[int] = attrs.Factory(list)  # open streams at each firing
    _seen: Counter[int] = attrs.Factory(Counter)  # by connection: matching frames, or bytes
    _event: anyio.Event = attrs.Factory(anyio.Event)

    def __str__(self) -> str:
        return f"{type(self.action).__name__} {self.place.value} {self.threshold} {self.direction.value}"

    async def wait_fired(self) -> None:
        """Wait until the fault has struck for the first time."""
        await self._event.wait()

    def disarm(self) -> None:
        self.times = self.fired

    @property
    def is_armed(self) -> bool:
        return self.times is None or self.fired < self.times

    def note_fired(self, connection: "ProxyConnection") -> None:
        self.fired += 1
        self.in_flight.append(len(connection.streams))
        self._event.set()

    def sees(self, connection: "ProxyConnection", frame: Frame) -> bool:
        """Count ``frame`` if it matches; return whether the fault is due at it."""
        if self.kind is not None and frame.kind != self.kind:
            return False
        if self.match is not None and not self.match(frame):
            return False
        self._seen[connection.index] += 1
        return self._seen[connection.index] >= self.threshold

    def bytes_left(self, connection: "ProxyConnection") -> int:
        """Return how many more bytes may pass before the fault is due."""
        return max(0, self.threshold - self._seen[connection.index])

    def note_bytes(self, connection: "ProxyConnection", count: int) -> None:
        self._seen[connection.index] += count


class _CutError(Exception):
    """Ends a connection from inside one of its lanes."""


class _Lane:
    """The way of one direction: reads from one socket, writes to the other."""

    def __init__(self, direction: Direction, source: UnixStream, sink: UnixStream) -> None:
        self.direction = direction
        self.source = source
        self.scanner = FrameScanner(from_client=direction is Direction.TO_DAEMON)
        self.muted = False
        self._sink = sink
        self._lock = anyio.Lock()  # frames of both sides' faults must not mix
        self._queue: deque[tuple[float, bytes]] = deque()
        self._changed = anyio.Event()

    async def write(self, data: bytes, shape: Shape) -> None:
        if self.muted or not data:
            return
        if not shape.latency and not self._queue:
            await self._write_now(data, shape)
            return
        while len(self._queue) >= QUEUE_LIMIT:
            await self._changed.wait()
        self._queue.append((anyio.current_time() + shape.latency, data))
        self._notify()

    async def drain(self, shape: Shape) -> None:
        """Write what is delayed, each at its time, for ever."""
        while True:
            while self._queue:
                due, data = self._queue[0]
                await anyio.sleep(max(0.0, due - anyio.current_time()))
                await self._write_now(data, shape)
                self._queue.popleft()
                self._notify()
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait until nothing is delayed any more."""
        while self._queue:
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _write_now(self, data: bytes, shape: Shape) -> None:
        async with self._lock:
            if shape.slice_size is None:
                await self._sink.send(data)
                return
            for start in range(0, len(data), shape.slice_size):
                await self._sink.send(data[start : start + shape.slice_size])
                await anyio.sleep(0)


class ProxyConnection:
    """One client's connection and the daemon's side of it."""

    def __init__(self, *, index: int, faults: list[Fault], shapes: dict[Direction, Shape]) -> None:
        self.index = index
        self.closed = False
        self.counters = {direction: Counters() for direction in Direction}
        self.streams: set[int] = set()  # opened by the client and ended by neither side
        self.newest_stream = 0
        self._faults = faults
        self._shapes = shapes
        self._lanes: dict[Direction, _Lane] = {}
        self._gates: dict[Direction, anyio.Event] = {}  # present: reading is paused until it is set
        self._scope = anyio.CancelScope()

    def cut(self) -> None:
        """Close both ends now."""
        self.closed = True
        self._scope.cancel()

    def pause(self, direction: Direction) -> None:
        self._gates.setdefault(direction, anyio.Event())

    def resume(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()

    async def stay_silent(self) -> None:
        """Do nothing until cut."""
        with self._scope:
            await anyio.sleep_forever()
        self.closed = True

    async def run(self, client: UnixStream, daemon: UnixStream) -> None:
        """Forward until either side ends, or a fault does."""
        self._lanes = {
            Direction.TO_DAEMON: _Lane(Direction.TO_DAEMON, client, daemon),
            Direction.TO_CLIENT: _Lane(Direction.TO_CLIENT, daemon, client),
        }
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for lane in self._lanes.values():
                        group.start_soon(lane.drain, self._shapes[lane.direction])
                        group.start_soon(self._guard, self._carry, lane)
        finally:
            self.closed = True
            self.streams.clear()

    async def _guard(self, carry: Callable[[_Lane], Awaitable[None]], lane: _Lane) -> None:
        with contextlib.suppress(_CutError, anyio.BrokenResourceError):
            await carry(lane)
        self._scope.cancel()  # as with a socket whose peer is gone: neither way goes on

    async def _carry(self, lane: _Lane) -> None:
        while True:
            while (gate := self._gates.get(lane.direction)) is not None:
                await gate.wait()
            try:
                data = await lane.source.receive(READ_SIZE)
            except anyio.EndOfStream:
                await self._forward(lane, lane.scanner.rest())
                await lane.flush()
                return
            pieces = list(lane.scanner.feed(data))
            if any(fault.is_armed and fault.direction is lane.direction for fault in self._faults):
                for piece in pieces:
                    await self._pass_watched(lane, piece)
            else:
                for piece in pieces:
                    self._count(lane.direction, piece)
                await self._forward(lane, b"".join(piece.raw for piece in pieces))

    async def _forward(self, lane: _Lane, data: bytes) -> None:
        if not lane.muted:
            self.counters[lane.direction].bytes += len(data)
        await lane.write(data, self._shapes[lane.direction])

    def _count(self, direction: Direction, piece: Piece) -> None:
        frame = piece.frame
        if frame is None:
            return
        counters = self.counters[direction]
        counters.frames += 1
        counters.kinds[frame.kind] += 1
        if direction is Direction.TO_DAEMON and frame.kind == Kind.HEADERS and frame.stream > self.newest_stream:
            self.newest_stream = frame.stream
            self.streams.add(frame.stream)
        if frame.kind == Kind.RST_STREAM or (direction is Direction.TO_CLIENT and frame.ends_stream):
            self.streams.discard(frame.stream)

    async def _pass_watched(self, lane: _Lane, piece: Piece) -> None:
        """Forward one piece, with the faults that are due before, instead of, inside and after it."""
        armed = [fault for fault in self._faults if fault.is_armed and fault.direction is lane.direction]
        frame = piece.frame
        due = [fault for fault in armed if fault.place is not Place.AT_BYTE and frame and fault.sees(self, frame)]
        for fault in due:
            if fault.place is Place.BEFORE:
                await self._strike(fault, lane, frame)
        self._count(lane.direction, piece)
        raw = piece.raw
        for fault in due:
            if fault.place is Place.INSTEAD and frame and isinstance(fault.action, Replace):
                fault.note_fired(self)
                raw = fault.action.change(frame)
        await self._forward_with_byte_faults(lane, raw, [fault for fault in armed if fault.place is Place.AT_BYTE])
        for fault in due:
            if fault.place is Place.AFTER:
                await self._strike(fault, lane, frame)

    async def _forward_with_byte_faults(self, lane: _Lane, raw: bytes, faults: list[Fault]) -> None:
        while True:
            left, nearest = min(
                ((fault.bytes_left(self), fault) for fault in faults if fault.is_armed),
                key=lambda entry: entry[0],
                default=(math.inf, None),
            )
            if nearest is None or left > len(raw):
                break
            head, raw = raw[: int(left)], raw[int(left) :]
            await self._forward(lane, head)
            for fault in faults:
                fault.note_bytes(self, len(head))
            faults = [fault for fault in faults if fault is not nearest]
            await self._strike(nearest, lane, None)
        for fault in faults:
            fault.note_bytes(self, len(raw))
        await self._forward(lane, raw)

    async def _strike(self, fault: Fault, lane: _Lane, frame: Frame | None) -> None:
        fault.note_fired(self)
        match fault.action:
            case Cut():
                await lane.flush()
                raise _CutError
            case Hole(both=both):
                for direction in Direction if both else (lane.direction,):
                    self._lanes[direction].muted = True
            case Pause():
                self.pause(lane.direction)
                await self._gates[lane.direction].wait()
            case Inject(payload=payload, into=into):
                data = payload if isinstance(payload, bytes) else payload(self, frame)
                await self._lanes[into].write(data, self._shapes[into])
            case Replace():
                raise TypeError("a replacement takes the place of a frame")
