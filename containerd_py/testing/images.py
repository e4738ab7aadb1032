"""A small image around busybox, as an OCI image layout on disk. Needs no network and no tool but busybox itself.

Blocking: to be called in worker threads. Knows the OCI image specification; knows no registry and no daemon.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from containerd_py.errors import FailedPreconditionError
from containerd_py.oci.media_types import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_DOCKER_CONFIG,
    MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_DOCKER_LAYER_GZIP,
    MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_DOCKER_MANIFEST_LIST,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
)
from containerd_py.testing.layers import Compression, Layer, LayerFile, write_layer
from containerd_py.types import Descriptor, Platform

BUSYBOX: Final = "/bin/busybox"
DEFAULT_ENV: Final = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
CREATED: Final = "2024-01-01T00:00:00Z"
ELF_INTERPRETER: Final = 3  # PT_INTERP: a program header that only dynamically linked programs have
DOCKER_TYPES: Final = {
    MEDIA_TYPE_INDEX: MEDIA_TYPE_DOCKER_MANIFEST_LIST,
    MEDIA_TYPE_MANIFEST: MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_CONFIG: MEDIA_TYPE_DOCKER_CONFIG,
    MEDIA_TYPE_LAYER: MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_LAYER_GZIP: MEDIA_TYPE_DOCKER_LAYER_GZIP,
}
PASSWD: Final = b"""\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:application:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP: Final = b"""\
root:x:0:
daemon:x:1:
audio:x:29:app
app:x:1000:
staff:x:50:app,daemon
nogroup:x:65534:
"""


@attrs.frozen(kw_only=True)
class ImageOptions:
    """What the image's configuration says about running it (OCI image specification, "image configuration")."""

    args: Sequence[str] = ("/bin/sh",)
    entrypoint: Sequence[str] = ()
    env: Sequence[str] = DEFAULT_ENV
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    volumes: Sequence[str] = ()
    exposed_ports: Sequence[str] = ()


@attrs.frozen(kw_only=True)
class ImageLayout:
    """An OCI image layout on disk. `target` is its one image: a manifest, or an index of several platforms."""

    folder: Path
    target: Descriptor
    manifests: tuple[Descriptor, ...]

    def blob(self, digest: str) -> Path:
        """Return where the content with this digest is."""
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def read_json(self, descriptor: Descriptor) -> Any:
        """Read a manifest, index or configuration."""
        return json.loads(self.blob(descriptor.digest).read_bytes())

    def blobs_of(self, manifest: Descriptor) -> list[Descriptor]:
        """Return the configuration and the layers of a manifest, in this order."""
        content = self.read_json(manifest)
        return [_descriptor(item) for item in (content["config"], *content["layers"])]


def busybox_layout(
    folder: Path,
    *,
    layers: Iterable[Iterable[LayerFile]] = (),
    options: ImageOptions | None = None,
    platforms: Sequence[Platform] = (),
    compression: Compression = "gzip",
    docker: bool = False,
    name: str = "localhost/busybox:latest",
    busybox: str | os.PathLike[str] = BUSYBOX,
) -> ImageLayout:
    """Make an image in `folder`: busybox with all its commands in /bin, and `layers` on top of it.

    It has users root, daemon, app (1000, in the groups staff and audio) and nobody, and folders /tmp, /home/app and
    those a runtime mounts on.

    Args:
        folder: Where the layout goes; made if missing.
        layers: The files of further layers, lowest first.
        options: What the configuration says.
        platforms: Make an index with the same image for each of these; none: a single manifest for this machine.
        compression: Of the layers.
        docker: Use Docker's media types instead of OCI's.
        name: What `index.json` calls the image, for tools that import it.
        busybox: A statically linked busybox.

    Raises:
        FailedPreconditionError: There is no such busybox, or it is not statically linked.
    """
    blobs = folder / "blobs" / "sha256"
    base = write_layer(blobs, _busybox_files(Path(busybox)), compression=compression)
    written = [base, *(write_layer(blobs, files, compression=compression) for files in layers)]
    maker = _Maker(blobs=blobs, types=DOCKER_TYPES if docker else {})
    manifests = [
        maker.manifest(written, options or ImageOptions(), platform) for platform in platforms or (this_platform(),)
    ]
    target = maker.index(manifests) if platforms else manifests[0]
    tag = name.rpartition(":")[2]
    annotations = {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name}
    listed = {**_plain(target), "annotations": annotations}
    (folder / "index.json").write_bytes(
        _json({"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": [listed]})
    )
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return ImageLayout(folder=folder, target=target, manifests=tuple(manifests))


def this_platform() -> Platform:
    """Return the platform of the machine this runs on."""
    machine = os.uname().machine
    match machine:
        case "x86_64":
            return Platform(os="linux", architecture="amd64")
        case "aarch64":
            return Platform(os="linux", architecture="arm64")
        case _:
            return Platform(os="linux", architecture=machine)


