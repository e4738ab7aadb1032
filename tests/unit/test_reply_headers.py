"""Header blocks that were unpacked before mean what they meant, until the table has changed."""

from __future__ import annotations

import random

import pytest
from hpack import Decoder, Encoder

from containerd_py._transport.reply_headers import REMEMBERED, ReplyDecoder

NAMES = [b":status", b"content-type", b"grpc-status", b"grpc-message", b"x-one", b"x-two"]


@pytest.mark.parametrize("seed", range(30))
def test_as_hpack_does(seed: int):
    """Whatever is said in whatever order, with tables that fill up and change their size."""
    chance = random.Random(seed)
    encoder, ours, theirs = Encoder(), ReplyDecoder(), Decoder()
    for _ in range(300):
        if not chance.randrange(40):
            encoder.header_table_size = chance.choice([0, 60, 200, 4096])
        headers = [(chance.choice(NAMES), b"%d" % chance.randrange(4)) for _ in range(chance.randrange(1, 4))]
        block = encoder.encode(headers, huffman=bool(chance.randrange(2)))
        assert list(ours.decode(block, raw=True)) == theirs.decode(block, raw=True) == headers


def test_the_same_block_is_unpacked_once(monkeypatch: pytest.MonkeyPatch):
    """A block that only refers to the table costs a look-up the second time."""
    encoder, decoder = Encoder(), ReplyDecoder()
    answer = [(b":status", b"200"), (b"content-type", b"application/grpc")]
    for _ in range(2):
        decoder.decode(encoder.encode(answer), raw=True)
    block = encoder.encode(answer)
    monkeypatch.setattr(Decoder, "decode", None)
    assert decoder.decode(block, raw=True) == answer


def test_few_are_remembered():
    """What never comes twice takes no more and more memory."""
    decoder = ReplyDecoder()
    for number in range(2 * REMEMBERED):
        decoder.decode(b"\0\1x\4%04d" % number, raw=True)
    assert len(decoder._known) == REMEMBERED
