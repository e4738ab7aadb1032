"""The committed descriptor set: what containerd's API says, without its comments.

Knows protoc, the folders protos live in and what is cut away; knows nothing of Python code. The set is committed so
that generating needs neither the protos nor protoc.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from betterproto2_compiler.lib.google.protobuf import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MessageOptions,
)

DESCRIPTOR_SET: Final = Path(__file__).with_name("containerd.binpb")

GO_SOURCES: Final = Path("usr/share/gocode/src")
API: Final = "github.com/containerd/containerd/api"
CGROUPS: Final = "github.com/containerd/cgroups/v3"
WELL_KNOWN: Final = tuple(
    f"google/protobuf/{name}.proto" for name in ("any", "duration", "empty", "field_mask", "timestamp")
)

# Holds nothing but custom options of the Go code, and would pull in protobuf's whole descriptor.proto.
OPTIONS_ONLY: Final = f"{API}/types/fieldpath.proto"

# containerd's introspection imports it; no Debian package ships the file.
STATUS_PROTO: Final = """\
syntax = "proto3";
package google.rpc;
import "google/protobuf/any.proto";
message Status {
  int32 code = 1;
  string message = 2;
  repeated google.protobuf.Any details = 3;
}
"""

DEBIAN_SUITE: Final = "sid"
DEBIAN_PACKAGES: Final = ("golang-github-containerd-containerd-api-dev", "golang-github-containerd-cgroups-dev")


class DescriptorError(RuntimeError):
    """The protos could not be found or compiled; the message says what is missing."""


def unpack_debian(folder: Path) -> None:
    """Download the Debian packages that ship the protos and unpack them into `folder`."""
    script = Path(__file__).parents[1] / ".ci" / "debian.py"
    subprocess.run([sys.executable, str(script), "unpack", DEBIAN_SUITE, str(folder), *DEBIAN_PACKAGES], check=True)


def build(protos: Iterable[Path]) -> bytes:
    """Compile the protos below the folders and return the descriptor set, without comments and options.

    Each folder is one whose `usr/share/gocode/src` holds Go import paths (an unpacked Debian package), or one that
    holds such paths itself.

    Raises:
        DescriptorError: a folder has no protos, or protoc refused them.
    """
    roots = [folder / GO_SOURCES if (folder / GO_SOURCES).is_dir() else folder for folder in protos]
    names = sorted({name for root in roots for name in _proto_names(root)} - {OPTIONS_ONLY})
    for prefix in (API, CGROUPS):
        if not any(name.startswith(prefix) for name in names):
            raise DescriptorError(f"no .proto file below {prefix} in {', '.join(map(str, roots))}")
    compiled = FileDescriptorSet.parse(_protoc(roots, names))
    kept = [file for file in compiled.file if file.name not in (OPTIONS_ONLY, "google/protobuf/descriptor.proto")]
    for file in kept:
        _cut(file)
    return bytes(FileDescriptorSet(file=kept))


def load(path: Path = DESCRIPTOR_SET) -> list[FileDescriptorProto]:
    """Return the files of the committed descriptor set."""
    return FileDescriptorSet.parse(path.read_bytes()).file


def walk_messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """Yield every message of a file, nested ones too, map entries not, with its full name."""

    def walk(prefix: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
        for message in messages:
            if message.options is not None and message.options.map_entry:
                continue
            yield f"{prefix}.{message.name}", message
            yield from walk(f"{prefix}.{message.name}", message.nested_type)

    yield from walk(file.package, file.message_type)


def walk_rpcs(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the path of every RPC of a file, as gRPC sends it: `/package.Service/Method`."""
    for service in file.service:
        for method in service.method:
            yield f"/{file.package}.{service.name}/{method.name}"


def summarise(files: Iterable[FileDescriptorProto]) -> Mapping[str, int]:
    """Count files, messages, services and RPCs."""
    files = list(files)
    return {
        "files": len(files),
        "messages": sum(1 for file in files for _ in walk_messages(file)),
        "services": sum(len(file.service) for file in files),
        "rpcs": sum(1 for file in files for _ in walk_rpcs(file)),
    }


def _proto_names(root: Path) -> Iterator[str]:
    for prefix in (API, CGROUPS):
        for path in (root / prefix).rglob("*.proto"):
            yield path.relative_to(root).as_posix()


def _protoc(roots: Iterable[Path], names: Iterable[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="protos-") as temporary:
        status = Path(temporary, "google", "rpc", "status.proto")
        status.parent.mkdir(parents=True)
        status.write_text(STATUS_PROTO)
        output = Path(temporary, "set.binpb")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_out={output}", "--include_imports"]
        command += [f"-I{folder}" for folder in (*roots, temporary, _bundled_protos())]
        run = subprocess.run([*command, *names, *WELL_KNOWN], capture_output=True, text=True, check=False)
        if run.returncode:
            raise DescriptorError(f"protoc failed:\n{run.stderr.strip()}")
        return output.read_bytes()


def _bundled_protos() -> Path:
    import grpc_tools

    return Path(grpc_tools.__path__[0]) / "_proto"


def _cut(file: FileDescriptorProto) -> None:
    """Drop what the wire format does not depend on: comments, custom options, deprecations, extensions."""
    file.source_code_info = None
    file.options = None
    file.extension.clear()
    if OPTIONS_ONLY in file.dependency:
        file.dependency.remove(OPTIONS_ONLY)
    for message in file.message_type:
        _cut_message(message)
    for enum in file.enum_type:
        _cut_enum(enum)
    for service in file.service:
        service.options = None
        for method in service.method:
            method.options = None


def _cut_message(message: DescriptorProto) -> None:
    is_map_entry = message.options is not None and message.options.map_entry
    message.options = MessageOptions(map_entry=True) if is_map_entry else None
    message.extension.clear()
    for field in message.field:
        field.options = None
    for oneof in message.oneof_decl:
        oneof.options = None
    for nested in message.nested_type:
        _cut_message(nested)
    for enum in message.enum_type:
        _cut_enum(enum)


def _cut_enum(enum: EnumDescriptorProto) -> None:
    enum.options = None
    for value in enum.value:
        value.options = None
