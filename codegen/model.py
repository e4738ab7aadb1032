"""Reading a descriptor set: its messages, fields and RPCs by name.

Knows how descriptors nest; knows nothing of where they come from or what is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from betterproto2_compiler.lib.google.protobuf import DescriptorProto, FileDescriptorProto, FileDescriptorSet


def load(path: Path) -> list[FileDescriptorProto]:
    """Return the files of a descriptor set."""
    return FileDescriptorSet.parse(path.read_bytes()).file


def is_map_entry(message: DescriptorProto) -> bool:
    """Tell whether a message is only the wire form of a map field's entries."""
    return message.options is not None and message.options.map_entry


def messages(files: Iterable[FileDescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    """Yield the full name of every message, nested ones too, map entries not."""

    def walk(scope: str, siblings: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
        for message in siblings:
            if not is_map_entry(message):
                name = f"{scope}.{message.name}"
                yield name, message
                yield from walk(name, message.nested_type)

    for file in files:
        yield from walk(file.package, file.message_type)


def fields(files: Iterable[FileDescriptorProto]) -> Iterator[tuple[str, str]]:
    """Yield every field as (full name of its message, its own name)."""
    for name, message in messages(files):
        for field in message.field:
            yield name, field.name


def rpcs(files: Iterable[FileDescriptorProto]) -> Iterator[str]:
    """Yield the path of every RPC, as gRPC sends it: `/package.Service/Method`."""
    for file in files:
        for service in file.service:
            for method in service.method:
                yield f"/{file.package}.{service.name}/{method.name}"
