"""Images built without a build daemon: layers of files, archives and commands, laid over a base or over nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from containerd_py._flows.assembling import Base, base_of, chosen_epoch, write_image
from containerd_py._flows.authoring import ByteStream, Layer, decompressed, generated, in_thread, write_layer
from containerd_py._flows.defaults import chosen_platform, chosen_snapshotter
from containerd_py._flows.ensure_image import Policy, ensure_image
from containerd_py._flows.image_content import read_image
from containerd_py._flows.image_layers import DirectoryLayer, LayerSource, RunLayer, TarLayer, history_of
from containerd_py._flows.layer_diffs import diff_snapshot
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.publishing import new_name, publish
from containerd_py._flows.results import complete
from containerd_py._flows.run_task import open_run
from containerd_py._flows.undoing import undoing
from containerd_py._flows.unpack import unpack_image
from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from containerd_py.image import Image
from containerd_py.labels import check_labels
from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges
from containerd_py.oci.directory_tar import TarOptions, tar_of_directory
from containerd_py.oci.image_spec import History
from containerd_py.oci.media_type_families import Compression, check_compression, layer_type
from containerd_py.remotes.registry import Registry
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.types import NO_LABELS, Descriptor, Platform, Timestamp

_READ_SIZE: Final = 1024 * 1024  # bytes
_OUTPUT_LIMIT: Final = 1024 * 1024  # bytes of a command's output, kept for its error


async def build_image(
    services: Services,
    ref: str,
    *,
    base: Image | str | None = None,
    layers: Sequence[LayerSource] = (),
    config: ConfigChanges = NO_CHANGES,
    platform: Platform | str | None = None,
    compression: Compression = "gzip",
    source_date_epoch: datetime | int | None = None,
    author: str | None = None,
    labels: Mapping[str, str] | None = None,
    snapshotter: str | None = None,
    policy: Policy = "missing",
    registry: Registry | None = None,
) -> Image:
    """Build an image; see `Client.build_image`."""
    name = new_name(ref)
    check_labels(labels or NO_LABELS)
    epoch = chosen_epoch(source_date_epoch)
    compression = check_compression(compression)
    layers = _checked_layers(layers)
    snapshotter = await chosen_snapshotter(services, snapshotter)
    if isinstance(base, str):
        base = await ensure_image(
            services, base, policy=policy, platform=platform, snapshotter=snapshotter, registry=registry
        )
    async with undoing(services.connection) as undo:
        async with hold_lease(services) as leased:
            ground = await _ground(leased, base, platform)
            layer_type(compression, ground.family)  # refused before anything is made
            build = _Build(leased, name, ground, snapshotter, compression, epoch)
            for layer in layers:
                await build.add(layer)
            target = await build.finish(config, author)
            await unpack_image(leased, target, ground.platform, snapshotter)
            await publish(leased, undo, ImageRecord(name=name, target=target, labels=labels or NO_LABELS))
        undo.keep()
    return Image(services, name=name, target=target, platform=ground.platform)


def _checked_layers(layers: Iterable[LayerSource]) -> list[LayerSource]:
    if not isinstance(layers, Iterable):
        raise InvalidArgumentError(f"layers must be a list, not {layers!r}")
    given = [*layers]
    for layer in given:
        if not isinstance(layer, DirectoryLayer | TarLayer | RunLayer):
            raise InvalidArgumentError(f"layers must be a list of DirectoryLayer, TarLayer and RunLayer, not {layer!r}")
    return given


async def _ground(services: Services, base: Image | None, platform: Platform | str | None) -> Base:
    if base is None:
        return Base(platform=await chosen_platform(services, platform))
    return await base_of(services, await read_image(services, base.target, base.platform), base.platform)


class _Build:
    """An image on its way: what lies on the base so far."""

    def __init__(
        self,
        leased: Services,
        name: str,
        ground: Base,
        snapshotter: str,
        compression: Compression,
        epoch: Timestamp | None,
    ) -> None:
        self._leased = leased
        self._name = name
        self._ground = ground
        self._snapshotter = snapshotter
        self._compression = compression
        self._epoch = epoch
        self._created = epoch or Timestamp.from_datetime(datetime.now(UTC))
        self._layers: list[Layer] = []
        self._history: list[History] = []

    async def add(self, layer: LayerSource) -> None:
        match layer:
            case DirectoryLayer():
                made = await self._write(in_thread(tar_of_directory(os.fspath(layer.path), self._tar_options(layer))))
            case TarLayer():
                made = await self._write(_plain_tar(layer))
            case RunLayer():
                made = await self._run(layer)
        self._layers.append(made)
        self._history.append(History(created=self._created, created_by=history_of(layer)))

    async def finish(self, changes: ConfigChanges, author: str | None) -> Descriptor:
        """Store the documents of the image."""
        history = [*self._history]
        if not changes.is_empty:
            history.append(History(created=self._created, created_by="configuration", empty_layer=True))
        return await write_image(
            self._leased,
            self._ground,
            self._layers,
            history=[attrs.evolve(step, author=author or "") for step in history],
            changes=changes,
            created=self._created,
            author=author,
        )

    async def _write(self, tar: ByteStream) -> Layer:
        return await write_layer(self._leased, tar, compression=self._compression, family=self._ground.family)

    def _tar_options(self, layer: DirectoryLayer) -> TarOptions:
        return TarOptions(
            prefix="/".join(part for part in layer.destination.split("/") if part not in {"", "."}),
            owner=layer.owner,
            mtime=None if layer.mtime is None else Timestamp.from_datetime(layer.mtime).parts[0],
            latest=None if self._epoch is None else self._epoch.parts[0],
            exclude=layer.exclude,
        )

    async def _run(self, layer: RunLayer) -> Layer:
        """Run a command on what lies there so far, as an image of its own without a name."""
        target = await write_image(
            self._leased,
            self._ground,
            self._layers,
            history=self._history,
            changes=ConfigChanges(entrypoint=()),  # the command is all there is to run
        )
        below = Image(self._leased, name=self._name, target=target, platform=self._ground.platform)
        async with open_run(
            self._leased,
            below,
            layer.args,
            env=layer.env,
            cwd=layer.cwd,
            user=layer.user,
            mounts=layer.mounts,
            network=layer.network,
            snapshotter=self._snapshotter,
        ) as task:
            completed = await complete(task, input=None, capture_limit=_OUTPUT_LIMIT)
            completed.check(" ".join(layer.args))
            return await diff_snapshot(
                self._leased,
                self._snapshotter,
                task.id,
                compression=self._compression,
                family=self._ground.family,
                latest=self._epoch,
            )


def _plain_tar(layer: TarLayer) -> ByteStream:
    source = layer.source
    if isinstance(source, bytes):
        return decompressed(in_thread(iter([source])), what="the layer's bytes")
    if isinstance(source, str | os.PathLike):
        return decompressed(in_thread(_file(Path(source))), what=os.fspath(source))
    return decompressed(generated(source), what="the layer's stream")


def _file(path: Path) -> Iterator[bytes]:
    """Yield what is in a file. A generator, to be run in a thread: it closes the file wherever it is left."""
    try:
        with path.open("rb", buffering=0) as file:
            while data := file.read(_READ_SIZE):
                yield data
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except PermissionError as error:
        raise PermissionDeniedError(f"{path}: this user may not read it") from error
    except OSError as error:
        raise FailedPreconditionError(f"{path}: cannot be read: {error.strerror}") from error
