"""One field of a message: the lines of Python that encode and decode it.

Knows protobuf's types as far as containerd's API uses them; an unknown one stops the generator. Fields are encoded as
betterproto2 does, and decoded as Google does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import attrs
from betterproto2_compiler.compile.naming import pythonize_class_name, pythonize_field_name
from betterproto2_compiler.lib.google.protobuf import (
    DescriptorProto,
    FieldDescriptorProto,
    FieldDescriptorProtoLabel,
    FieldDescriptorProtoType,
    FileDescriptorProto,
)

from codegen import model

_VARINT, _FIXED64, _LENGTH = 0, 1, 2  # wire types
LARGEST_SHORT: Final = 15  # the largest number of a field whose tag is one byte
_NUMBERS: Final = {  # type → the encoder of wire_format
    FieldDescriptorProtoType.INT32: "int32",
    FieldDescriptorProtoType.INT64: "int64",
    FieldDescriptorProtoType.UINT32: "uint32",
    FieldDescriptorProtoType.UINT64: "uint64",
    FieldDescriptorProtoType.ENUM: "int32",
    FieldDescriptorProtoType.BOOL: "",
}
_NARROW: Final = frozenset(
    {FieldDescriptorProtoType.INT32, FieldDescriptorProtoType.UINT32, FieldDescriptorProtoType.ENUM}
)
_WITH_SIGN: Final = frozenset(
    {FieldDescriptorProtoType.INT32, FieldDescriptorProtoType.INT64, FieldDescriptorProtoType.ENUM}
)
_DEFAULTS: Final = {
    FieldDescriptorProtoType.STRING: '""',
    FieldDescriptorProtoType.BYTES: 'b""',
    FieldDescriptorProtoType.BOOL: "False",
    FieldDescriptorProtoType.DOUBLE: "0.0",
    FieldDescriptorProtoType.MESSAGE: "None",
}


class UnknownTypeError(RuntimeError):
    """The API has come to use a type that nothing is generated for yet; the message names the field."""


@attrs.frozen
class Names:
    """Where each message and enum is, by its name in a descriptor (`.package.Message.Nested`)."""

    packages: dict[str, str]

    @classmethod
    def of(cls, files: Iterable[FileDescriptorProto]) -> Names:
        """Read them out of a descriptor set."""
        packages: dict[str, str] = {}
        for file in files:
            names = [name for name, _ in model.messages([file])]
            names += [f"{file.package}.{enum.name}" for enum in file.enum_type]
            names += [f"{name}.{enum.name}" for name, message in model.messages([file]) for enum in message.enum_type]
            packages |= {f".{name}": file.package for name in names}
        return cls(packages)

    def python(self, type_name: str) -> str:
        """Return the name of the generated class."""
        return pythonize_class_name(type_name.removeprefix(f".{self.packages[type_name]}."))

    def coder(self, verb: str, type_name: str, home: str) -> str:
        """Return how a module of the package `home` calls a message's encoder or decoder."""
        package = self.packages[type_name]
        prefix = "" if package == home else f"{module_alias(package)}."
        return f"{prefix}{verb}_{self.python(type_name)}"


def module_alias(package: str) -> str:
    """Return the name under which a codec imports that of another package."""
    return package.replace(".", "_")


