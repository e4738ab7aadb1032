"""Google's own protobuf as the judge of ours: the same descriptors, and random messages and bytes made of them."""

import struct
from functools import cache
from importlib import import_module
from random import Random

from betterproto2_compiler.compile.naming import pythonize_class_name, pythonize_field_name
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from codegen import outputs

TEXT, BYTES, MESSAGE, ENUM = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, 11, FieldDescriptor.TYPE_ENUM
SIZES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63),
    FieldDescriptor.TYPE_UINT32: (0, 2**32),
    FieldDescriptor.TYPE_UINT64: (0, 2**64),
    ENUM: (-(2**31), 2**31),
}
LENGTH = {TEXT, BYTES, MESSAGE}
DEEPEST = 4  # messages within messages


def _load() -> dict[str, Descriptor]:
    files = descriptor_pb2.FileDescriptorSet.FromString(outputs.DESCRIPTOR_SET.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    found: dict[str, Descriptor] = {}

    def walk(descriptor: Descriptor) -> None:
        if not descriptor.GetOptions().map_entry:
            found[descriptor.full_name] = descriptor
            for nested in descriptor.nested_types:
                walk(nested)

    for file in files.file:
        pool.Add(file)
        for descriptor in pool.FindFileByName(file.name).message_types_by_name.values():
            walk(descriptor)
    return found


MESSAGES = _load()


@cache
def google_class(name: str) -> type[Message]:
    """Return Google's class of a message."""
    return message_factory.GetMessageClass(MESSAGES[name])


@cache
def our_class(name: str) -> type:
    """Return our class of a message."""
    package = MESSAGES[name].file.package
    module = import_module(f"containerd_py._generated.{package}")
    return getattr(module, pythonize_class_name(name.removeprefix(f"{package}.")))


def google_decoded(name: str, data: bytes) -> Message | None:
    """Return what Google's decoder makes of the bytes, None if it refuses them."""
    try:
        return google_class(name).FromString(data)
    except DecodeError:
        return None


def is_map(field: FieldDescriptor) -> bool:
    """Tell whether a field is a map."""
    return field.type == MESSAGE and field.message_type.GetOptions().map_entry


def content(message, descriptor: Descriptor) -> dict[str, object]:
    """Return what is in a message, ours or Google's, for comparison; absent messages are None, scalars are printed."""
    return {field.name: _content_of(message, field) for field in descriptor.fields}


def decoded_content(field: FieldDescriptor, value) -> object:
    """Return the same for a field's value in which messages were left undecoded."""
    if is_map(field):
        within = field.message_type.fields_by_name["value"]
        return {key: _one(_decoded(item, within), within) for key, item in value.items()}
    if field.is_repeated:
        return [_one(_decoded(item, field), field) for item in value]
    return _one(_decoded(value, field), field)


def _decoded(value, field: FieldDescriptor):
    return (
        our_class(field.message_type.full_name).parse(value) if field.type == MESSAGE and value is not None else value
    )


def _content_of(message, field: FieldDescriptor) -> object:
    value = getattr(message, field.name if isinstance(message, Message) else pythonize_field_name(field.name))
    if is_map(field):
        within = field.message_type.fields_by_name["value"]
        return {key: _one(value[key], within) for key in value}
    if field.is_repeated:
        return [_one(item, field) for item in value]
    if isinstance(message, Message) and field.type == MESSAGE and not message.HasField(field.name):
        return None
    return _one(value, field)


def _one(value, field: FieldDescriptor) -> object:
    if field.type == MESSAGE:
        return None if value is None else content(value, field.message_type)
    return int(value) if field.type == ENUM else repr(value)


def has_refused_entries(message: Message) -> bool:
    """Tell whether Google put an entry of a map aside for something unknown in it. Go and we take the entry."""
    fields = message.DESCRIPTOR.fields_by_number
    numbers = {unknown.field_number for unknown in UnknownFieldSet(message)}
    if any(number in fields and is_map(fields[number]) for number in numbers):
        return True
    return any(has_refused_entries(inner) for field, value in message.ListFields() for inner in _inner(field, value))


def _inner(field: FieldDescriptor, value) -> list[Message]:
    if field.type != MESSAGE:
        return []
    if is_map(field):
        return [value[key] for key in value if isinstance(value[key], Message)]
    return list(value) if field.is_repeated else [value]


# ── random messages ──────────────────────────────────────────────────────────────────────────────────────────────────


def random_message(random: Random, name: str) -> Message:
    """Make a message with random values in some of its fields."""
    message = google_class(name)()
    _fill(random, message, DEEPEST)
    return message


def _fill(random: Random, message: Message, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.3 or (field.type == MESSAGE and depth == 0):
            continue
        target = getattr(message, field.name)
        if is_map(field):
            _fill_map(random, target, field.message_type.fields_by_name["value"], depth - 1)
        elif field.type == MESSAGE and field.is_repeated:
            for _ in range(random.randrange(4)):
                _fill(random, target.add(), depth - 1)
        elif field.type == MESSAGE:
            target.SetInParent()
            _fill(random, target, depth - 1)
        elif field.is_repeated:
            target.extend(_value(random, field) for _ in range(random.randrange(5)))
        else:
            setattr(message, field.name, _value(random, field))


def _fill_map(random: Random, target, value: FieldDescriptor, depth: int) -> None:
    for _ in range(random.randrange(4)):
        key = _text(random)
        if value.type == MESSAGE:
            _fill(random, target[key], depth)
        else:
            target[key] = _text(random)


def _text(random: Random) -> str:
    return random.choice(["", "a", "io.containerd/label", "ü" * 70, "x" * 127, "y" * 128, "\0\n", "𝄞"])


def _value(random: Random, field: FieldDescriptor):
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _text(random)
        case FieldDescriptor.TYPE_BYTES:
            return random.choice([b"", b"\xff\0", b"z" * 300])
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_DOUBLE:
            return random.choice([0.0, 1.5, -1e300, float("inf")])
        case FieldDescriptor.TYPE_ENUM:
            return random.choice([0, 1, 2, 99, -1])
    lowest, limit = SIZES[field.type]
    value = random.choice([0, 1, -1, 127, 128, 2**31, lowest, limit - 1, 2 ** random.randrange(64)])
    return min(max(value, lowest), limit - 1)


# ── random bytes that look like a message ────────────────────────────────────────────────────────────────────────────


def random_wire(random: Random, name: str) -> bytes:
    """Make bytes that are nearly, or even, a message: fields in any order, sent twice, of wrong kinds, unknown, cut."""
    data = _soup(random, MESSAGES[name], DEEPEST)
    accident = random.random()
    if data and accident < 0.15:
        return data[: random.randrange(len(data))]
    if data and accident < 0.3:
        at = random.randrange(len(data))
        return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
    return data


def varint(value: int, padding: int = 0) -> bytes:
    """Encode a number, with so many bytes more than it needs."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    for _ in range(padding):
        made[-1] |= 0x80
        made.append(0)
    return bytes(made)


def _soup(random: Random, descriptor: Descriptor, depth: int) -> bytes:
    if descriptor.GetOptions().map_entry:  # of which Google's decoder makes unknown fields unless it knows all of it
        fields = random.choices(descriptor.fields, k=random.randrange(4))
        return b"".join(_tagged(random, field.number, 2, _content(random, field, depth), depth) for field in fields)
    return b"".join(_field(random, descriptor, depth) for _ in range(random.randrange(7)))


def _field(random: Random, descriptor: Descriptor, depth: int) -> bytes:
    if not descriptor.fields or random.random() < 0.12:
        return _tagged(random, random.choice([0, 7, 15, 16, 99, 2047, 2**29 - 1]), random.randrange(8), b"x", depth)
    field = random.choice(descriptor.fields)
    if random.random() < 0.08:
        return _tagged(random, field.number, random.randrange(8), b"x", depth)
    if field.type in LENGTH:
        return _tagged(random, field.number, 2, _content(random, field, depth), depth)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _tagged(random, field.number, 1, b"", depth)
    if field.is_repeated and random.random() < 0.7:
        numbers = b"".join(_number(random) for _ in range(random.randrange(5)))
        return _tagged(random, field.number, 2, numbers, depth)
    return _tagged(random, field.number, 0, b"", depth)


def _content(random: Random, field: FieldDescriptor, depth: int) -> bytes:
    if field.type == MESSAGE:
        return _soup(random, field.message_type, depth - 1) if depth else b""
    if random.random() < 0.06:
        return random.choice([b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xe2\x82"])  # no UTF-8
    return _text(random).encode()


def _tagged(random: Random, number: int, kind: int, content: bytes, depth: int) -> bytes:
    tag = varint(number << 3 | kind, random.choice([0] * 20 + [1, 2, 4]))
    match kind:
        case 0:
            return tag + _number(random)
        case 1:
            return tag + struct.pack("<d", random.choice([0.0, -0.0, -2.5]))
        case 2:
            size = len(content) if random.random() < 0.98 else random.choice([2**31, 2**32, 2**63, 2**64])
            return tag + varint(size, random.choice([0] * 20 + [1, 3, 4, 5, 8])) + content
        case 3:
            inner = b"".join(_tagged(random, 9, random.choice([0, 2, 5]), b"y", 0) for _ in range(random.randrange(3)))
            return tag + inner + varint((number if random.random() < 0.8 else 5) << 3 | 4)
        case 5:
            return tag + b"\1\2\3\4"
    return tag + content


def _number(random: Random) -> bytes:
    value = random.choice([0, 1, 2, 127, 128, 300, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 2**70 - 1])
    return varint(value, random.choice([0] * 12 + [1, 3, 5, 9]))
