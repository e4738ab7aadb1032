"""Bytes that look like messages, many more than in every run."""

from random import Random

import pytest

from tests.harness import protobuf_reference as reference
from tests.unit.test_codec import NAMES, check_wire

CASES = 1_000_000
MUTANTS = (0, 1, 0x0A, 0x12, 0x7F, 0x80, 0xFF)


@pytest.mark.timeout(1800)
def test_a_million_damaged_messages():
    """Whatever is cut, repeated, reordered or overwritten, Google's decoder and ours agree."""
    for seed in range(CASES):
        random = Random(seed)
        name = random.choice(NAMES)
        data = bytearray(reference.random_wire(random, name))
        for _ in range(random.randrange(4) if data else 0):
            data[random.randrange(len(data))] = random.choice(MUTANTS)
        check_wire(name, bytes(data))
