"""Images from and to archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Unpack

from containerd_py._calls.calls import Calls
from containerd_py._flows.export_images import (
    Destination,
    Export,
    ExportNames,
    ExportOptions,
    export_images,
    open_export,
)
from containerd_py._flows.import_images import Import, import_images, open_import
from containerd_py._flows.import_options import ArchiveVia, DigestNames, ImportOptions
from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.archives.sources import ArchiveSource
from containerd_py.image import Image
from containerd_py.oci.media_type_families import Compression
from containerd_py.types import Platform


class ArchiveCalls(Calls):
    """Images from and to archives."""

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

        `source` is a file, bytes, an asynchronous iterable of them, or a folder: an OCI layout or what `docker save`
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
