"""Layers for test images: tar archives made of a few files, byte for byte the same every time.

Blocking: to be called in worker threads where layers are large. Knows tar and compression; knows nothing of registries.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import attrs

from containerd_py.oci.media_types import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP
from containerd_py.types import Descriptor

Compression = Literal["gzip", "none"]

CHUNK: Final = 1024 * 1024  # bytes
GZIP_LEVEL: Final = 1  # test data is small, or random and so cannot shrink


@attrs.frozen(kw_only=True)
class LayerFile:
    """One entry of a layer. `path` is relative to the image's root.

    A path ending in "/" is a folder, a `link_target` makes a symbolic link, `random_size` a file of that many
    reproducible random bytes; anything else is a file with `data`. A name starting with ".wh." hides the file of that
    name in the layers below (OCI image specification, "whiteouts").
    """

    path: str
    data: bytes = attrs.field(default=b"", repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link_target: str | None = None
    random_size: int = 0


@attrs.frozen(kw_only=True)
class Layer:
    """A layer in a blobs folder: what a manifest and a configuration say about it."""

    descriptor: Descriptor
    diff_id: str


class _Digesting:
    """A file that digests what is written to it."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write and digest."""
        self._hash.update(data)
        self.size += len(data)
        return self._target.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._target.flush()

    @property
    def digest(self) -> str:
        """The digest of all that was written."""
        return f"sha256:{self._hash.hexdigest()}"


def write_layer(blobs: Path, files: Iterable[LayerFile], *, compression: Compression = "gzip") -> Layer:
    """Write a layer into the folder `blobs` of an OCI image layout."""
    blobs.mkdir(parents=True, exist_ok=True)
    unfinished = blobs / "unfinished-layer"
    with unfinished.open("wb") as file:
        packed = _Digesting(file)
        with _compressed(packed, compression) as target:
            plain = _Digesting(target)
            with tarfile.open(fileobj=cast("BinaryIO", plain), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for entry in files:
                    _add(archive, entry)
    unfinished.rename(blobs / packed.digest.removeprefix("sha256:"))
    media_type = MEDIA_TYPE_LAYER_GZIP if compression == "gzip" else MEDIA_TYPE_LAYER
    return Layer(
        descriptor=Descriptor(media_type=media_type, digest=packed.digest, size=packed.size), diff_id=plain.digest
    )


def _compressed(target: _Digesting, compression: Compression) -> AbstractContextManager[BinaryIO]:
    file = cast("BinaryIO", target)
    if compression == "none":
        return nullcontext(file)
    return cast(
        "AbstractContextManager[BinaryIO]",
        gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0),
    )


def _add(archive: tarfile.TarFile, entry: LayerFile) -> None:
    member = tarfile.TarInfo(entry.path.rstrip("/"))
    member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
    if entry.link_target is not None:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link_target, 0o777
    elif entry.path.endswith("/"):
        member.type = tarfile.DIRTYPE
    elif entry.random_size:
        member.size = entry.random_size
        archive.addfile(member, cast("BinaryIO", _RandomFile(entry.path, entry.random_size)))
        return
    else:
        member.size = len(entry.data)
    archive.addfile(member, io.BytesIO(entry.data))


class _RandomFile:
    """A file of random bytes that are the same for the same name."""

    def __init__(self, seed: str, size: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._left = size

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes."""
        size = self._left if size < 0 else min(size, self._left)
        self._left -= size
        return self._random.randbytes(size)


def random_layers(count: int, size: int, *, seed: str = "layer") -> Iterator[tuple[LayerFile, ...]]:
    """Make the files of `count` layers, each holding one file of `size` random bytes."""
    for number in range(count):
        yield (LayerFile(path=f"{seed}-{number:03}.bin", random_size=size),)
