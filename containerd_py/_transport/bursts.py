"""Many DATA frames at once: what h2 would frame one by one through dozens of Python calls each.

Reaches into h2's flow-control accounts, which pyproject pins; everything but plain DATA frames goes h2's own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from h2.connection import H2Connection

BURST: Final = 256 * 1024  # bytes framed and handed to the socket together; more gained nothing
_DATA_FRAME: Final = b"\x00\x00"  # type DATA, no flags


def take_burst(connection: H2Connection, stream_id: int, data: memoryview) -> list[bytes | memoryview]:
    """Return DATA frames, header and payload in turn, that carry `data` on an open stream.

    The caller has made sure that both flow-control windows allow all of it; they are debited here.
    """
    connection.outbound_flow_control_window -= len(data)
    connection.streams[stream_id].outbound_flow_control_window -= len(data)
    return list(_frames(connection.max_outbound_frame_size, stream_id, data))


def _frames(frame_size: int, stream_id: int, data: memoryview) -> Iterator[bytes | memoryview]:
    trailer = _DATA_FRAME + stream_id.to_bytes(4, "big")
    full = frame_size.to_bytes(3, "big") + trailer
    for start in range(0, len(data), frame_size):
        piece = data[start : start + frame_size]
        yield full if len(piece) == frame_size else len(piece).to_bytes(3, "big") + trailer
        yield piece
