"""Which containerd line serves which RPC and knows which message and field: read out of the daemons' own binaries.

Knows how Go programs carry their protobuf descriptors and function names; runs nothing. The result is committed as
support.json, so that everything made of it needs no binaries.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypedDict, TypeVar

from betterproto2_compiler.lib.google.protobuf import FileDescriptorProto

from codegen import model

Name = TypeVar("Name")

LINES: Final = ("1.6", "1.7", "2.1")
PACKAGES: Final = ("containerd.", "io.containerd.cgroups.", "runtimeoptions.")

# Same message on the wire, other name: the envelope moved when the ttrpc events service came to share it.
RENAMED: Final = {"containerd.services.events.v1.Envelope": "containerd.types.Envelope"}

GZIP_MAGIC: Final = re.compile(re.escape(b"\x1f\x8b\x08"))
LARGEST_DESCRIPTOR: Final = 1 << 20  # bytes; the largest of containerd's is 30 kB
FILE_NAME: Final = re.compile(rb"\n(.)([\w./-]{1,127}\.proto)\x12", re.DOTALL)
# Top-level fields of a FileDescriptorProto; `syntax` is the last one Go's generator writes for a proto3 file.
LENGTH_DELIMITED_TAGS: Final = frozenset({0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42})
SYNTAX: Final = b"\x62\x06proto3"


class Support(TypedDict):
    """What support.json holds; names in sorted order."""

    lines: dict[str, str]
    """Line to the Debian version of the binaries read."""
    rpcs: dict[str, str]
    """RPC path to the first line that serves it; absent if none does."""
    messages: dict[str, str]
    """Message to the first line that knows it; absent if none does."""
    fields: dict[str, str]
    """`message.field` to the first line that knows it, where that is later than its message's."""


class SupportError(RuntimeError):
    """The binaries are not what the table can be made of; the message says why."""


def extract(daemons: Path, api: Iterable[FileDescriptorProto]) -> Support:
    """Read each line's binaries from `LINE/bin` below the folder, and its version from `LINE/VERSION`.

    Raises:
        SupportError: a line is missing, or a later line lost what an earlier one had.
    """
    api = list(api)
    versions: dict[str, str] = {}
    served: dict[str, frozenset[str]] = {}
    known: dict[str, frozenset[tuple[str, str]]] = {}
    for line in LINES:
        versions[line] = _version(daemons / line, line)
        daemon = (daemons / line / "bin" / "containerd").read_bytes()
        # The shim answers for runc's options and the metrics.
        shim = (daemons / line / "bin" / "containerd-shim-runc-v2").read_bytes()
        served[line] = frozenset(rpc for rpc in model.rpcs(api) if has_handler(daemon, rpc))
        known[line] = frozenset(_names([*find_descriptors(daemon), *find_descriptors(shim)]))
    names = sorted(name for name, _ in model.messages(api))
    messages = _first_lines(names, lambda line, name: (name, "") in known[line])
    fields = _first_lines(sorted(model.fields(api)), lambda line, field: field in known[line])
    return Support(
        lines=versions,
        rpcs=_first_lines(sorted(model.rpcs(api)), lambda line, path: path in served[line]),
        messages=messages,
        fields={f"{name}.{field}": line for (name, field), line in fields.items() if line != messages[name]},
    )


def has_handler(binary: bytes, rpc: str) -> bool:
    """Tell whether a Go program contains the handler of a gRPC method.

    The linker keeps a handler only if the function that registers its service is called somewhere, so this says more
    than the presence of a descriptor: clients carry those too.
    """
    service, method = rpc.removeprefix("/").split("/")
    package, _, name = service.rpartition(".")
    folder = package.removeprefix("containerd.").replace(".", "/")
    return re.search(re.escape(f"/api/{folder}._{name}_{method}_Handler".encode()) + rb"\b", binary) is not None


def find_descriptors(binary: bytes) -> Iterator[FileDescriptorProto]:
    """Yield the descriptors of containerd's own files that a Go program carries."""
    for encoded in (*_compressed_descriptors(binary), *_plain_descriptors(binary)):
        file = FileDescriptorProto.parse(encoded)
        if f"{file.package}.".startswith(PACKAGES):
            yield file


def _compressed_descriptors(binary: bytes) -> Iterator[bytes]:
    """Yield the gzip members that hold a descriptor: what gogo/protobuf's generator embeds (1.6)."""
    for match in GZIP_MAGIC.finditer(binary):
        inflater = zlib.decompressobj(wbits=31)
        member = binary[match.start() : match.start() + LARGEST_DESCRIPTOR]
        try:
            content = inflater.decompress(member, LARGEST_DESCRIPTOR)
        except zlib.error:
            continue
        if inflater.eof and FILE_NAME.match(content):
            yield content


def _plain_descriptors(binary: bytes) -> Iterator[bytes]:
    """Yield the descriptors embedded as they are: what protobuf's own Go generator does (1.7 and later)."""
    for match in FILE_NAME.finditer(binary):
        if match[1][0] == len(match[2]):
            end = _end_of_descriptor(binary, match.start())
            if end is not None:
                yield binary[match.start() : end]


def _end_of_descriptor(binary: bytes, start: int) -> int | None:
    position = start
    while position - start < LARGEST_DESCRIPTOR and position < len(binary):
        if binary.startswith(SYNTAX, position):
            return position + len(SYNTAX)
        if binary[position] not in LENGTH_DELIMITED_TAGS:
            return None
        position = _end_of_field(binary, position + 1)
    return None


def _end_of_field(binary: bytes, position: int) -> int:
    """Return where a field ends whose length, a varint, starts at the position."""
    size = shift = 0
    for byte in binary[position : position + 3]:  # three bytes reach beyond LARGEST_DESCRIPTOR
        size |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if byte < 0x80:
            break
    return position + size


def _names(files: Iterable[FileDescriptorProto]) -> Iterator[tuple[str, str]]:
    """Yield (message, "") for each message and (message, field) for each field, by their names of today."""
    files = list(files)
    for name, _ in model.messages(files):
        yield RENAMED.get(name, name), ""
    for name, field in model.fields(files):
        yield RENAMED.get(name, name), field


def _first_lines(names: Iterable[Name], has: Callable[[str, Name], bool]) -> dict[Name, str]:
    first: dict[Name, str] = {}
    for name in names:
        having = [line for line in LINES if has(line, name)]
        if having and having != list(LINES[-len(having) :]):
            raise SupportError(f"{name} is in {', '.join(having)} but not in every later line")
        if having:
            first[name] = having[0]
    return first


def _version(home: Path, line: str) -> str:
    stamp = home / "VERSION"
    if not stamp.exists():
        raise SupportError(f"{stamp} is missing: `python3 .ci/provision.py tests` brings the daemons")
    version = stamp.read_text(encoding="utf-8").strip()
    if not version.startswith(f"{line}."):
        raise SupportError(f"{home} holds containerd {version}, which is not of the {line} line")
    return version


def by_service(paths: Mapping[str, str] | Iterable[str]) -> dict[str, list[str]]:
    """Group RPC paths by their service's full name, both in order."""
    grouped: dict[str, list[str]] = {}
    for path in sorted(paths):
        grouped.setdefault(path.removeprefix("/").split("/")[0], []).append(path)
    return grouped
