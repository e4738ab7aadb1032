"""The façade root: `connect` and `Client`. One-statement methods; what they do is in the flows and services."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Unpack

from containerd_py._flows.blob_cache import read_cached_blob
from containerd_py._flows.build_image import build_image
from containerd_py._flows.commit import commit
from containerd_py._flows.connecting import open_services
from containerd_py._flows.convert_image import convert_image
from containerd_py._flows.create_container import ContainerOptions, Env, Network, create_container
from containerd_py._flows.ensure_image import Policy, ensure_image
from containerd_py._flows.export_images import (
    Destination,
    Export,
    ExportNames,
    ExportOptions,
    export_images,
    open_export,
)
from containerd_py._flows.image_layers import LayerSource
from containerd_py._flows.import_images import Import, import_images, open_import
from containerd_py._flows.import_options import ArchiveVia, DigestNames, ImportOptions
from containerd_py._flows.leasing import LEASE_LIFETIME, hold_lease
from containerd_py._flows.load_image import list_images, load_image
from containerd_py._flows.prune_images import PruneReport, prune_images, untag
from containerd_py._flows.pull import Pull, Via, open_pull, pull
from containerd_py._flows.push import Platforms, Push, open_push, push
from containerd_py._flows.results import CompletedProcess, Input
from containerd_py._flows.run_task import open_run, run
from containerd_py._flows.snapshotter_care import CleanupReport, SnapshotterInfo, cleanup_snapshots, snapshotter_info
from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.archives.sources import ArchiveSource
from containerd_py.container import Container
from containerd_py.image import Image
from containerd_py.oci import runtime_spec
from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges
from containerd_py.oci.media_type_families import Compression, MediaTypes
from containerd_py.oci.spec_options import SpecOption
from containerd_py.remotes.registry import Registry
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainersService, Runtime
from containerd_py.services.content import ContentService
from containerd_py.services.diff import DiffService
from containerd_py.services.events import EventsService
from containerd_py.services.images import ImagesService
from containerd_py.services.introspection import IntrospectionService
from containerd_py.services.leases import LeasesService
from containerd_py.services.namespaces import NamespacesService
from containerd_py.services.sandboxes import SandboxesService
from containerd_py.services.snapshots import SnapshotsService
from containerd_py.services.streaming import StreamingService
from containerd_py.services.tasks import TasksService
from containerd_py.services.transfer import TransferService
from containerd_py.services.version import Version
from containerd_py.task import Task
from containerd_py.types import NO_LABELS, Descriptor, Mount, Platform
from containerd_py.typeurl import TypedValue


@asynccontextmanager
async def connect(
    address: str | os.PathLike[str] | None = None, *, namespace: str | None = None
) -> AsyncIterator[Client]:
    """Connect to a containerd, make sure that it answers, and lend a client of it.

    `address` is a unix socket as "/path" or "unix:///path"; None means `$CONTAINERD_ADDRESS`, else this user's rootless
    containerd, else /run/containerd/containerd.sock. `namespace` None means `$CONTAINERD_NAMESPACE`, else "default".
    After the daemon restarts the client connects again by itself.

    Raises:
        SocketNotFoundError: There is no socket at the address.
        SocketPermissionError: This user may not use the socket.
        DaemonNotListeningError: The socket is there and nobody listens.
        DaemonNotRespondingError: What listens does not answer, or is no containerd.
        InvalidArgumentError: The address or the namespace cannot be one.
    """
    async with open_services(address, namespace=namespace) as services:
        yield Client(services)


class Client:
    """A daemon, seen from one namespace. Made by `connect`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def namespace(self) -> str:
        """The namespace everything is done in."""
        return self._services.namespace

    @property
    def services(self) -> Services:
        """All typed services as one value; `services.stub(StubClass)` makes a generated stub."""
        return self._services

    def in_namespace(self, namespace: str) -> Client:
        """Return a client of another namespace on the same connection."""
        return Client(self._services.in_scope(namespace=namespace))

    @asynccontextmanager
    async def hold_lease(
        self,
        *,
        id: str | None = None,  # noqa: A002
        expires_in: timedelta | None = LEASE_LIFETIME,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Client]:
        """Lend a client whose every creation belongs to a new lease, deleted on the way out.

        Nothing that lease holds is garbage collected. `expires_in` ends it if this program dies; None lets it live on.
        A client that is leased already lends itself, unless an `id` asks for a lease beside.

        Raises:
            AlreadyExistsError: A lease of that ID exists.
        """
        async with hold_lease(
            self._services, id=id, expires_in=expires_in, labels=NO_LABELS if labels is None else labels
        ) as services:
            yield Client(services)

    async def version(self) -> Version:
        """Return the daemon's version."""
        return await self._services.version.version()

    def supports(self, feature: str) -> bool:
        """Tell whether the daemon serves something: a service such as "transfer", or a plugin as "TYPE.ID"."""
        return feature in self._services.connection.features

    # ── services ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def containers(self) -> ContainersService:
        """Container records."""
        return self._services.containers

    @property
    def content(self) -> ContentService:
        """Blobs and ingests."""
        return self._services.content

    @property
    def diff(self) -> DiffService:
        """Layers applied and computed."""
        return self._services.diff

    @property
    def events(self) -> EventsService:
        """What happens on the daemon."""
        return self._services.events

    @property
    def images(self) -> ImagesService:
        """Image records."""
        return self._services.images

    @property
    def introspection(self) -> IntrospectionService:
        """What the daemon is made of."""
        return self._services.introspection

    @property
    def leases(self) -> LeasesService:
        """What keeps content alive."""
        return self._services.leases

    @property
    def namespaces(self) -> NamespacesService:
        """The daemon's namespaces."""
        return self._services.namespaces

    @property
    def sandboxes(self) -> SandboxesService:
        """Groups of containers."""
        return self._services.sandboxes

    @property
    def streaming(self) -> StreamingService:
        """Named streams to the daemon."""
        return self._services.streaming

    @property
    def tasks(self) -> TasksService:
        """Running processes."""
        return self._services.tasks

    @property
    def transfer(self) -> TransferService:
        """Transfers the daemon does itself."""
        return self._services.transfer

    def snapshotter(self, name: str) -> SnapshotsService:
        """Snapshots of one snapshotter."""
        return self._services.snapshotter(name)

    # ── images ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def pull(
        self,
        ref: str,
        *,
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        via: Via = "auto",
    ) -> Image:
        """Pull an image, unpack it, and return it. See `open_pull`, which shows progress on the way."""
        return await pull(
            self._services,
            ref,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            registry=registry,
            via=via,
        )

    def open_pull(
        self,
        ref: str,
        *,
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        via: Via = "auto",
    ) -> AbstractAsyncContextManager[Pull]:
        """Begin to pull an image and lend its progress: `async for progress in pull`, then `pull.image`.

        `ref` is completed as Docker does: "alpine" is docker.io/library/alpine:latest. `platform` is the daemon's by
        default; `all_platforms` fetches every platform and unpacks none. `labels` go on the image record. `registry`
        says how registries are reached. `via` says who talks to them: "client" (this program), "transfer" (the
        daemon, from containerd 1.7 on), "auto" (the daemon where it can do what is asked). Leaving the block early
        cancels the pull; what was fetched is resumed by the next one.

        Raises:
            RegistryError: The registry refuses, fails or cannot be reached; its subclasses say how.
            NotFoundError: The image has nothing for the platform; the message says what it has.
            DigestMismatchError: Content is not what its descriptor promises.
            NotSupportedError: `via="transfer"` and the daemon has no transfer service.
        """
        return open_pull(
            self._services,
            ref,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            registry=registry,
            via=via,
        )

    async def ensure_image(
        self,
        ref: str,
        *,
        policy: Policy = "missing",
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        via: Via = "auto",
    ) -> Image:
        """Return an image that is whole and unpacked here, pulled where the policy says so.

        "missing" pulls what is not here, and repairs what is not whole; "always" asks the registry in any case; "never"
        only looks. The other arguments are those of `open_pull`.

        Raises:
            NotFoundError: The policy is "never" and the image is not here, or not whole.
            RegistryError: Pulling failed.
        """
        return await ensure_image(
            self._services,
            ref,
            policy=policy,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            registry=registry,
            via=via,
        )

    async def import_images(
        self,
        source: ArchiveSource,
        *,
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        base_name: str | None = None,
        translate_name: Callable[[str], str] | None = None,
        index_name: str | None = None,
        digest_names: DigestNames = "never",
        skip_missing: bool = False,
        discard_unpacked_layers: bool = False,
        compress_layers: bool = False,
        limits: ArchiveLimits = DEFAULT_LIMITS,
        via: ArchiveVia = "auto",
    ) -> list[Image]:
        """Import the images of an archive, unpack them, and return them in the archive's order.

        `source` is a file, an asynchronous iterable of bytes, or a folder: an OCI image layout or what `docker save`
        makes, plain or compressed with gzip or zstd. Everything is checked: nothing is kept of an archive that is
        damaged or hostile, and the image records come last.

        Args:
            source: Where from.
            platform: Keep what is for this platform; None: the daemon's. Images without anything for it are left out.
            all_platforms: Keep everything; unpacked is what is for the daemon's platform.
            unpack: Make snapshots of the layers.
            snapshotter: Unpack with this one; None: the namespace's default.
            labels: Of the image records. Labels that records of these names have besides stay.
            base_name: What images are called of which the archive says no more than a tag; images with whole names
                that begin otherwise are left out. None: "import-" and the date, and all images are taken.
            translate_name: Instead of a base name: makes an image's name of what the archive's index calls it
                (org.opencontainers.image.ref.name), "" leaving the name out.
            index_name: Keep the archive's index under this name as well.
            digest_names: Also name images by base name and digest: "always", those "unnamed" in the archive, "never".
            skip_missing: Take an archive that lacks content. What is not whole is not unpacked.
            discard_unpacked_layers: Let layers go once they are unpacked. Such an image cannot be exported or pushed.
            compress_layers: Compress plain layers of a `docker save` archive.
            limits: How much an archive may ask of its reader.
            via: "client": we read and check the archive; "transfer": the daemon does, from containerd 1.7 on, and
                checks less; "auto": we.

        Raises:
            ArchiveError: The archive is damaged, hostile or of no known form, or names none of its images.
            NotFoundError: Content is missing, or there is nothing for the platform; the message says what there is.
            DataLossError: Content is not what its digest or size says.
            UnpackError: A layer is damaged.
            OSError: The file cannot be read.
        """
        return await import_images(
            self._services,
            source,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            base_name=base_name,
            translate_name=translate_name,
            index_name=index_name,
            digest_names=digest_names,
            skip_missing=skip_missing,
            discard_unpacked_layers=discard_unpacked_layers,
            compress_layers=compress_layers,
            limits=limits,
            via=via,
        )

    def open_import(
        self, source: ArchiveSource, **options: Unpack[ImportOptions]
    ) -> AbstractAsyncContextManager[Import]:
        """Begin an import and lend its progress: `async for progress in importing`, then `importing.images`.

        The options are those of `import_images`. Leaving the block early cancels the import.
        """
        return open_import(self._services, source, **options)

    async def export_images(
        self,
        names: ExportNames,
        destination: Destination,
        *,
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        skip_missing: bool = False,
        skip_non_distributable: bool = False,
        docker_manifest: bool = True,
        compression: Compression = "none",
        via: ArchiveVia = "auto",
    ) -> None:
        """Write images into an archive, an OCI image layout that Docker can load as well.

        The same images give the same bytes, those of `ctr image export`. A file is there once it is whole.

        Args:
            names: A name or an image, or several.
            destination: A file, replaced if it is there; a folder that is empty, or missing and named with a "/" at
                the end, for a layout instead of an archive; or anything with an asynchronous `send`, as anyio's
                streams, for the archive's bytes.
            platform: What of images for several platforms is wanted; None: what is for the daemon's.
            all_platforms: Write everything, which must all be here.
            skip_missing: Leave out what is not here: manifests, or what is below a manifest that is not whole.
            skip_non_distributable: Leave layers out that not everybody may hand on.
            docker_manifest: Add Docker's manifest.json, to archives only.
            compression: Of the archive: "none", "gzip" or "zstd".
            via: "client": we write the archive; "transfer": the daemon does, from containerd 1.7 on; "auto": we.

        Raises:
            NotFoundError: There is no such image, content of it is missing, or it has nothing for the platform.
            DataLossError: Content is not what its descriptor says.
            AlreadyExistsError: The folder is there, and not empty.
            OSError: The file or folder cannot be written.
        """
        await export_images(
            self._services,
            names,
            destination,
            platform=platform,
            all_platforms=all_platforms,
            skip_missing=skip_missing,
            skip_non_distributable=skip_non_distributable,
            docker_manifest=docker_manifest,
            compression=compression,
            via=via,
        )

    def open_export(self, names: ExportNames, **options: Unpack[ExportOptions]) -> AbstractAsyncContextManager[Export]:
        """Lend an iterator over an archive's bytes while it is made. The options are those of `export_images`.

        Only an iteration that ends without an error has seen a whole archive.
        """
        return open_export(self._services, names, **options)

    async def push(
        self,
        ref: str,
        *,
        source: Image | str | None = None,
        platform: Platforms = None,
        registry: Registry | None = None,
        skip_non_distributable: bool = False,
        via: Via = "auto",
    ) -> Descriptor:
        """Push an image, and return what the reference names now. See `open_push`, which shows progress on the way."""
        return await push(
            self._services,
            ref,
            source=source,
            platform=platform,
            registry=registry,
            skip_non_distributable=skip_non_distributable,
            via=via,
        )

    def open_push(
        self,
        ref: str,
        *,
        source: Image | str | None = None,
        platform: Platforms = None,
        registry: Registry | None = None,
        skip_non_distributable: bool = False,
        via: Via = "auto",
    ) -> AbstractAsyncContextManager[Push]:
        """Begin to push an image and lend its progress: `async for progress in push`, then `push.target`.

        `ref` is completed as Docker does. `source` is the image, a handle or a name; None means the one that is called
        as the reference. `platform` is one or several of its platforms: one is pushed as its manifest, several as an
        index of them; None pushes everything the image has, all of which must be here or at the registry. `registry`
        says how registries are reached, `via` who talks to them, as in a pull. What the registry has already is not
        sent, and what another repository of it may have is mounted from there. Leaving the block early cancels.

        Raises:
            NotFoundError: There is no such image, nothing for the platform, or content is missing: the message says
                what to do.
            RegistryError: The registry refuses, fails or cannot be reached; its subclasses say how.
            DigestMismatchError: Content is damaged, here or once it had arrived there.
            InvalidArgumentError: The reference has a digest, and what is pushed has another.
            NotSupportedError: `via="transfer"` and the daemon has no transfer service.
        """
        return open_push(
            self._services,
            ref,
            source=source,
            platform=platform,
            registry=registry,
            skip_non_distributable=skip_non_distributable,
            via=via,
        )

    async def load_image(self, name: str) -> Image:
        """Return an image that is here, by its exact or completed name.

        Raises:
            NotFoundError: There is none.
        """
        return await load_image(self._services, name)

    async def list_images(self, filters: Iterable[str] = ()) -> list[Image]:
        """Return the images that match any of the filters, all without one."""
        return await list_images(self._services, filters)

    async def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a blob of the content store, verified against its descriptor.

        Indexes, manifests and configurations of up to 4 MiB are kept in memory, 32 MiB of them for a connection: one
        that was read before is not asked for again, even when the daemon has dropped it since.

        Raises:
            NotFoundError: This namespace has no such blob.
            DigestMismatchError: It is damaged.
        """
        return await read_cached_blob(self._services, descriptor)

    async def untag(self, name: str, *, synchronous: bool = False) -> None:
        """Remove an image's name, exact or completed; content nothing else names goes with the next garbage collection.

        `synchronous` waits for that collection.

        Raises:
            NotFoundError: There is no image of that name.
        """
        await untag(self._services, name, synchronous=synchronous)

    async def prune_images(
        self, *, unused: bool = False, filters: Iterable[str] = (), dry_run: bool = False
    ) -> PruneReport:
        """Remove images that no container uses, wait until their content is gone, and tell which they were.

        Dangling ones only: those no tag stands for any more, just digests. With `unused` all of them. `filters` narrow
        it down to images that match any of them. An image is in use if a container names it, by any of its names, or
        stands on its snapshots. `dry_run` tells and removes nothing.
        """
        return await prune_images(self._services, unused=unused, filters=filters, dry_run=dry_run)

    async def convert_image(
        self,
        src: str,
        dst: str,
        *,
        platforms: Sequence[Platform | str] | Platform | str | None = None,
        media_types: MediaTypes | None = None,
        compression: Compression | None = None,
    ) -> Image:
        """Make a copy of an image under the name `dst` (which may be `src`), converted, and return it.

        `platforms` are the ones to keep, exactly as they are named; None keeps those that are here. `media_types` are
        "oci" or "docker", `compression` of the layers "gzip", "zstd" or "none"; None leaves either as it is. What needs
        no change keeps its digest, and unpacked layers stay valid. Attestations are left out, annotations of layers too
        where these are compressed anew. The record's labels are copied.

        Raises:
            NotFoundError: There is no such image, or content of a platform to be kept is not here.
            InvalidArgumentError: Docker has no media type for something, as for zstd, or this is no image.
            DigestMismatchError: A layer is not what the image's configuration says.
        """
        return await convert_image(
            self._services, src, dst, platforms=platforms, media_types=media_types, compression=compression
        )

    async def commit(
        self,
        container: Container | str,
        ref: str,
        *,
        author: str | None = None,
        message: str | None = None,
        changes: ConfigChanges = NO_CHANGES,
        pause: bool = True,
        compression: Compression = "gzip",
    ) -> Image:
        """Make an image of what a container has changed, on top of the very image it was created from; unpacked.

        A running task is frozen while its files are read, and goes on afterwards in any case; with `pause=False` it
        writes on, and the layer may catch files half-written. `changes` are laid over the parent image's configuration.
        A failure or cancellation leaves no image; what `ref` stood for before stays.

        Raises:
            NotFoundError: There is no such container.
            FailedPreconditionError: It has no snapshot, or the documents of its image are no longer here.
            InvalidArgumentError: `ref` names a digest, or the parent has Docker's media types, which have no zstd.
        """
        return await commit(
            self._services,
            container,
            ref,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
            compression=compression,
        )

    async def build_image(
        self,
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
        """Build an image without a build daemon, unpack it, and return it.

        Each of `layers` comes on top of those before: a `DirectoryLayer`, a `TarLayer`, or what a command changes, a
        `RunLayer`. A reference as `base` stands for `ensure_image` of it, with `policy` and `registry`; None is nothing
        at all, for `platform` (the daemon's). `config` is laid over the base's configuration. `labels` go on the
        record.

        With `source_date_epoch`, a time or seconds since 1970, or the environment's SOURCE_DATE_EPOCH, the image is
        from then and nothing in its new layers is younger, archives aside, which are taken as they are: the same input
        gives the same digest, as long as commands do the same and zlib or zstd are the same.

        A failure or cancellation leaves no image; what `ref` stood for before stays.

        Raises:
            ProcessExitError: A command failed; the error has its output.
            NotFoundError: A file or directory is not here.
            ArchiveError: A tar archive's compression is damaged.
            UnpackError: A tar archive is damaged.
            InvalidArgumentError: `ref` names a digest, or the base has Docker's media types, which have no zstd.
        """
        return await build_image(
            self._services,
            ref,
            base=base,
            layers=layers,
            config=config,
            platform=platform,
            compression=compression,
            source_date_epoch=source_date_epoch,
            author=author,
            labels=labels,
            snapshotter=snapshotter,
            policy=policy,
            registry=registry,
        )

    # ── snapshotters ────────────────────────────────────────────────────────────────────────────────────────────────

    async def snapshotter_info(self, name: str) -> SnapshotterInfo:
        """Return what a snapshotter holds in this namespace: size and inodes in all, how many snapshots of each kind.

        Active snapshots are walked for it, which takes its time.

        Raises:
            InvalidArgumentError: The daemon has no such snapshotter.
        """
        return await snapshotter_info(self._services, name)

    async def cleanup_snapshots(self, snapshotter: str | None = None, *, dry_run: bool = False) -> CleanupReport:
        """Remove the snapshots of a snapshotter (None: the namespace's default) that nothing needs, and tell which.

        What a container, an image, a lease, another snapshot or a label of containerd's garbage collection holds stays.
        It is that collection which removes, so that nothing is lost to who pulls or creates meanwhile; content that
        nothing needs goes with it. `dry_run` tells and removes nothing.

        Raises:
            InvalidArgumentError: The daemon has no such snapshotter.
        """
        return await cleanup_snapshots(self._services, snapshotter, dry_run=dry_run)

    # ── containers ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_container(
        self,
        id: str | None = None,  # noqa: A002
        *,
        image: Image | str,
        args: Sequence[str] | None = None,
        env: Env | None = None,
        cwd: str | None = None,
        user: str | None = None,
        mounts: Sequence[runtime_spec.Mount | Mount] = (),
        terminal: bool = False,
        spec_options: Sequence[SpecOption] = (),
        snapshotter: str | None = None,
        read_only: bool = False,
        runtime: str | Runtime | None = None,
        labels: Mapping[str, str] | None = None,
        extensions: Mapping[str, TypedValue] | None = None,
        network: Network | None = None,
    ) -> Container:
        """Create a container of an image on a fresh snapshot; snapshot, spec and record are undone together on failure.

        `id` is generated where not given. A reference as `image` stands for `ensure_image` of it. `args` follow the
        image's entrypoint; without them its own command runs. `env` is laid over the image's; `user` is looked up in
        the image ("name", "uid", "name:group", "uid:gid"). `spec_options` come last and see everything before them.
        `network` "host" shares the host's; else there is nothing but loopback. Image labels become the container's,
        except those reserved for containerd.

        Raises:
            AlreadyExistsError: The ID is taken.
            InvalidArgumentError: An argument cannot work: no command, no such user, no identifier.
        """
        ensured = (
            await ensure_image(self._services, image, snapshotter=snapshotter) if isinstance(image, str) else image
        )
        created = await create_container(
            self._services,
            id=id,
            image=ensured,
            args=args,
            env=env,
            cwd=cwd,
            user=user,
            mounts=mounts,
            terminal=terminal,
            spec_options=spec_options,
            snapshotter=snapshotter,
            read_only=read_only,
            runtime=runtime,
            labels=labels,
            extensions=extensions,
            network=network,
        )
        return created.container

    async def load_container(self, id: str) -> Container:  # noqa: A002
        """Return a container that is here.

        Raises:
            NotFoundError: There is none of that ID.
        """
        return Container(self._services, (await self._services.containers.get(id)).id)

    async def list_containers(self, filters: Iterable[str] = ()) -> list[Container]:
        """Return the containers that match any of the filters, all without one."""
        return [Container(self._services, record.id) for record in await self._services.containers.list(filters)]

    async def run(
        self,
        image_or_ref: Image | str,
        args: Sequence[str] | None = None,
        *,
        input: Input | None = None,  # noqa: A002
        check: bool = True,
        terminal: bool = False,
        capture_limit: int | None = None,
        policy: Policy = "missing",
        registry: Registry | None = None,
        **options: Unpack[ContainerOptions],
    ) -> CompletedProcess:
        """Run a command in a new container to its end, remove the container, and return exit code and output.

        `input` is what the command reads, bytes or an async iterable of them. `capture_limit` bounds what is kept of
        each output, in bytes; the rest is read and dropped. With `terminal` all output is in `stdout`. The
        other options are those of `create_container`.

        Raises:
            ProcessExitError: The exit code is not zero and `check` is True; the error has the output.
        """
        return await run(
            self._services,
            image_or_ref,
            args,
            input=input,
            check=check,
            terminal=terminal,
            capture_limit=capture_limit,
            policy=policy,
            registry=registry,
            **options,
        )

    def open_run(
        self,
        image_or_ref: Image | str,
        args: Sequence[str] | None = None,
        *,
        stdin: bool = False,
        terminal: bool = False,
        policy: Policy = "missing",
        registry: Registry | None = None,
        **options: Unpack[ContainerOptions],
    ) -> AbstractAsyncContextManager[Task]:
        """Lend a started task in a new container; task, container and snapshot are gone afterwards, whatever happens.

        Its output is at `task.stdout` and `task.stderr`, its input, if asked for, at `task.stdin`; with `terminal` all
        output is at `task.stdout`. The other options are those of `create_container`.
        """
        return open_run(
            self._services,
            image_or_ref,
            args,
            stdin=stdin,
            terminal=terminal,
            policy=policy,
            registry=registry,
            **options,
        )

    def __repr__(self) -> str:
        return f"<Client {self._services.connection.address} namespace={self.namespace}>"
