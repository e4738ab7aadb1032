"""Every event of containerd's API becomes a value of its own class and back again; the unknown stays as it came."""

from __future__ import annotations

import dataclasses
import typing

import attrs
import betterproto2
import pytest

from containerd_py._generated.containerd import events as wire
from containerd_py._generated.containerd.services.images import v1 as image_wire
from containerd_py._generated.containerd.types import Envelope as WireEnvelope
from containerd_py._generated.containerd.types import Mount as WireMount
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._generated.google.protobuf import Timestamp as WireTimestamp
from containerd_py._generated.message_pool import default_message_pool
from containerd_py.errors import InvalidArgumentError
from containerd_py.services.containers import Runtime
from containerd_py.services.event_types import ContainerCreate, Envelope, Event, EventsGap, TaskCreate, TaskExit, TaskIO
from containerd_py.services.event_wire import envelope_from_wire, envelope_to_wire, event_from_wire, event_to_wire
from containerd_py.types import Mount, Timestamp
from containerd_py.typeurl import TypedValue

PARTS = {wire.TaskIo, wire.ContainerCreateRuntime}  # inside of others, never published themselves
MESSAGES = [getattr(wire, name) for name in wire.__all__ if getattr(wire, name) not in PARTS] + [
    image_wire.ImageCreate,
    image_wire.ImageUpdate,
    image_wire.ImageDelete,
]
MOMENT = Timestamp.from_parts(1_700_000_000, 123_456_789)


def name_of(message: type[betterproto2.Message]) -> str:
    return default_message_pool.type_to_url[message].removeprefix("type.googleapis.com/")


def filled(message: type[betterproto2.Message]) -> betterproto2.Message:
    """Make a message with something in every field, no two strings alike."""
    hints = typing.get_type_hints(message)
    values: dict[str, object] = {}
    for number, field in enumerate(dataclasses.fields(message), start=1):
        values[field.name] = sample(hints[field.name], f"{field.name}-{number}", number)
    return message(**values)


def sample(hint: object, text: str, number: int) -> object:
    match hint:
        case _ if hint is str:
            return text
        case _ if hint is bytes:
            return text.encode()
        case _ if hint is int:
            return number
        case _ if hint is bool:
            return True
        case _ if hint == dict[str, str]:
            return {"key": text, "containerd.io/x": ""}
        case _ if hint == list[WireMount]:
            return [filled(WireMount), WireMount(type="bind")]
        case _ if hint == list[str]:
            return [text, ""]
        case _ if hint == WireTimestamp | None:
            return WireTimestamp(seconds=1_700_000_000, nanos=123_456_789)
        case _:
            (kind, _none) = typing.get_args(hint)
            return filled(kind)


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_every_message_has_a_class_of_the_same_name_and_fields(message: type[betterproto2.Message]) -> None:
    """An event of the API comes out as the class called like it, which has a field for each of its fields."""
    event = event_from_wire(WireAny(type_url=name_of(message), value=b""))
    assert type(event).__name__ == name_of(message).rpartition(".")[2]
    assert {field.name for field in attrs.fields(type(event))} == {field.name for field in dataclasses.fields(message)}


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_every_field_survives_both_ways(message: type[betterproto2.Message]) -> None:
    """Nothing of an event is lost between the wire and the value."""
    raw = WireAny(type_url=name_of(message), value=bytes(filled(message)))
    event = event_from_wire(raw)
    assert not isinstance(event, TypedValue)
    again = event_to_wire(event)
    assert again.type_url == raw.type_url
    assert message.parse(again.value) == message.parse(raw.value)


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_values_compare_and_hash(message: type[betterproto2.Message]) -> None:
    """Two events with the same content are equal and may be put in a set."""
    raw = WireAny(type_url=name_of(message), value=bytes(filled(message)))
    assert len({event_from_wire(raw), event_from_wire(raw)}) == 1


def test_the_union_is_closed() -> None:
    """`Event` names exactly the classes that can come out, for exhaustive matching."""
    made = {type(event_from_wire(WireAny(type_url=name_of(message)))) for message in MESSAGES}
    assert made == set(typing.get_args(Event))


