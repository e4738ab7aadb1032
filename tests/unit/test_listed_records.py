"""Records made of undecoded lists: what the messages have is in them, and what they lack too."""

import pytest

from containerd_py._generated.containerd.services.containers.v1 import Container, ContainerRuntime
from containerd_py._generated.containerd.services.content.v1 import Info as ContentMessage
from containerd_py._generated.containerd.services.images.v1 import Image
from containerd_py._generated.containerd.services.snapshots.v1 import Info as SnapshotMessage
from containerd_py._generated.containerd.services.snapshots.v1 import Kind
from containerd_py._generated.containerd.types import Descriptor as DescriptorMessage
from containerd_py._generated.google.protobuf import Any
from containerd_py._generated.google.protobuf import Timestamp as TimestampMessage
from containerd_py.errors import ProtocolError
from containerd_py.services import containers, content, images, snapshots
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.content import ContentInfo
from containerd_py.services.images import ImageRecord
from containerd_py.services.snapshots import SnapshotInfo, SnapshotKind
from containerd_py.services.wire import remembered
from containerd_py.types import Descriptor, Timestamp
from containerd_py.typeurl import TypedValue

CREATED, UPDATED = Timestamp.from_parts(1_700_000_000, 5), Timestamp.from_parts(1_700_000_001, 999_999_999)
TIMES = {
    "created_at": TimestampMessage(seconds=1_700_000_000, nanos=5),
    "updated_at": TimestampMessage(seconds=1_700_000_001, nanos=999_999_999),
}
KNOWN = {"created_at": CREATED, "updated_at": UPDATED}
LABELS = {"team": "infrastructure", "": "empty"}
CASES = {
    "container": (
        containers._record,
        Container(
            id="c",
            labels=LABELS,
            image="i",
            runtime=ContainerRuntime(name="r", options=Any(type_url="o", value=b"\x01")),
            spec=Any(type_url="s", value=b"{}" * 9000),
            snapshotter="overlayfs",
            snapshot_key="k",
            extensions={"x": Any(type_url="e", value=b"1"), "y": Any()},
            sandbox="p",
            **TIMES,
        ),
        ContainerRecord(
            id="c",
            labels=LABELS,
            image="i",
            runtime=Runtime(name="r", options=TypedValue(type_url="o", value=b"\x01")),
            spec=TypedValue(type_url="s", value=b"{}" * 9000),
            snapshotter="overlayfs",
            snapshot_key="k",
            extensions={"x": TypedValue(type_url="e", value=b"1"), "y": TypedValue(type_url="")},
            sandbox="p",
            **KNOWN,
        ),
    ),
    "bare container": (containers._record, Container(), ContainerRecord(id="", runtime=Runtime(name=""))),
    "image": (
        images._record,
        Image(
            name="n",
            labels=LABELS,
            target=DescriptorMessage(media_type="m", digest="d", size=7, annotations={"a": "b"}),
            **TIMES,
        ),
        ImageRecord(
            name="n",
            labels=LABELS,
            target=Descriptor(media_type="m", digest="d", size=7, annotations={"a": "b"}),
            **KNOWN,
        ),
    ),
    "snapshot": (
        snapshots._info,
        SnapshotMessage(name="n", parent="p", kind=Kind.COMMITTED, labels=LABELS, **TIMES),
        SnapshotInfo(name="n", parent="p", kind=SnapshotKind.COMMITTED, labels=LABELS, **KNOWN),
    ),
    "snapshot of a new kind": (
        snapshots._info,
        SnapshotMessage(name="n", kind=Kind(77)),
        SnapshotInfo(name="n", kind=SnapshotKind.UNKNOWN),
    ),
    "blob": (
        content._info,
        ContentMessage(digest="d", size=2**40, labels=LABELS, **TIMES),
        ContentInfo(digest="d", size=2**40, labels=LABELS, **KNOWN),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_record_has_what_the_message_has(case: str):
    """Every field, from the midst of other bytes, also the second time, when its parts are remembered."""
    read, message, record = CASES[case]
    data = bytes(message)
    for before in (b"", b"\x0a\xff"):
        assert read(before + data + b"\x0a", len(before), len(before) + len(data)) == record


def test_a_part_that_is_sent_twice_is_merged():
    """As protobuf has it: what comes later wins, field by field."""
    data = bytes(Container(runtime=ContainerRuntime(name="first", options=Any(type_url="o", value=b"1"))))
    data += bytes(Container(runtime=ContainerRuntime(name="second")))
    options = TypedValue(type_url="o", value=b"1")
    assert containers._record(data, 0, len(data)).runtime == Runtime(name="second", options=options)


def test_an_image_without_a_target_is_none():
    """The daemon always sends one."""
    data = bytes(Image(name="n"))
    with pytest.raises(ProtocolError, match="target"):
        images._record(data, 0, len(data))


def test_short_bytes_are_remembered():
    """A value is made once for equal bytes; what is long is made each time, and not kept; what fails neither."""
    made = []

    @remembered
    def make(data: bytes) -> str:
        made.append(data)
        return data.decode()

    for data in (b"a", b"a", b"b" * 513, b"b" * 513, b"a"):
        assert make(data) == data.decode()
    assert made == [b"a", b"b" * 513, b"b" * 513]
    for _ in range(2):
        with pytest.raises(UnicodeDecodeError):
            make(b"\xff")
    assert len(made) == 5
