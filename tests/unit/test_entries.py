"""Lists read as they arrive: the entries of messages that were cut anywhere."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py._generated.containerd.services.images.v1 import ListImagesResponse
from containerd_py._transport.entries import EntryReader
from containerd_py._transport.unary_streams import RECEIVE_LIMIT
from containerd_py.errors import ProtocolError

ENTRY, SPARE = b"\x0a", b"\x12"  # tags of fields 1 and 2
OTHERS = st.sampled_from([b"\x10\x05", b"\x19" + b"8" * 8, b"\x25" + b"4" * 4, b"\x2b\x08\x01\x2c", b"\x8a\x02\x01x"])
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([127, 128, 16383, 16384]))


def sized(size: int, *, padding: int = 0) -> bytes:
    """Return a length as protobuf writes it, with bytes more than it takes."""
    made = bytearray()
    while size >= 0x80 or padding:
        padding -= size < 0x80
        made.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*made, size])


def framed(message: bytes) -> bytes:
    return struct.pack(">?I", False, len(message)) + message


@st.composite
def lists(draw):
    """Return messages, and the entries in them."""
    messages, entries = [], []
    for _ in range(draw(st.integers(1, 4))):
        message = b""
        for kind in draw(st.lists(st.sampled_from("eeeolt"), max_size=6)):
            content = bytes([len(entries) % 256]) * draw(SIZES)
            if kind == "o":
                message += draw(OTHERS)
            elif kind == "l":
                message += SPARE + sized(len(content)) + content
            else:
                tag = ENTRY if kind == "e" else b"\x8a\x80\x00"  # the same, longer than need be
                message += tag + sized(len(content), padding=draw(st.integers(0, 1))) + content
                entries.append(content)
        messages.append(message)
    return messages, entries


def read_all(data: bytes, part: int) -> tuple[list[bytes], EntryReader[bytes]]:
    """Read as the transport does: so many bytes at a time, or as many as the reader wants."""
    reader = EntryReader(ListImagesResponse, lambda data, begin, end: data[begin:end])
    found, rest, at = [], b"", 0
    while at < len(data):
        size = max(part, reader.wanted) - len(rest)
        assert size > 0
        chunk = rest + data[at : at + size]
        if len(chunk) < reader.wanted:
            break
        at += size
        made, end = reader.take(chunk)
        found += made
        rest = chunk[end:]
    return found, reader


@given(lists(), st.integers(1, 400))
def test_entries_are_found_wherever_the_bytes_are_cut(made, part):
    """In order, whole, of all messages; what is not an entry is read over, and no more is waited for than needed."""
    messages, entries = made
    found, reader = read_all(b"".join(map(framed, messages)), part)
    assert found == entries
    assert reader.messages == len(messages)
    reader.end()


@given(lists(), st.integers(1, 400), st.data())
def test_an_answer_that_is_cut_off_is_damaged(made, part, data):
    """Some of the entries, and then an error, unless it ends between two messages."""
    messages, entries = made
    sent = b"".join(map(framed, messages))
    ends = {0}
    for message in messages:
        ends.add(max(ends) + len(message) + 5)
    cut = data.draw(st.integers(0, len(sent) - 1))
    found, reader = read_all(sent[:cut], part)
    assert found == entries[: len(found)]
    if cut in ends:
        reader.end()
    elif min(cut - end for end in ends if end < cut) >= 5:  # a prefix that is cut off is the stream's to complain of
        with pytest.raises(ProtocolError, match="damaged ListImagesResponse"):
            reader.end()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (framed(b"\x0a\x05abc"), "damaged"),
        (framed(b"\x0a\xff\x01" + b"x" * 200), "damaged"),
        (framed(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"x" * 20), "damaged"),
        (framed(b"\x12\x7fabc" + b"x" * 20), "damaged"),
        (framed(b"\x13" * 20), "damaged"),
        (framed(b"\x00\x01" * 20), "damaged"),
        (framed(b"\xff" * 20), "damaged"),
        (struct.pack(">?I", True, 4) + b"abcd", "compressed"),
        (struct.pack(">?I", False, RECEIVE_LIMIT + 1), "more than any daemon sends"),
    ],
    ids=range(9),
)
def test_what_is_no_list_is_a_protocol_error(data, fault):
    """Whatever is wrong, and however the bytes come, it is told, and nothing is waited for that cannot come."""
    for part in (1, 7, 1000):
        with pytest.raises(ProtocolError, match=fault):
            read_all(data, part)


def test_an_entry_that_cannot_be_read_is_the_messages_fault():
    """An error of the function that is given the entries names the message they came in."""
    reader = EntryReader(ListImagesResponse, lambda data, begin, end: data[begin:end].decode())
    with pytest.raises(ProtocolError, match=r"damaged ListImagesResponse.*UnicodeDecodeError"):
        reader.take(framed(b"\x0a\x01\xff"))
