"""Tar archives made by hand, block by block: what honest tools write, and what only hostile ones do."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping

BLOCK = 512
END = bytes(2 * BLOCK)


def header(
    name: str | bytes,
    *,
    flag: bytes = b"0",
    size: int | bytes = 0,
    link: str | bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Make a header block; bytes are taken as they are."""
    name, link = (text.encode() if isinstance(text, str) else text for text in (name, link))
    size = f"{size:011o}\x00".encode() if isinstance(size, int) else size
    parts = [
        name.ljust(100, b"\x00"),
        b"0000644\x00",
        b"0000000\x00" * 2,
        size.ljust(12, b"\x00"),
        b"00000000000\x00",
        b" " * 8,
        flag,
        link.ljust(100, b"\x00"),
        magic,
        bytes(80),
        prefix.ljust(155, b"\x00"),
    ]
    block = b"".join(parts).ljust(BLOCK, b"\x00")
    assert len(block) == BLOCK
    return block[:148] + (f"{sum(block):06o}\x00 ".encode() if checksum is None else checksum) + block[156:]


def member(name: str | bytes, data: bytes = b"", **fields: object) -> bytes:
    """Make a member with its content, padded."""
    fields.setdefault("size", len(data))
    return header(name, **fields) + data + bytes(-len(data) % BLOCK)


def pax(records: Mapping[str, str | bytes], *, flag: bytes = b"x") -> bytes:
    """Make a pax header."""
    data = b"".join(pax_record(key, value) for key, value in records.items())
    return member("PaxHeaders/x", data, flag=flag)


def pax_record(key: str, value: str | bytes) -> bytes:
    """Make one record of a pax header."""
    value = value.encode() if isinstance(value, str) else value
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def archive(*members: bytes) -> bytes:
    """Put members together and end the archive."""
    return b"".join(members) + END


def digest_of(data: bytes) -> str:
    """Digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def plain(media_type: str, data: bytes, **more: object) -> dict[str, object]:
    """Describe some content."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def dump(document: object) -> bytes:
    """Write JSON."""
    return json.dumps(document).encode()


def tar_layer(name: str = "file", data: bytes = b"content\n") -> bytes:
    """Make a layer with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Layout:
    """An OCI image layout in hand: blobs and index entries, to be broken at will before it becomes an archive."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.entries: list[dict[str, object]] = []
        self.layout = dump({"imageLayoutVersion": "1.0.0"})
        self.index: bytes | None = None

    def blob(self, media_type: str, data: bytes, **more: object) -> dict[str, object]:
        """Add a blob and describe it."""
        self.blobs[f"blobs/sha256/{digest_of(data).removeprefix('sha256:')}"] = data
        return plain(media_type, data, **more)

    def image(
        self,
        name: str | None = "example.com/made:1",
        *,
        layers: Iterable[bytes] | None = None,
        architecture: str = "amd64",
        layer_type: str = "application/vnd.oci.image.layer.v1.tar",
        listed: bool = True,
        **more: object,
    ) -> dict[str, object]:
        """Add an image, and list it in the index."""
        tars = [tar_layer()] if layers is None else [*layers]
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/file"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob("application/vnd.oci.image.config.v1+json", dump(config)),
            "layers": [self.blob(layer_type, tar) for tar in tars],
        }
        annotations = {} if name is None else {"annotations": {"io.containerd.image.name": name}}
        described = self.blob("application/vnd.oci.image.manifest.v1+json", dump(manifest), **annotations, **more)
        if listed:
            self.entries.append(described)
        return described

    def files(self) -> dict[str, bytes]:
        """Return everything by path."""
        index = self.index or dump({"schemaVersion": 2, "manifests": self.entries})
        return {**self.blobs, "index.json": index, "oci-layout": self.layout}

    def tar(self) -> bytes:
        """Return the archive."""
        return archive(*(member(path, data) for path, data in self.files().items()))


def docker_archive(name: str | None = "made:1", *, layers: Iterable[bytes] | None = None) -> dict[str, bytes]:
    """Return the files of an archive as docker save made them before it wrote layouts."""
    tars = [tar_layer()] if layers is None else [*layers]
    config = dump(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/file"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
    )
    config_path = f"{digest_of(config).removeprefix('sha256:')}.json"
    paths = [f"{digest_of(tar).removeprefix('sha256:')}/layer.tar" for tar in tars]
    entry = {"Config": config_path, "RepoTags": None if name is None else [name], "Layers": paths}
    return {config_path: config, **dict(zip(paths, tars, strict=True)), "manifest.json": dump([entry])}


async def chunked(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    """Yield data in pieces that have nothing to do with blocks."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
