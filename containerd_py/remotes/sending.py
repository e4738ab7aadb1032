"""Content on its way to a registry: handed to the HTTP client in pieces, watched for a peer that does not take them.

Knows times and sizes; knows no HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

import anyio
import attrs

from containerd_py.errors import SizeMismatchError
from containerd_py.remotes.limits import RegistryLimits

# A piece counts as progress once it is taken: small enough for that on slow lines, large where the line is fast.
_SMALLEST_PIECE: Final = 16 * 1024  # bytes
_LARGEST_PIECE: Final = 1024 * 1024
_FAST: Final = 0.05  # seconds for a piece, below which the next one is twice as large
_SLOW: Final = 1.0


def _to_nobody(_count: int) -> None:
    """Report to nobody."""


@attrs.frozen(kw_only=True)
class Content:
    """What a request brings along: exactly `size` bytes. `report` is told how many of them the network has taken.

    The chunks are iterated once, in a task of the HTTP client's.
    """

    chunks: AsyncIterator[bytes] = attrs.field(repr=False)
    size: int
    report: Callable[[int], None] = _to_nobody


class Sending:
    """An iterator over the pieces of some content, which sets and moves the deadline of the request's scope.

    Time that the content itself lets us wait does not count.
    """

    def __init__(self, content: Content, limits: RegistryLimits, scope: anyio.CancelScope) -> None:
        self._content = content
        self._limits = limits
        self._scope = scope
        self._rest = memoryview(b"")  # of the chunk at hand
        self._piece = 0  # bytes of the piece that was handed over last
        self._handed_over_at = 0.0
        self._piece_size = 4 * _SMALLEST_PIECE
        self._waited = 0.0  # seconds, and bytes taken in them, since the rate was last judged
        self._received = 0
        self._has_begun = False
        self.taken = 0  # bytes
        self.is_slow = False  # it was given up since next to nothing was taken
        self.failure: SizeMismatchError | None = None

    def __aiter__(self) -> Self:
        """Begin; for an HTTP client that would send the request once more (aiohttp before 3.14), it is broken.

        Raises:
            ConnectionResetError: The content has been sent in part.
        """
        if self._has_begun:
            raise ConnectionResetError("the connection broke in the middle of the content")
        return self

    async def __anext__(self) -> memoryview:
        """Wait for the next piece.

        Raises:
            SizeMismatchError: The content has another size than was promised.
        """
        self._has_begun = True
        self._count()
        while not self._rest:
            self._scope.deadline = math.inf
            try:
                self._rest = memoryview(await anext(self._content.chunks))
            except StopAsyncIteration:
                self._check_size(self.taken, exactly=True)
                self._scope.deadline = anyio.current_time() + self._limits.commit_timeout
                raise
            self._check_size(self.taken + len(self._rest))
        piece, self._rest = self._rest[: self._piece_size], self._rest[self._piece_size :]
        self._piece = len(piece)
        self._scope.deadline = anyio.current_time() + self._limits.stall_timeout
        self._handed_over_at = time.monotonic()
        return piece

    @property
    def has_ended(self) -> bool:
        """Whether the network has taken everything."""
        return self.taken == self._content.size

    def _count(self) -> None:
        """Count the piece that was taken, and choose the next one's size by the time it took."""
        if not self._piece:
            return
        waited = time.monotonic() - self._handed_over_at
        self.taken += self._piece
        self._judge(waited, self._piece)
        self._piece = 0
        if waited < _FAST:
            self._piece_size = min(self._piece_size * 2, _LARGEST_PIECE)
        elif waited > _SLOW:
            self._piece_size = max(self._piece_size // 2, _SMALLEST_PIECE)
        self._content.report(self.taken)

    def _judge(self, waited: float, received: int) -> None:
        self._waited += waited
        self._received += received
        if self._waited < self._limits.min_rate_window:
            return
        self.is_slow = self._received / self._waited < self._limits.min_rate
        self._waited, self._received = 0.0, 0
        if self.is_slow:
            self._scope.cancel()

    def _check_size(self, size: int, *, exactly: bool = False) -> None:
        if size > self._content.size or (exactly and size < self._content.size):
            self.failure = SizeMismatchError(f"content of {self._content.size} bytes gave {size} when it was read")
            raise self.failure
