"""Many DATA frames at once: what h2 would frame one by one through dozens of Python calls each.

Reaches into h2's flow-control accounts, which pyproject pins; everything but plain DATA frames goes h2's own way.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from h2.connection import H2Connection

Piece: TypeAlias = bytes | memoryview
BURST: Final = 512 * 1024  # bytes framed and handed to the socket together; more gained nothing
_DATA_FRAME: Final = b"\x00\x00"  # type DATA, no flags


def take_burst(connection: H2Connection, stream_id: int, data: memoryview, head: bytes = b"") -> list[Piece]:
    """Return DATA frames, header and payload in turn, that carry `head` and `data` on an open stream.

    The caller has made sure that both flow-control windows allow all of it, and that `head` is smaller than a frame;
    the windows are debited here.
    """
    size = len(head) + len(data)
    connection.outbound_flow_control_window -= size
    connection.streams[stream_id].outbound_flow_control_window -= size
    frame_size = connection.max_outbound_frame_size
    trailer = _DATA_FRAME + stream_id.to_bytes(4, "big")
    pieces: list[Piece] = []
    start = 0
    if head:
        start = min(frame_size - len(head), len(data))
        pieces += ((len(head) + start).to_bytes(3, "big") + trailer, head, data[:start])
    full, whole = frame_size.to_bytes(3, "big") + trailer, len(data) - (len(data) - start) % frame_size
    for begin in range(start, whole, frame_size):
        pieces += (full, data[begin : begin + frame_size])
    if whole < len(data):
        pieces += ((len(data) - whole).to_bytes(3, "big") + trailer, data[whole:])
    return pieces
