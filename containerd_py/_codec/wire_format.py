"""The protobuf wire format, as far as generated encoders and decoders do not spell it out themselves.

Whatever Google's own decoder takes for a message is one, with the same values, and the rest is refused; but a field of
number 0 is refused too, and what is unknown in a map's entry does not keep the entry out of the map. A position past
the end is an IndexError here, which `Message.merge` turns into a DecodeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

SIZES: Final = tuple(bytes([size]) for size in range(128))  # the lengths that are one byte
_NESTING_LIMIT: Final = 100  # groups within groups, as in Google's decoder
_LARGEST: Final = 2**64 - 1
_LONGEST_TAG: Final = 2**32 - 1
_LONGEST_FIELD: Final = 2**31 - 1  # bytes
_MOST_SEEN: Final = 1024  # entries of maps that are remembered: the same labels come again and again
_LONGEST_SEEN: Final = 256  # bytes of such an entry
_seen: Final[dict[bytes, tuple[str, str]]] = {}
_KEY, _VALUE = 0x0A, 0x12  # tags of a map's entry
_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)


class DecodeError(ValueError):
    """Bytes that are no such message."""


# ── decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, of which 64 bits count, without a sign, and the position after it."""
    # Summed up with the bits that say "more follows", which are taken off at once in the end.
    first = data[at]
    if first < 0x80:
        return first, at + 1
    second = data[at + 1]
    if second < 0x80:
        return first + (second << 7) - 0x80, at + 2
    third = data[at + 2]
    if third < 0x80:
        return first + (second << 7) + (third << 14) - 0x4080, at + 3
    fourth = data[at + 3]
    if fourth < 0x80:
        return first + (second << 7) + (third << 14) + (fourth << 21) - 0x204080, at + 4
    fifth = data[at + 4]
    value = first + (second << 7) + (third << 14) + (fourth << 21) + (fifth << 28) - 0x10204080
    if fifth < 0x80:
        return value, at + 5
    value -= 0x80 << 28
    at += 5
    for shift in (35, 42, 49, 56, 63):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _LARGEST, at
    raise DecodeError("a number has more than ten bytes")


def long_tag(data: bytes, at: int) -> tuple[int, int]:
    """Return the tag at a position that has more than one byte, and the position after it."""
    tag, after = varint(data, at)
    if tag > _LONGEST_TAG or after - at > 5:
        raise DecodeError("a field's number is out of range")
    return tag, after