def test_nested_parts_are_typed() -> None:
    """Mounts, I/O and the runtime inside of events are values as well."""
    created = event_from_wire(WireAny(type_url="containerd.events.TaskCreate", value=bytes(filled(wire.TaskCreate))))
    assert isinstance(created, TaskCreate)
    assert created.io == TaskIO(stdin="stdin-1", stdout="stdout-2", stderr="stderr-3", terminal=True)
    assert created.rootfs[1] == Mount(type="bind", source="")
    message = wire.ContainerCreate(
        id="a",
        runtime=wire.ContainerCreateRuntime(
            name="r", options=WireAny(type_url="containerd.runc.v1.Options", value=b"x")
        ),
    )
    container = event_from_wire(WireAny(type_url="containerd.events.ContainerCreate", value=bytes(message)))
    options = TypedValue(type_url="containerd.runc.v1.Options", value=b"x")
    assert container == ContainerCreate(id="a", runtime=Runtime(name="r", options=options))


def test_a_foreign_prefix_is_accepted() -> None:
    """Publishers that put `type.googleapis.com/` before the name are understood."""
    raw = WireAny(type_url="type.googleapis.com/containerd.events.TaskOOM", value=bytes(wire.TaskOom(container_id="c")))
    assert type(event_from_wire(raw)).__name__ == "TaskOOM"


def test_unknown_types_stay_raw() -> None:
    """An event nobody here has heard of is delivered as name and bytes, and can be sent on unchanged."""
    raw = WireAny(type_url="org.example.Happened", value=b"\xff\x00anything")
    event = event_from_wire(raw)
    assert event == TypedValue(type_url="org.example.Happened", value=b"\xff\x00anything")
    assert event_to_wire(event) == raw


@pytest.mark.parametrize("damage", [b"\x0a\xff", b"\xff" * 11, b"\x0a\x02\xc3\x28", b"\x08", b"\x0b\x0b", b"\x00\x01"])
def test_damaged_events_stay_raw(damage: bytes) -> None:
    """Bytes that are not what their type says do not end a subscription."""
    event = event_from_wire(WireAny(type_url="containerd.events.TaskExit", value=damage))
    assert event == TypedValue(type_url="containerd.events.TaskExit", value=damage) or isinstance(event, TaskExit)


def test_unknown_fields_do_not_harm() -> None:
    """A field of a later containerd is passed over."""
    value = bytes(wire.TaskExit(container_id="c", exit_status=3)) + b"\xfa\x3f\x03new"
    event = event_from_wire(WireAny(type_url="containerd.events.TaskExit", value=value))
    assert event == TaskExit(container_id="c", exit_status=3)


def test_an_absent_event_is_an_empty_value() -> None:
    """An envelope without an event is still an envelope."""
    envelope = envelope_from_wire(WireEnvelope(namespace="n", topic="/t"))
    assert envelope == Envelope(timestamp=None, namespace="n", topic="/t", event=TypedValue(type_url=""))


@pytest.mark.parametrize("seconds", [0, -62135596800, 2**40], ids=["1970", "Go's zero time", "beyond any calendar"])
def test_no_time_is_none(seconds: int) -> None:
    """What means "no time" on the wire is None in the value."""
    message = wire.TaskExit(container_id="c", exited_at=WireTimestamp(seconds=seconds))
    assert event_from_wire(WireAny(type_url="containerd.events.TaskExit", value=bytes(message))) == TaskExit(
        container_id="c"
    )


def test_an_envelope_keeps_its_nanoseconds() -> None:
    """Forwarding an envelope changes nothing of it."""
    envelope = Envelope(timestamp=MOMENT, namespace="n", topic="/tasks/exit", event=TaskExit(container_id="c", pid=7))
    wire_form = envelope_to_wire(envelope)
    assert wire_form.timestamp == WireTimestamp(seconds=1_700_000_000, nanos=123_456_789)
    assert envelope_from_wire(wire_form) == envelope


@pytest.mark.parametrize(
    ("timestamp", "event"),
    [(None, TaskExit(container_id="c")), (MOMENT, EventsGap(began_at=MOMENT, ended_at=MOMENT, reason="r"))],
    ids=["no timestamp", "a gap"],
)
def test_what_cannot_be_forwarded_is_refused(timestamp: Timestamp | None, event: TaskExit | EventsGap) -> None:
    """The daemon demands a time, and a gap is no event."""
    with pytest.raises(InvalidArgumentError):
        envelope_to_wire(Envelope(timestamp=timestamp, namespace="n", topic="/t", event=event))


def test_an_exec_is_told_from_its_task() -> None:
    """`is_exec` is False for the task's own process, whichever way a shim says so."""
    assert not TaskExit(container_id="c", id="c").is_exec
    assert not TaskExit(container_id="c").is_exec
    assert TaskExit(container_id="c", id="e").is_exec
