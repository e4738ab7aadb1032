"""Packed request headers mean what they say to any HPACK decoder, whatever was packed before."""

from __future__ import annotations

import random

from hpack import Decoder, Encoder

from containerd_py._transport import http2
from containerd_py._transport.request_headers import RequestEncoder
from tests.unit.test_reception import Ends


def headers(chance: random.Random) -> list[tuple[bytes, bytes]]:
    return [
        (
            chance.choice([b":path", b"te", b"containerd-namespace", b"x" * 200]),
            chance.randbytes(chance.choice([0, 1, 126, 127, 128, 20_000])),
        )
        for _ in range(chance.randrange(1, 12))
    ]


def test_a_decoder_reads_what_was_packed():
    """In any order, the same again, and after the peer has changed its table's size."""
    chance = random.Random(3)
    encoder, decoder = RequestEncoder(), Decoder(max_header_list_size=2**24)
    blocks = [headers(chance) for _ in range(20)]
    for number in range(200):
        if number == 100:
            encoder.header_table_size = 100
        wanted = chance.choice(blocks)
        assert decoder.decode(encoder.encode(wanted), raw=True) == wanted


async def test_calls_use_it():
    """The encoder that h2 is given is the one it packs with, and a server of h2's understands it."""
    ends = Ends(direct=True, streams=2)
    await ends.begin()
    assert isinstance(ends.protocol.connection._connection.encoder, RequestEncoder)
    assert isinstance(ends.server.encoder, Encoder)
    assert {stream.request_method for stream in ends.server.streams.values()} <= {None, b"POST"}
    assert len(ends.server.streams) == 2
    assert http2.RequestEncoder is RequestEncoder
