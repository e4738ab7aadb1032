"""What a layer of a new image is made from. Values; what becomes of them is `build_image`'s business."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Sequence
from datetime import datetime

import attrs

from containerd_py._flows.create_container import Env
from containerd_py._flows.plan_networks import NetworkChoice
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci import runtime_spec
from containerd_py.types import Mount


def _tuple(items: Iterable[str]) -> tuple[str, ...]:
    if isinstance(items, str):
        raise InvalidArgumentError(f"expected a list of strings, not the string {items!r}")
    return tuple(items)


def _absolute(_layer: object, _field: object, path: str) -> None:
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise InvalidArgumentError(f"destination: {path[:160]!a} is not an absolute path without '..'")


@attrs.frozen
class DirectoryLayer:
    """What is in a directory on this machine, laid over what is below at `destination`.

    A destination other than "/" becomes that directory itself, mode and all; folders above it are made where they are
    missing. Everything belongs to `owner`, a user and a group ID, None keeping the files' own. Times are the files'
    own, in whole seconds and not after the build's `source_date_epoch`, unless `mtime` fixes them all. `exclude` has
    patterns (as of `fnmatch`) of paths relative to the directory that stay away. `created_by` is what the image's
    history says of the layer.
    """

    path: str | os.PathLike[str]
    destination: str = attrs.field(default="/", kw_only=True, validator=_absolute)
    owner: tuple[int, int] | None = attrs.field(default=(0, 0), kw_only=True)
    mtime: datetime | None = attrs.field(default=None, kw_only=True)
    exclude: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_tuple)
    created_by: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class TarLayer:
    """A tar archive, taken as it is: a file on this machine or its bytes; plain or compressed with gzip or zstd.

    Names that begin with ".wh." hide files of the layers below (OCI image specification, "whiteouts"). A stream of
    bytes can be read, and so the layer used, only once.
    """

    source: str | os.PathLike[str] | bytes | AsyncIterable[bytes] = attrs.field(eq=False)
    created_by: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class RunLayer:
    """What a command changes in the file system when it runs in a container on the layers below.

    `args` is the whole command, whatever entrypoint the base image has. It runs as the base image says, in its
    environment and working directory and as its user, not as the new image's configuration will: `env`, `cwd` and
    `user` say it differently. `network` "host" lets it reach what this machine reaches, None nothing.
    """

    args: tuple[str, ...] = attrs.field(converter=_tuple)
    env: Env | None = attrs.field(default=None, kw_only=True, eq=False)
    cwd: str | None = attrs.field(default=None, kw_only=True)
    user: str | None = attrs.field(default=None, kw_only=True)
    mounts: Sequence[runtime_spec.Mount | Mount] = attrs.field(default=(), kw_only=True, eq=False)
    network: NetworkChoice | None = attrs.field(default=None, kw_only=True)
    created_by: str | None = attrs.field(default=None, kw_only=True)


LayerSource = DirectoryLayer | TarLayer | RunLayer


def history_of(layer: LayerSource) -> str:
    """Say what a layer was made by; nothing that differs from one machine to the next."""
    if layer.created_by is not None:
        return layer.created_by
    match layer:
        case DirectoryLayer():
            return f"directory to {layer.destination}"
        case TarLayer():
            return "tar archive"
        case RunLayer():
            return " ".join(layer.args)
