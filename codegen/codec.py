"""Straight-line encoders and decoders, one of each for every message: modules called `codec` beside the messages.

Messages that lists are made of have a second decoder, which makes no message but a tuple. What is not spelled out in
the generated text is in `containerd_py._codec.wire_format`. Fields are encoded in the order of their declaration, and
decoded in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from betterproto2_compiler.lib.google.protobuf import DescriptorProto, FileDescriptorProto

from codegen import model
from codegen.fields import LARGEST_SHORT, Field, Names, fields_of, module_alias

# What there are thousands of, and what is in them: records are made of these without a message in between.
LISTED: Final = frozenset(
    {
        "containerd.services.containers.v1.Container",
        "containerd.services.content.v1.Info",
        "containerd.services.images.v1.Image",
        "containerd.services.snapshots.v1.Info",
        "containerd.types.Descriptor",
        "google.protobuf.Any",
        "google.protobuf.Timestamp",
    }
)
_HEAD: Final = """\
from math import copysign
from struct import Struct

from containerd_py._codec.wire_format import (
    SIZES, as_bytes, end_of, int32, int64, long_tag, message_entry, packed, skip, text_entry, uint32, uint64,
    unsigned_varint, varint,
)
"""
_ROOT: Final = "containerd_py._generated"
# Whether a field reaches past the end of its message is found out when the last one has been read.
_FOLLOWING: Final = ("if end >= limit:", "    at = end", "    break", "tag = data[end]", "at = end + 1")
_LONG_TAG: Final = ("if tag > 127:", "    tag, at = long_tag(data, at - 1)")


def render_codecs(files: Iterable[FileDescriptorProto]) -> dict[str, str]:
    """Return the text of every module of encoders and decoders, by its path below the package of generated code.

    Raises:
        UnknownTypeError: A field is of a type containerd did not use so far.
    """
    files = list(files)
    names = Names.of(files)
    by_package: dict[str, list[tuple[str, DescriptorProto]]] = {}
    for file in files:
        by_package.setdefault(file.package, []).extend(model.messages([file]))
    return {
        f"{package.replace('.', '/')}/codec.py": _module(package, sorted(messages, key=lambda named: named[0]), names)
        for package, messages in by_package.items()
        if messages
    }


def _module(package: str, messages: list[tuple[str, DescriptorProto]], names: Names) -> str:
    fields = [field for name, message in messages for field in fields_of(name, message, names, package)]
    enums = sorted({field.enum for field in fields if field.enum})
    others = sorted({names.packages[field.type_name] for field in fields if field.type_name} - {package})
    lines = [_HEAD]
    lines += [f"from {_ROOT}.{other} import codec as {module_alias(other)}" for other in others]
    lines += [f"from {_ROOT}.{names.packages[enum]} import {names.python(enum)}" for enum in enums]
    lines += [f"from {_ROOT}.{package} import {names.python(f'.{name}')}" for name, _ in messages]
    lines += ["", "new = object.__new__", 'double = Struct("<d")']
    lines += [f"members_of_{names.python(enum)} = {names.python(enum)}._value2member_map_" for enum in enums]
    ends = []
    for full_name, message in messages:
        name = names.python(f".{full_name}")
        mine = list(fields_of(full_name, message, names, package))
        lines += ["", "", *_encoder(name, mine)]
        lines += ["", "", *_decoder(name, mine)]
        ends += [f"{name}._encode = encode_{name}", f"{name}._decode = staticmethod(decode_{name})"]
        if full_name in LISTED:
            lines += ["", "", *_reader(name, mine)]
            ends += [f"{name}.values = staticmethod(values_{name})"]
    return "\n".join([*lines, "", "", *ends]) + "\n"


def _encoder(name: str, fields: list[Field]) -> Iterator[str]:
    yield f"def encode_{name}(message):"
    if not fields:
        yield "    return message._unknown_fields"
        return
    yield "    out = bytearray()"
    for field in fields:
        yield from _indented(field.encoding(), 1)
    yield "    out += message._unknown_fields"
    yield "    return out"


def _decoder(name: str, fields: list[Field]) -> Iterator[str]:
    yield f"def decode_{name}(data, at, limit, message=None):"
    yield "    if message is None:"
    yield f"        message = new({name})"
    yield from (f"        field_{field.name} = {field.default}" for field in fields)
    yield '        unknown = b""'
    yield "    else:"
    yield from (f"        field_{field.name} = message.{field.name}" for field in fields)
    yield "        unknown = message._unknown_fields"
    yield from _reading(fields, is_shallow=False)
    yield from (f"    message.{field.name} = field_{field.name}" for field in fields)
    yield "    message._unknown_fields = unknown"
    yield "    return message"


def _reader(name: str, fields: list[Field]) -> Iterator[str]:
    yield f"def values_{name}(data, at, limit):"
    yield from (f"    field_{field.name} = {field.default}" for field in fields)
    yield from _reading(fields, is_shallow=True)
    yield f"    return {', '.join(f'field_{field.name}' for field in fields)}"


def _reading(fields: list[Field], *, is_shallow: bool) -> Iterator[str]:
    # A tag of several bytes that nobody here waits for is left to the next round.
    following = [*_FOLLOWING, *(_LONG_TAG if any(field.number > LARGEST_SHORT for field in fields) else ())]
    yield "    while at < limit:"
    yield "        start = at"
    yield "        end = 0"
    yield "        tag = data[at]"
    yield "        at += 1"
    yield from _indented(_LONG_TAG, 2)
    for field in fields:
        for tag, lines in field.branches(is_shallow=is_shallow):
            # Fields mostly come in their order: what follows is looked for below first, or is more of the same. What
            # has not been found below may be above; only what nothing was found before is unknown.
            yield f"        {'while' if field.is_repeated else 'if'} tag == {tag}:"
            yield from _indented([*lines, *following], 3)
    yield "        if end:"
    yield "            at = end"
    yield "        else:"
    yield "            at = skip(data, tag, at, limit)"
    if not is_shallow:
        yield "            unknown += data[start:at]"
    yield "    if at > limit:"
    yield "        raise IndexError"


def _indented(lines: Iterable[str], depth: int) -> Iterator[str]:
    return ("    " * depth + line for line in lines)
