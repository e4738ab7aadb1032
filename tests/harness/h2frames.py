"""HTTP/2 frames as bytes: cut a byte stream at frame boundaries, and build frames that a server would never send.

Knows RFC 9113's framing and the two simplest representations of RFC 7541; knows nothing of sockets or gRPC.
"""

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
MAX_FRAME_SIZE: Final = (1 << 24) - 1
END_STREAM: Final = 0x1  # on DATA and HEADERS
END_HEADERS: Final = 0x4


class Kind(enum.IntEnum):
    """Frame types of RFC 9113."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class ErrorCode(enum.IntEnum):
    """All error codes of RFC 9113, for RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


@attrs.frozen(kw_only=True)
class Frame:
    """One frame; ``kind`` is a plain int, for peers may send types we do not know."""

    kind: int
    flags: int = 0
    stream: int = 0
    payload: bytes = b""

    @property
    def ends_stream(self) -> bool:
        return self.kind in (Kind.DATA, Kind.HEADERS) and bool(self.flags & END_STREAM)

    def encode(self) -> bytes:
        header = struct.pack(">I", len(self.payload))[1:] + bytes([self.kind, self.flags])
        return header + struct.pack(">I", self.stream) + self.payload


@attrs.frozen(kw_only=True)
class Piece:
    """A run of bytes that is one whole frame, or (``frame`` is None) the preface or bytes that are no HTTP/2."""

    raw: bytes
    frame: Frame | None


class FrameScanner:
    """Cut what one side sends into pieces; a stream that does not start as HTTP/2 passes through as it comes."""

    def __init__(self, *, from_client: bool) -> None:
        self.is_http2: bool | None = None  # None: not decided yet
        self._from_client = from_client
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces that ``data`` completes."""
        self._buffer += data
        if self.is_http2 is None and not self._decide():
            return
        if self.is_http2:
            if self._from_client:
                yield Piece(raw=PREFACE, frame=None)
                self._from_client = False
            yield from self._frames()
        elif self._buffer:
            yield Piece(raw=bytes(self._buffer), frame=None)
            self._buffer.clear()

    def rest(self) -> bytes:
        """Return and forget the bytes of a frame that never became whole."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _decide(self) -> bool:
        start = bytes(self._buffer[: len(PREFACE)])
        if self._from_client:
            if start == PREFACE:
                self.is_http2 = True
                del self._buffer[: len(PREFACE)]
            elif not PREFACE.startswith(start):
                self.is_http2 = False
        elif len(start) >= HEADER_SIZE:  # a server speaks first in SETTINGS, on stream 0
            self.is_http2 = start[3] == Kind.SETTINGS and start[5:9] == bytes(4)
        return self.is_http2 is not None

    def _frames(self) -> Iterator[Piece]:
        position = 0
        with memoryview(bytes(self._buffer)) as view:
            while len(view) - position >= HEADER_SIZE:
                end = position + HEADER_SIZE + int.from_bytes(view[position : position + 3], "big")
                if end > len(view):
                    break
                raw = bytes(view[position:end])
                yield Piece(raw=raw, frame=decode_frame(raw))
                position = end
        del self._buffer[:position]


def decode_frame(raw: bytes) -> Frame:
    """Decode one whole frame."""
    stream = int.from_bytes(raw[5:9], "big") & 0x7FFFFFFF
    return Frame(kind=raw[3], flags=raw[4], stream=stream, payload=raw[HEADER_SIZE:])


def rst_stream(stream: int, code: int) -> bytes:
    """Build RST_STREAM."""
    return Frame(kind=Kind.RST_STREAM, stream=stream, payload=struct.pack(">I", code)).encode()


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """Build GOAWAY."""
    return Frame(kind=Kind.GOAWAY, payload=struct.pack(">II", last_stream, code) + debug).encode()


def data(stream: int, payload: bytes, *, end_stream: bool = False) -> bytes:
    """Build DATA."""
    return Frame(kind=Kind.DATA, flags=END_STREAM * end_stream, stream=stream, payload=payload).encode()


def headers(stream: int, fields: Iterable[tuple[str, str]], *, end_stream: bool = False) -> bytes:
    """Build HEADERS with literal fields, which leave the peer's HPACK table as it was.

    A HEADERS frame *replaced* by this one takes its own table entries with it: later header blocks of the same
    connection may then fail to decode.
    """
    block = b"".join(b"\x00" + _hpack_string(name.encode()) + _hpack_string(value.encode()) for name, value in fields)
    return Frame(kind=Kind.HEADERS, flags=END_HEADERS | END_STREAM * end_stream, stream=stream, payload=block).encode()


def grpc_message(payload: bytes = b"", *, length: int | None = None, compressed: int = 0) -> bytes:
    """Build a gRPC message whose prefix may lie about its length or its compression."""
    return struct.pack(">BI", compressed, len(payload) if length is None else length) + payload


def _hpack_string(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    rest, encoded = size - 127, bytearray([127])
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    encoded.append(rest)
    return bytes(encoded) + text
