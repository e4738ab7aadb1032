"""The entries of a list, found in the bytes of a call's messages as they arrive.

A list is a message, or a stream of them, of which nothing matters but the fields of number 1, each an entry. Knows
gRPC's framing of messages and protobuf's of fields; does no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from containerd_py import errors
from containerd_py._codec.message import Message
from containerd_py._codec.wire_format import DecodeError, end_of, long_tag, skip
from containerd_py._transport.message_codec import damaged
from containerd_py._transport.unary_streams import RECEIVE_LIMIT

PREFIX: Final = struct.Struct(">?I")  # gRPC's, of every message: compressed or not, size
_ENTRY: Final = 1 << 3 | 2  # the tag of field 1, of bytes
_LONGEST_HEAD: Final = 15  # bytes of a field before its content: a tag of five, a number of ten
T = TypeVar("T")


class EntryReader(Generic[T]):
    """Given what has arrived, again and again, makes something of each entry: `read` gets bytes, begin and end."""

    def __init__(self, reply_type: type[Message], read: Callable[[bytes, int, int], T]) -> None:
        self._reply_type = reply_type
        self._read = read
        self._left = 0  # bytes of the present message that are still to be looked at
        self.wanted = PREFIX.size  # bytes it takes to go on
        self.messages = 0

    def take(self, data: bytes) -> tuple[list[T], int]:
        """Return what was made, and where that begins which has to be looked at again, together with more.

        Raises:
            ProtocolError: These are no such messages.
        """
        try:
            places, end = self._find(data)
            return [self._read(data, *place) for place in places], end
        except (DecodeError, IndexError, UnicodeDecodeError) as error:
            raise damaged(self._reply_type, error) from error

    def end(self) -> None:
        """Note that nothing more will come.

        Raises:
            ProtocolError: A message is not whole.
        """
        if self._left:
            raise damaged(self._reply_type, IndexError(f"{self._left} bytes are missing"))

    def _find(self, data: bytes) -> tuple[list[tuple[int, int]], int]:
        found: list[tuple[int, int]] = []
        at, size = 0, len(data)
        while True:
            self.wanted = min(self._left, _LONGEST_HEAD) or PREFIX.size
            if size - at < self.wanted:
                break
            if self._left == 0:
                self._left = self._begin(data, at)
                at += PREFIX.size
                continue
            end = self._find_within(data, at, at + self._left, found)
            if end == at:
                break
            self._left -= end - at
            at = end
        return found, at

    def _find_within(self, data: bytes, at: int, limit: int, found: list[tuple[int, int]]) -> int:
        """Look through a message up to its end; return where it takes more to go on."""
        size = len(data)
        last_head = size if limit <= size else size - _LONGEST_HEAD
        while at < limit and at <= last_head:
            tag, begin = data[at], at + 1
            if tag == _ENTRY and data[begin] > 0x7F and data[at + 2] < 0x80:  # 128 bytes to 16 KiB
                begin = at + 3
                end = begin + data[at + 1] + (data[at + 2] << 7) - 0x80
                if end > limit:
                    raise IndexError
            elif tag == _ENTRY or (known := long_tag(data, at))[0] == _ENTRY:
                begin, end = end_of(data, begin if tag == _ENTRY else known[1], limit)
            elif size < limit:  # nobody knows it: all that may belong to it is waited for
                self.wanted = limit - at
                break
            else:
                at = skip(data, *known, limit)
                if at > limit:
                    raise IndexError
                continue
            if end > size:
                self.wanted = end - at
                break
            found.append((begin, end))
            at = end
        return at

    def _begin(self, data: bytes, at: int) -> int:
        is_compressed, size = PREFIX.unpack_from(data, at)
        if is_compressed:
            raise errors.ProtocolError("the daemon sent a compressed message")
        if size > RECEIVE_LIMIT:
            raise errors.ProtocolError(f"a message of {size} bytes was announced, more than any daemon sends")
        self.messages += 1
        return int(size)
