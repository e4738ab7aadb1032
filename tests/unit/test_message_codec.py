"""Messages as grpclib's codec: errors of this package, and big ones read while others run."""

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from containerd_py._generated.containerd.services.content.v1 import ReadContentResponse
from containerd_py._generated.containerd.services.images.v1 import Image, ListImagesResponse
from containerd_py._generated.containerd.services.version.v1 import VersionResponse
from containerd_py._generated.containerd.types import Descriptor
from containerd_py._transport import message_codec
from containerd_py._transport.message_codec import PIECE, BigMessage, MessageCodec
from containerd_py.errors import InvalidArgumentError, ProtocolError
from containerd_py.services.wire import converted

CODEC = MessageCodec()


def many_images(count: int) -> ListImagesResponse:
    target = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest="sha256:" + "a" * 64, size=7)
    return ListImagesResponse(
        images=[Image(name=f"registry.example/image:{number}", target=target) for number in range(count)]
    )


async def turns_of_others_during(work):
    """Await work while another task counts how often it gets to run; return the result and the count."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await checkpoint()
        before = turns
        result = await work
        seen = turns - before
        group.cancel_scope.cancel()
    return result, seen


def test_a_small_message_is_decoded_at_once():
    """No detour for what nearly all messages are."""
    message = VersionResponse(version="2.1.9")
    assert CODEC.decode(CODEC.encode(message, VersionResponse), VersionResponse) == message


async def test_others_run_while_a_big_message_is_decoded():
    """Each piece but the first begins with a turn for everybody else, and together they are the whole message."""
    message = many_images(5000)
    data = bytes(message)
    big = CODEC.decode(data, ListImagesResponse)
    assert isinstance(big, BigMessage)
    decoded, turns = await turns_of_others_during(big.decoded())
    assert bytes(decoded) == data
    assert turns >= len(data) // PIECE - 1 > 2


async def test_one_field_is_one_piece():
    """A megabyte of content is not cut, nor copied more than once."""
    data = bytes(ReadContentResponse(data=b"x" * 2**20))
    decoded, turns = await turns_of_others_during(CODEC.decode(data, ReadContentResponse).decoded())
    assert decoded.data == b"x" * 2**20
    assert turns == 0


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 100))
def test_pieces_are_cut_between_fields(fields, piece):
    """Whatever the sizes, cuts go up to the end, and no piece but the last is smaller than it should be."""
    data = b"".join(b"\x0a" + bytes([len(field)]) + field for field in fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_codec, "PIECE", piece)
        ends = message_codec._cuts(ListImagesResponse, data)
    assert ends == sorted(set(ends))
    assert [*ends, 0] == [0] if not data else ends[-1] == len(data)
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    assert all(size >= piece for size in sizes[:-1])


@pytest.mark.parametrize("cut", [1, 2, 100])
async def test_a_damaged_message_is_a_protocol_error(cut):
    """Small or big, at once or in pieces, and it says which message it was."""
    with pytest.raises(ProtocolError, match="damaged VersionResponse"):
        CODEC.decode(b"\n\x05abc", VersionResponse)
    data = bytes(many_images(3000))
    with pytest.raises(ProtocolError, match="damaged ListImagesResponse"):
        await CODEC.decode(data[:-cut], ListImagesResponse).decoded()
    broken = data[: PIECE + 1000].replace(b"image:", b"\xff\xff\xff\xff\xff\xff") + data[PIECE + 1000 :]
    with pytest.raises(ProtocolError, match="UTF-8"):
        await CODEC.decode(broken, ListImagesResponse).decoded()


def test_what_a_message_cannot_hold_is_the_callers_fault():
    """A lone surrogate, a number too large: an InvalidArgumentError before anything is sent."""
    for message in (Descriptor(digest="\ud800"), Descriptor(size=2**63)):
        with pytest.raises(InvalidArgumentError, match="Descriptor cannot hold"):
            CODEC.encode(message, Descriptor)
    with pytest.raises(TypeError, match="expected Image"):
        CODEC.encode(Descriptor(), Image)


async def test_others_run_while_many_records_are_made():
    """Records of a few messages are made at once, those of many with turns for others in between."""
    few, turns = await turns_of_others_during(converted(range(200), str))
    assert (few, turns) == ([str(number) for number in range(200)], 0)
    many, turns = await turns_of_others_during(converted(range(1001), str))
    assert many == [str(number) for number in range(1001)]
    assert turns == 5
    assert await converted([], str) == []
