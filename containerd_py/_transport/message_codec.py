"""Messages to bytes and back, as grpclib asks for it; big ones back in pieces, between which others run."""

from __future__ import annotations

from typing import Any, Final

import attrs
from anyio.lowlevel import checkpoint
from grpclib.encoding.base import CodecBase

from containerd_py import errors
from containerd_py._codec.message import Message
from containerd_py._codec.wire_format import DecodeError, field_ends, varint

LENGTH_DELIMITED: Final = 2  # protobuf's wire type of bytes
PIECE: Final = 128 * 1024  # bytes decoded without a pause: one to four milliseconds


class MessageCodec(CodecBase):
    """Encodes and decodes generated messages."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return the message's bytes.

        Raises:
            InvalidArgumentError: A value is none its field can hold.
        """
        if not isinstance(message, message_type):
            raise TypeError(f"expected {message_type.__name__}, got {type(message).__name__}")
        try:
            return bytes(message)
        except (ValueError, OverflowError) as error:  # a lone surrogate, a number beyond 64 bits
            raise errors.InvalidArgumentError(f"a {message_type.__name__} cannot hold such a value: {error}") from error

    def decode(self, data: bytes, message_type: type[Message]) -> Message | BigMessage:
        """Return the message in the bytes, or a big one that has yet to be decoded.

        Raises:
            ProtocolError: They are no such message.
        """
        return BigMessage(message_type, data) if len(data) > PIECE else _read(message_type, data, None, 0, len(data))


@attrs.frozen
class BigMessage:
    """A message that has arrived and is too big to be decoded while everybody else waits."""

    type: type[Message]
    data: bytes = attrs.field(repr=False)

    async def decoded(self) -> Message:
        """Decode it, letting others run now and then.

        Raises:
            ProtocolError: The bytes are no such message.
        """
        message: Message | None = None
        begin = 0
        for end in _cuts(self.type, self.data):
            if begin:
                await checkpoint()
            message = _read(self.type, self.data, message, begin, end)
            begin = end
        assert message is not None
        return message


def _cuts(message_type: type[Message], data: bytes) -> list[int]:
    """Return the ends of pieces that each hold whole fields: read one after the other they make the message."""
    cuts = []
    begin = 0
    try:
        for end in field_ends(data):
            if end - begin >= PIECE:
                cuts.append(end)
                begin = end
    except (DecodeError, IndexError) as error:
        raise damaged(message_type, error) from error
    return cuts if begin == len(data) else [*cuts, len(data)]


def _read(message_type: type[Message], data: bytes, into: Message | None, begin: int, end: int) -> Message:
    try:
        return message_type.merge(data, into, begin, end)
    except DecodeError as error:
        raise damaged(message_type, error) from error


def damaged(message_type: type[Message], error: Exception) -> errors.ProtocolError:
    """Return the error to raise for bytes that are no such message."""
    return errors.ProtocolError(f"the daemon sent a damaged {message_type.__name__}: {error!r}")


def head_before(field: int, first: bytes, size: int) -> int:
    """Say how many bytes of a message of that size precede the bytes of a field that is its last; 0 if none is.

    Only numbers may precede it. Whatever looks different is for the decoder.
    """
    at, wanted = 0, field << 3 | LENGTH_DELIMITED
    try:
        while (tag := first[at]) != wanted:
            if tag & 7 or tag >= 0x80:
                return 0
            _, at = varint(first, at + 1)
        length, at = varint(first, at + 1)
    except (IndexError, DecodeError):
        return 0
    return at if at + length == size and length else 0