@attrs.frozen(kw_only=True)
class _Maker:
    """Writes documents into a blobs folder, under OCI's media types or Docker's."""

    blobs: Path
    types: Mapping[str, str]

    def manifest(self, layers: Sequence[Layer], options: ImageOptions, platform: Platform) -> Descriptor:
        config = self._write(MEDIA_TYPE_CONFIG, _config(layers, options, platform))
        content = {
            "schemaVersion": 2,
            "mediaType": self._type(MEDIA_TYPE_MANIFEST),
            "config": _plain(config),
            "layers": [
                {**_plain(layer.descriptor), "mediaType": self._type(layer.descriptor.media_type)} for layer in layers
            ],
        }
        return attrs.evolve(self._write(MEDIA_TYPE_MANIFEST, content), platform=platform)

    def index(self, manifests: Sequence[Descriptor]) -> Descriptor:
        content = {
            "schemaVersion": 2,
            "mediaType": self._type(MEDIA_TYPE_INDEX),
            "manifests": [_plain(manifest) for manifest in manifests],
        }
        return self._write(MEDIA_TYPE_INDEX, content)

    def _write(self, media_type: str, content: object) -> Descriptor:
        data = _json(content)
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return Descriptor(media_type=self._type(media_type), digest=f"sha256:{digest}", size=len(data))

    def _type(self, media_type: str) -> str:
        return self.types.get(media_type, media_type)


def _config(layers: Sequence[Layer], options: ImageOptions, platform: Platform) -> object:
    running = {
        "Cmd": list(options.args),
        "Entrypoint": list(options.entrypoint),
        "Env": list(options.env),
        "User": options.user,
        "WorkingDir": options.working_dir,
        "StopSignal": options.stop_signal,
        "Labels": dict(options.labels),
        "Volumes": {path: {} for path in options.volumes},
        "ExposedPorts": {port: {} for port in options.exposed_ports},
    }
    return {
        "created": CREATED,
        "os": platform.os,
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": {key: value for key, value in running.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": CREATED, "created_by": f"layer {number}"} for number, _ in enumerate(layers)],
    }


def _plain(descriptor: Descriptor) -> dict[str, object]:
    plain: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if (platform := descriptor.platform) is not None:
        plain["platform"] = {
            "os": platform.os,
            "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
        }
    return plain


def _descriptor(plain: Mapping[str, Any]) -> Descriptor:
    return Descriptor(media_type=plain["mediaType"], digest=plain["digest"], size=plain["size"])


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2).encode()


def _busybox_files(busybox: Path) -> Iterator[LayerFile]:
    program = _read_static(busybox)
    for folder, mode in (("bin/", 0o755), ("dev/", 0o755), ("etc/", 0o755), ("home/", 0o755), ("proc/", 0o555)):
        yield LayerFile(path=folder, mode=mode)
    for folder, mode in (("root/", 0o700), ("run/", 0o755), ("sys/", 0o555), ("tmp/", 0o1777), ("var/", 0o755)):
        yield LayerFile(path=folder, mode=mode)
    yield LayerFile(path="home/app/", mode=0o755, uid=1000, gid=1000)
    yield LayerFile(path="bin/busybox", data=program, mode=0o755)
    shown = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    for command in sorted(set(shown.split()) - {"busybox"}):
        yield LayerFile(path=f"bin/{command}", link_target="busybox")
    yield LayerFile(path="etc/passwd", data=PASSWD)
    yield LayerFile(path="etc/group", data=GROUP)
    yield LayerFile(path="etc/hostname", data=b"localhost\n")
    yield LayerFile(path="etc/hosts", data=b"127.0.0.1 localhost\n::1 localhost\n")
    yield LayerFile(path="etc/resolv.conf")


def _read_static(busybox: Path) -> bytes:
    try:
        program = busybox.read_bytes()
    except OSError as error:
        raise FailedPreconditionError(f"there is no busybox at {busybox}: apt-get install busybox-static") from error
    if ELF_INTERPRETER in _segment_types(program):
        raise FailedPreconditionError(
            f"{busybox} needs shared libraries, which the image would lack: apt-get install busybox-static"
        )
    return program


def _segment_types(program: bytes) -> list[int]:
    # ELF: class at byte 4, byte order at byte 5, then the place, size and number of program headers.
    if program[:4] != b"\x7fELF":
        return []
    order = "<" if program[5] == 1 else ">"
    place, size_at, offset_format = (32, 54, "Q") if program[4] == 2 else (28, 42, "I")
    (start,) = struct.unpack_from(order + offset_format, program, place)
    size, count = struct.unpack_from(f"{order}HH", program, size_at)
    return [struct.unpack_from(f"{order}I", program, start + size * number)[0] for number in range(count)]
