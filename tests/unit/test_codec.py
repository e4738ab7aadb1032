"""The generated encoders and decoders against betterproto2's own and against Google's, on every message of the API."""

import subprocess
import sys
from random import Random

import pytest
from betterproto2_compiler.lib.google.protobuf import (
    DescriptorProto,
    FieldDescriptorProto,
    FieldDescriptorProtoLabel,
    FieldDescriptorProtoType,
    FileDescriptorProto,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen import codec, fields, outputs
from containerd_py._codec.message import Message
from containerd_py._codec.wire_format import DecodeError
from containerd_py._generated.containerd.services.containers.v1 import Container
from containerd_py._generated.containerd.services.content.v1 import Info
from containerd_py._generated.containerd.services.images.v1 import DeleteImageRequest
from containerd_py._generated.containerd.services.tasks.v1 import KillRequest
from containerd_py._generated.containerd.types import Descriptor, Mount
from containerd_py._generated.google.protobuf import Any, Duration
from containerd_py._generated.io.containerd.cgroups.v2 import PsiData
from tests.harness import protobuf_reference as reference
from tests.harness.stock_messages import stock_messages

NAMES = sorted(reference.MESSAGES)
ROUNDS = 12  # random messages, and random bytes, of each message


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """The messages as betterproto2 makes them: look one up by its full name."""
    with stock_messages(tmp_path_factory.mktemp("stock")) as look_up:
        yield look_up


def check_wire(name, data):
    """Hold our decoder and encoder to Google's for these bytes."""
    theirs = reference.google_decoded(name, data)
    try:
        ours = reference.our_class(name).parse(data)
    except DecodeError as error:
        assert theirs is None or "number 0" in str(error), (
            data
        )  # which Google reads over, and the specification forbids
        return
    assert theirs is not None, data
    if not reference.has_refused_entries(theirs):
        assert_same_content(name, ours, theirs)
        assert reference.google_decoded(name, bytes(ours)) == theirs


def assert_same_content(name, ours, theirs):
    """Compare field by field: two errors in decoding and encoding might make up for each other."""
    descriptor = reference.MESSAGES[name]
    assert reference.content(ours, descriptor) == reference.content(theirs, descriptor)


# ── every message ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_message_is_judged():
    """No message of the descriptor set has been left out, and each has a class of ours."""
    assert len(NAMES) > 300
    assert all(issubclass(reference.our_class(name), Message) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_messages_are_encoded_and_decoded_as_by_the_references(name, stock):
    """Valid messages: Google's values, betterproto2's values, and betterproto2's bytes."""
    for seed in range(ROUNDS):
        theirs = reference.random_message(Random(f"{name}{seed}"), name)
        data = theirs.SerializeToString(deterministic=True)
        ours = reference.our_class(name).parse(data)
        assert_same_content(name, ours, theirs)
        expected = stock(name).parse(data)
        assert ours.to_dict() == expected.to_dict()
        assert bytes(ours) == bytes(expected)
        assert bytes(reference.our_class(name).from_dict(ours.to_dict())) == bytes(ours)


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_mean_what_they_mean_to_google(name):
    """Cut, mutated, unordered, repeated, of wrong kinds, unknown: taken or refused alike, and the same when taken."""
    for seed in range(ROUNDS * 3):
        check_wire(name, reference.random_wire(Random(f"{name}{seed}"), name))


@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_bytes_that_hypothesis_makes(name, random):
    """The same, with what is found reduced to its smallest form."""
    check_wire(name, reference.random_wire(random, name))


@given(st.sampled_from(NAMES), st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_nothing(name, data):
    """Noise is refused with DecodeError, or is a message for Google too."""
    check_wire(name, data)


@given(st.sampled_from(NAMES), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_message_may_be_read_in_pieces(name, random):
    """Pieces cut between fields, each read on top of what was read before, make what all at once makes."""
    pieces = [reference.random_message(random, name).SerializeToString() for _ in range(3)]
    message = None
    for piece in pieces:
        message = reference.our_class(name).merge(piece, message)
    assert bytes(message) == bytes(reference.our_class(name).parse(b"".join(pieces)))
    assert_same_content(name, message, reference.google_decoded(name, b"".join(pieces)))


@given(st.sampled_from(sorted(codec.LISTED)), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_values_are_those_of_the_message(name, random):
    """The decoder that makes a tuple takes and refuses what the other one does, and finds the same in it."""
    data = reference.random_wire(random, name)
    ours = reference.our_class(name)
    try:
        expected = reference.content(ours.parse(data), reference.MESSAGES[name])
    except DecodeError:
        expected = None
    try:
        values = ours.values(b"\x0a" + data + b"\xff", 1, 1 + len(data))  # from the midst of others
        fields_found = zip(reference.MESSAGES[name].fields, values, strict=True)
        found = {field.name: reference.decoded_content(field, value) for field, value in fields_found}
    except (DecodeError, IndexError, UnicodeDecodeError):
        found = None
    assert found == expected


# ── what the references do not settle ────────────────────────────────────────────────────────────────────────────────


def test_a_map_entry_with_more_in_it_is_an_entry():
    """As for Go, what is unknown in an entry is dropped, and does not take the entry with it."""
    entry = b"\n\x01k\x12\x01v\x1a\x03new"
    message = Descriptor.parse(b"\x2a" + bytes([len(entry)]) + entry)
    assert message.annotations == {"k": "v"}
    assert bytes(message) == bytes(Descriptor(annotations={"k": "v"}))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\n\x05abc", "ends too soon"),
        (b"\n", "ends too soon"),
        (b"\x18\xff", "ends too soon"),
        (b"\x18" + b"\xff" * 10 + b"\x01", "more than ten bytes"),
        (b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", "length is out of range"),
        (b"\n\x80\x80\x80\x80\x80\x00", "length is out of range"),
        (b"\n\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", "length is out of range"),
        (b"\n\x01\xff", "not UTF-8"),
        (b"\x00\x01", "number 0"),
        (b"\x0f", "no known kind"),
        (b"\xff\xff\xff\xff\xff\xff\x01", "out of range"),
        (b"\x1b" * 101 + b"\x1c" * 101, "no known kind"),
        (b"\x2a\x04\n\x05ab", "ends too soon"),
    ],
)
def test_damage_is_named(data, fault):
    """A message that is none is refused with one kind of error, which says what was wrong."""
    with pytest.raises(DecodeError, match=fault):
        Descriptor.parse(data)


def test_the_negative_zero_is_a_value():
    """It is sent, as by Google's encoder; betterproto2's takes it for the default."""
    assert str(PsiData.parse(bytes(PsiData(avg10=-0.0))).avg10) == "-0.0"
    assert bytes(PsiData(avg10=0.0)) == b""


def test_an_entry_that_was_cut_off_is_not_remembered():
    """Entries of maps are remembered by their bytes; one that reaches past the end is none the next time either."""
    for damaged in (b"\x2a\x08\n\x01k\x12\x03v1", b"\x2a\x07\n\x01k\x12\x03v1"):
        with pytest.raises(DecodeError, match="ends too soon"):
            Descriptor.parse(damaged)
    assert Descriptor.parse(b"\x2a\x07\n\x01k\x12\x02v1").annotations == {"k": "v1"}


def test_a_submessage_does_not_reach_beyond_its_end():
    """Its fields end within it, though more bytes of the message around it follow."""
    with pytest.raises(DecodeError, match="ends too soon"):
        DeleteImageRequest.parse(b"\x1a\x02\n\x05abcdefgh")


@pytest.mark.parametrize(
    "message",
    [
        KillRequest(signal=-1),
        KillRequest(signal=2**32),
        Duration(nanos=2**31),
        Duration(seconds=-(2**63) - 1),
        Info(size=2**63),
        Mount(source="\ud800"),
    ],
    ids=repr,
)
def test_what_a_field_cannot_hold_is_not_sent(message):
    """No number is silently turned into another one, and no half character into bytes."""
    with pytest.raises((ValueError, OverflowError)):
        bytes(message)


# ── messages are betterproto2's ──────────────────────────────────────────────────────────────────────────────────────


def test_a_message_is_betterproto2s_in_all_respects():
    """Fields, equality, printing, copies and pickles work, whether or not one was made or decoded before."""
    code = """
import copy, dataclasses, pickle, betterproto2
from containerd_py._generated.containerd.types import Descriptor, Mount, Platform
assert [field.name for field in dataclasses.fields(Platform)] == ["os", "architecture", "variant", "os_version"]
assert dataclasses.is_dataclass(Mount) and issubclass(Mount, betterproto2.Message)
decoded = Descriptor.parse(b"\\n\\x01a")
assert repr(decoded) == "Descriptor(media_type='a')"
assert decoded == Descriptor(media_type="a") != Descriptor("b")
assert copy.deepcopy(decoded) == pickle.loads(pickle.dumps(decoded)) == decoded
assert not Descriptor() and decoded
assert Mount.parse(b"").is_set("type") is False
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=outputs.ROOT)
    assert run.returncode == 0, run.stderr


def test_a_decoded_message_shares_nothing():
    """Two messages decoded from the same bytes have lists and maps of their own."""
    one, other = Container.parse(b""), Container.parse(b"")
    one.labels["a"] = "b"
    assert other.labels == {}


def test_messages_are_taken_from_any_kind_of_buffer():
    """Bytes, byte arrays and views of either."""
    data = bytes(Any(type_url="a", value=b"b"))
    for kind in (bytes, bytearray, memoryview):
        message = Any.parse(kind(data))
        assert (message, type(message.value)) == (Any(type_url="a", value=b"b"), bytes)


def test_threads_may_make_the_first_message_together():
    """A class becomes a dataclass once, however many want it first."""
    code = """
import threading
from containerd_py._generated.containerd import types
start = threading.Barrier(8)
made = []
def make():
    start.wait()
    for name in types.__all__:
        made.append(bytes(getattr(types, name)()))
threads = [threading.Thread(target=make) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert made == [b""] * 8 * len(types.__all__), len(made)
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=outputs.ROOT)
    assert run.returncode == 0, run.stderr


# ── the generator ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "declaration",
    [
        {"type": FieldDescriptorProtoType.SINT32},
        {"type": FieldDescriptorProtoType.FIXED64},
        {"type": FieldDescriptorProtoType.BOOL, "label": FieldDescriptorProtoLabel.REPEATED},
        {"type": FieldDescriptorProtoType.STRING, "proto3_optional": True},
    ],
    ids=repr,
)
def test_what_nothing_is_generated_for_stops_the_generator(declaration):
    """A containerd that comes to use another type is noticed when its API is read, not when it answers."""
    field = FieldDescriptorProto(name="new", number=1, **declaration)
    message = DescriptorProto(name="Thing", field=[field])
    file = FileDescriptorProto(name="a.proto", package="containerd.example", message_type=[message])
    with pytest.raises(fields.UnknownTypeError, match=r"containerd\.example\.Thing\.new"):
        codec.render_codecs([file])