def end_of(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return where a field's content begins whose length stands at a position, and where it ends."""
    size, begin = varint(data, at)
    if begin - at > 5 or size > _LONGEST_FIELD:
        raise DecodeError("a field's length is out of range")
    if begin + size > limit:
        raise IndexError
    return begin, begin + size


def skip(data: bytes, tag: int, at: int, limit: int, depth: int = 0) -> int:
    """Return the position after a field nobody knows, whose content begins at `at`."""
    number, kind = tag >> 3, tag & 7
    if number == 0:
        raise DecodeError("a field has the number 0")
    if kind == _VARINT:
        return varint(data, at)[1]
    if kind == _LENGTH:
        return end_of(data, at, limit)[1]
    if kind == _GROUP and depth < _NESTING_LIMIT:
        return _skip_group(data, number, at, limit, depth + 1)
    if kind not in (_FIXED64, _FIXED32):
        raise DecodeError("a field is of no known kind")
    return at + (8 if kind == _FIXED64 else 4)  # where that is past the end, the message's decoder finds out


def _skip_group(data: bytes, number: int, at: int, limit: int, depth: int) -> int:
    while True:
        tag, at = long_tag(data, at)
        if tag == number << 3 | _GROUP_END:
            return at
        at = skip(data, tag, at, limit, depth)


def field_ends(data: bytes) -> Iterator[int]:
    """Yield where each field of a message ends."""
    at = 0
    limit = len(data)
    while at < limit:
        tag = data[at]
        if tag < 0x80 and tag & 7 == _LENGTH and data[at + 1] & 0x80 and data[at + 2] < 0x80:  # 128 bytes to 16 KiB
            at += 3 + (data[at + 1] & 0x7F | data[at + 2] << 7)
        else:
            tag, at = long_tag(data, at)
            at = skip(data, tag, at, limit)
        yield at
    if at > limit:
        raise IndexError


def text_entry(data: bytes, at: int, limit: int, entries: dict[str, str]) -> None:
    """Read one entry of a map from text to text."""
    encoded = data[at:limit]
    entry = _seen.get(encoded)
    if entry is None:
        entry = _text_entry(encoded)
        if len(encoded) <= _LONGEST_SEEN:
            if len(_seen) >= _MOST_SEEN:
                _seen.clear()
            _seen[encoded] = entry
    entries[entry[0]] = entry[1]


def _text_entry(data: bytes) -> tuple[str, str]:
    # Nearly all of them are a key and a value of less than 128 bytes each, and nothing else.
    at, limit = 0, len(data)
    if limit > 3 and data[0] == _KEY and (begin := 4 + data[1]) <= limit:
        size = data[begin - 1]
        if data[begin - 2] == _VALUE and data[1] < 0x80 and size < 0x80 and begin + size == limit:
            return data[2 : begin - 2].decode(), data[begin:].decode()
    key = value = ""
    while at < limit:
        tag, at = long_tag(data, at)
        if tag in (_KEY, _VALUE):
            begin, at = end_of(data, at, limit)
            text = data[begin:at].decode()
            if tag == _KEY:
                key = text
            else:
                value = text
        else:
            at = skip(data, tag, at, limit)
    if at > limit:
        raise IndexError
    return key, value


def message_entry(data: bytes, at: int, limit: int, entries: dict[str, T], decode: Callable[..., T]) -> None:
    """Read one entry of a map from text to messages."""
    key = ""
    value: T | None = None
    while at < limit:
        tag, at = long_tag(data, at)
        if tag in (_KEY, _VALUE):
            begin, at = end_of(data, at, limit)
            if tag == _KEY:
                key = data[begin:at].decode()
            else:
                value = decode(data, begin, at, value)
        else:
            at = skip(data, tag, at, limit)
    if at > limit:
        raise IndexError
    entries[key] = decode(b"", 0, 0) if value is None else value


def as_bytes(data: bytes, begin: int, end: int, before: bytes | None = None) -> bytes:
    """Leave a message undecoded; sent twice, it is merged: one after the other they make the whole."""
    return data[begin:end] if before is None else before + data[begin:end]


def packed(data: bytes, at: int, end: int, values: list[int]) -> None:
    """Read the numbers between two positions."""
    while at < end:
        value, at = varint(data, at)
        values.append(value)
    if at > end:
        raise IndexError


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def unsigned_varint(value: int) -> bytes:
    """Return the bytes of a number that has no sign and at most 64 bits."""
    if value < 0x80:
        return SIZES[value]
    if value < 1 << 14:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if 1 << 21 <= value < 1 << 35:  # seconds since 1970, and nanoseconds
        first, second, third, rest = (
            value & 0x7F | 0x80,
            value >> 7 & 0x7F | 0x80,
            value >> 14 & 0x7F | 0x80,
            value >> 21,
        )
        if rest < 0x80:
            return bytes((first, second, third, rest))
        return bytes((first, second, third, rest & 0x7F | 0x80, rest >> 7))
    made = bytearray((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80))
    value >>= 14
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def int32(value: int) -> bytes:
    """Return the bytes of an int32 or an enum's value."""
    return unsigned_varint(value) if 0 <= value < 1 << 31 else _checked(value, -(1 << 31), 1 << 31)


def int64(value: int) -> bytes:
    """Return the bytes of an int64."""
    return unsigned_varint(value) if 0 <= value < 1 << 63 else _checked(value, -(1 << 63), 1 << 63)


def uint32(value: int) -> bytes:
    """Return the bytes of a uint32."""
    return _checked(value, 0, 1 << 32)


def uint64(value: int) -> bytes:
    """Return the bytes of a uint64."""
    return _checked(value, 0, 1 << 64)


def _checked(value: int, lowest: int, limit: int) -> bytes:
    if not lowest <= value < limit:
        raise ValueError(f"{value} is not from {lowest} to {limit - 1}")
    return unsigned_varint(value if value >= 0 else value + (1 << 64))
