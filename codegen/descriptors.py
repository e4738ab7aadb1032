"""The committed descriptor set: what containerd's API says, without its comments.

Knows protoc, where the protos come from and what is cut away; knows nothing of Python code. The set is committed so
that generating needs neither the protos nor protoc.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Final

from betterproto2_compiler.lib.google.protobuf import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MessageOptions,
)

from codegen.model import is_map_entry

API: Final = "github.com/containerd/containerd/api"
CGROUPS: Final = "github.com/containerd/cgroups/v3"
GO_SOURCES: Final = Path("usr/share/gocode/src")
WELL_KNOWN: Final = tuple(
    f"google/protobuf/{name}.proto" for name in ("any", "duration", "empty", "field_mask", "timestamp")
)

# They declare nothing but custom options, which are cut away.
OPTIONS_ONLY: Final = frozenset({f"{API}/types/fieldpath.proto", "google/protobuf/descriptor.proto"})

# containerd's introspection imports it, and no Debian package ships the file.
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
    subprocess.run([sys.executable, script, "unpack", DEBIAN_SUITE, folder, *DEBIAN_PACKAGES], check=True)


def debian_versions(folders: Iterable[Path]) -> dict[str, str]:
    """Return the version of each Debian package of ours that was unpacked into one of the folders."""
    versions = {}
    for folder in folders:
        for package in DEBIAN_PACKAGES:
            changelog = folder / "usr/share/doc" / package / "changelog.Debian.gz"
            if changelog.exists():
                with gzip.open(changelog, "rt", encoding="utf-8") as lines:
                    versions[package] = lines.readline().split("(")[1].split(")")[0]
    return versions


def build(folders: Iterable[Path]) -> bytes:
    """Compile the protos below the folders and return the descriptor set, without comments and options.

    A folder is an unpacked Debian package, or it holds Go import paths (`github.com/…`) itself.

    Raises:
        DescriptorError: there are no protos, or protoc refused them.
    """
    roots = [folder / GO_SOURCES if (folder / GO_SOURCES).is_dir() else folder for folder in folders]
    names = sorted({name for root in roots for name in _proto_names(root)} - OPTIONS_ONLY)
    for prefix in (API, CGROUPS):
        if not any(name.startswith(prefix) for name in names):
            raise DescriptorError(f"no .proto file below {prefix} in {', '.join(map(str, roots))}")
    compiled = FileDescriptorSet.parse(_protoc(roots, names))
    kept = [file for file in compiled.file if file.name not in OPTIONS_ONLY]
    for file in kept:
        _cut_file(file)
    return bytes(FileDescriptorSet(file=kept))


def _proto_names(root: Path) -> Iterator[str]:
    for prefix in (API, CGROUPS):
        for path in (root / prefix).rglob("*.proto"):
            yield path.relative_to(root).as_posix()


def _protoc(roots: Iterable[Path], names: Iterable[str]) -> bytes:
    bundled = resources.files("grpc_tools") / "_proto"  # google.protobuf's own
    with tempfile.TemporaryDirectory(prefix="protos-") as temporary:
        status = Path(temporary, "google", "rpc", "status.proto")
        status.parent.mkdir(parents=True)
        status.write_text(STATUS_PROTO, encoding="utf-8")
        output = Path(temporary, "set.binpb")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_out={output}", "--include_imports"]
        command += [f"-I{folder}" for folder in (*roots, temporary, bundled)]
        run = subprocess.run([*command, *names, *WELL_KNOWN], capture_output=True, text=True, check=False)
        if run.returncode:
            raise DescriptorError(f"protoc failed:\n{run.stderr.strip()}")
        return output.read_bytes()


def _cut_file(file: FileDescriptorProto) -> None:
    """Drop what the wire format does not depend on: comments, options and the extensions that declare options."""
    file.source_code_info = None
    file.options = None
    file.extension.clear()
    file.dependency[:] = [name for name in file.dependency if name not in OPTIONS_ONLY]
    for message in file.message_type:
        _cut_message(message)
    for enum in file.enum_type:
        _cut_enum(enum)
    for service in file.service:
        service.options = None
        for method in service.method:
            method.options = None


def _cut_message(message: DescriptorProto) -> None:
    message.options = MessageOptions(map_entry=True) if is_map_entry(message) else None
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