@attrs.frozen(kw_only=True)
class Field:
    """A field, and the code that encodes and decodes it. In decoders its value is the variable `field_NAME`."""

    name: str
    number: int
    type: FieldDescriptorProtoType
    is_repeated: bool
    is_map: bool = False
    type_name: str = ""
    """Of the message, or of the message that is a map's value; empty if there is none."""
    enum: str = ""
    enum_class: str = ""
    encode: str = ""
    decode: str = ""

    @property
    def default(self) -> str:
        """The value of a field that was not sent."""
        if self.is_map:
            return "{}"
        if self.is_repeated:
            return "[]"
        if self.enum:
            return f"{self.enum_class}(0)"
        return _DEFAULTS.get(self.type, "0")

    @property
    def is_lone_message(self) -> bool:
        """Whether what is sent twice is merged."""
        return self.type is FieldDescriptorProtoType.MESSAGE and not self.is_repeated

    def tag(self, wire_type: int) -> int:
        """Return the field's tag for a wire type."""
        return self.number << 3 | wire_type

    def tag_bytes(self, wire_type: int) -> str:
        """Return the same as a literal."""
        return repr(_varint(self.tag(wire_type)))

    # Encoding: statements that append to `out`, a bytearray.

    def encoding(self) -> Iterator[str]:
        """Yield the lines that encode the field of `message`."""
        tag = self.tag_bytes(self._wire_type)
        if self.is_map:
            yield f"for key, value in message.{self.name}.items():"
            yield "    key = key.encode()"
            yield f"    value = {self._as_bytes}"
            yield f"    entry = {_SIZED.format('key', start='b' + repr(chr(10)))} + key"
            yield f"    entry += {_SIZED.format('value', start='b' + repr(chr(18)))} + value"
            yield f"    out += {_SIZED.format('entry', start=tag)} + entry"
        elif self.is_repeated and self._wire_type == _LENGTH:
            yield f"for value in message.{self.name}:"
            yield f"    value = {self._as_bytes}"
            yield f"    out += {_SIZED.format('value', start=tag)} + value"
        elif self.is_repeated:
            yield f"if values := message.{self.name}:"
            yield f'    value = b"".join([{_NUMBERS[self.type]}(value) for value in values])'
            yield f"    out += {self.tag_bytes(_LENGTH)} + unsigned_varint(len(value)) + value"
        else:
            yield from self._encoding_alone(tag)

    def _encoding_alone(self, tag: str) -> Iterator[str]:
        match self.type:
            case FieldDescriptorProtoType.MESSAGE:
                yield f"if (value := message.{self.name}) is not None:"
            case FieldDescriptorProtoType.DOUBLE:  # the negative zero is not the default
                yield f"if (value := message.{self.name}) or copysign(1.0, value) < 0:"
            case _:
                yield f"if value := message.{self.name}:"
        if self._wire_type == _LENGTH:
            yield f"    value = {self._as_bytes}"
            yield f"    out += {tag}"
            yield "    if len(value) < 128:"
            yield "        out.append(len(value))"
            yield "    else:"
            yield "        out += unsigned_varint(len(value))"
            yield "    out += value"
        elif self._wire_type == _FIXED64:
            yield f"    out += {tag} + double.pack(value)"
        elif self.type is FieldDescriptorProtoType.BOOL:
            yield f"    out += {self.tag_bytes(_VARINT)[:-1]}\\x01{self.tag_bytes(_VARINT)[-1]}"
        else:
            yield f"    out += {tag} + {_NUMBERS[self.type]}(value)"

    @property
    def _as_bytes(self) -> str:
        if self.type_name:
            return f"{self.encode}(value)"
        return "value.encode()" if self.type is FieldDescriptorProtoType.STRING else "value"

    # Decoding: branches on `tag`; `at` is the position in `data` after it.

    def branches(self, *, is_shallow: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield each tag the field may have, and the lines that decode what follows it, or leave it if a message."""
        if self._wire_type == _LENGTH:
            taking = self._leaving() if is_shallow and self.type_name else self._taking()
            yield self.tag(_LENGTH), [*_BOUNDS, *taking]
        elif self._wire_type == _FIXED64:
            yield (
                self.tag(_FIXED64),
                [
                    "end = at + 8",
                    "if end > len(data):",
                    "    raise IndexError",
                    f"field_{self.name} = double.unpack_from(data, at)[0]",
                ],
            )
        elif self.is_repeated:
            yield self.tag(_VARINT), ["number, end = varint(data, at)", f"field_{self.name}.append(number)"]
            yield self.tag(_LENGTH), [*_BOUNDS, f"packed(data, at, end, field_{self.name})"]
        else:
            yield self.tag(_VARINT), [*self._number()]

    def _taking(self) -> Iterator[str]:
        if self.is_map and self.type_name:
            yield f"message_entry(data, at, end, field_{self.name}, {self.decode})"
        elif self.is_map:
            yield f"text_entry(data, at, end, field_{self.name})"
        elif self.is_lone_message:  # sent twice, it is merged
            yield f"field_{self.name} = {self.decode}(data, at, end, field_{self.name})"
        elif self.type_name:
            yield f"field_{self.name}.append({self.decode}(data, at, end))"
        else:
            value = "data[at:end].decode()" if self.type is FieldDescriptorProtoType.STRING else "data[at:end]"
            yield f"field_{self.name}.append({value})" if self.is_repeated else f"field_{self.name} = {value}"

    def _leaving(self) -> Iterator[str]:
        if self.is_map:
            yield f"message_entry(data, at, end, field_{self.name}, as_bytes)"
        elif self.is_repeated:
            yield f"field_{self.name}.append(data[at:end])"
        else:  # sent twice, it is merged: one after the other they make the whole
            variable = f"field_{self.name}"
            yield f"{variable} = data[at:end] if {variable} is None else {variable} + data[at:end]"

    def _number(self) -> Iterator[str]:
        variable = f"field_{self.name}"
        yield f"{variable} = data[at]"
        yield "end = at + 1"
        yield f"if {variable} > 127:"
        yield f"    {variable}, end = varint(data, at)"
        bits = 32 if self.type in _NARROW else 64
        if bits == 32:
            yield f"    {variable} &= {2**32 - 1}"
        if self.type in _WITH_SIGN:
            yield f"    if {variable} >= {2 ** (bits - 1)}:"
            yield f"        {variable} -= {2**bits}"
        if self.enum:
            yield f"{variable} = members_of_{self.enum_class}.get({variable}) or {self.enum_class}({variable})"
        elif self.type is FieldDescriptorProtoType.BOOL:
            yield f"{variable} = {variable} != 0"

    @property
    def _wire_type(self) -> int:
        if self.is_map or self.type in _LENGTH_DELIMITED:
            return _LENGTH
        return _FIXED64 if self.type is FieldDescriptorProtoType.DOUBLE else _VARINT


_SIZED: Final = "{start} + (SIZES[size] if (size := len({0})) < 128 else unsigned_varint(size))"
_LENGTH_DELIMITED: Final = frozenset(
    {FieldDescriptorProtoType.STRING, FieldDescriptorProtoType.BYTES, FieldDescriptorProtoType.MESSAGE}
)
_BOUNDS: Final = (
    "size = data[at]",
    "at += 1",
    "if size < 128:",
    "    end = at + size",
    "elif (more := data[at]) < 128:",
    "    at += 1",
    "    end = at + size + (more << 7) - 128",
    "else:",
    "    at, end = end_of(data, at - 1, limit)",
)


def fields_of(name: str, message: DescriptorProto, names: Names, home: str) -> Iterator[Field]:
    """Yield the fields of the message of that full name, for a module of the package `home`.

    Raises:
        UnknownTypeError: One is of a type containerd did not use so far.
    """
    entries = {f".{name}.{nested.name}": nested for nested in message.nested_type if model.is_map_entry(nested)}
    for field in message.field:
        entry = entries.get(field.type_name)
        described = field if entry is None else entry.field[1]
        _check(f"{name}.{field.name}", field, entry)
        type_name = described.type_name if described.type is FieldDescriptorProtoType.MESSAGE else ""
        enum = described.type_name if described.type is FieldDescriptorProtoType.ENUM else ""
        yield Field(
            name=pythonize_field_name(field.name),
            number=field.number,
            type=described.type,
            is_repeated=field.label is FieldDescriptorProtoLabel.REPEATED,
            is_map=entry is not None,
            type_name=type_name,
            enum=enum,
            enum_class=names.python(enum) if enum else "",
            encode=names.coder("encode", type_name, home) if type_name else "",
            decode=names.coder("decode", type_name, home) if type_name else "",
        )


def _check(name: str, field: FieldDescriptorProto, entry: DescriptorProto | None) -> None:
    text, message = FieldDescriptorProtoType.STRING, FieldDescriptorProtoType.MESSAGE
    is_known = field.type in _LENGTH_DELIMITED | _NUMBERS.keys() | {FieldDescriptorProtoType.DOUBLE}
    if entry is not None:
        is_known = entry.field[0].type is text and entry.field[1].type in {text, message}
    elif field.label is FieldDescriptorProtoLabel.REPEATED:
        is_known = field.type in {text, message, FieldDescriptorProtoType.UINT64}
    elif field.proto3_optional:
        is_known = field.type is message  # which is absent or there without that word
    if not is_known:
        raise UnknownTypeError(f"{name}: nothing is generated for fields of this type, see codegen/fields.py")


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
