"""Exporting client-side: the daemon's store is read and checked, and written as containerd's own client writes it."""

from __future__ import annotations

import hashlib

from containerd_py._flows.export_plan import ExportPlan, ExportScope, NamedImage, plan_export
from containerd_py._flows.leasing import hold_lease
from containerd_py.archives.documents import BLOBS, DOCKER_FILE, INDEX_FILE, LAYOUT, LAYOUT_FILE, blob_path
from containerd_py.archives.image_writers import ImageWriter
from containerd_py.archives.tar_writer import BLOB_MODE, FILE_MODE
from containerd_py.errors import DigestMismatchError, SizeMismatchError
from containerd_py.oci.digests import algorithm_of
from containerd_py.services.bundle import Services
from containerd_py.services.leases import LeaseResource
from containerd_py.types import Descriptor


async def export_archive(
    services: Services,
    images: list[NamedImage],
    scope: ExportScope,
    writer: ImageWriter,
    *,
    docker_manifest: bool,
) -> None:
    """Write images as an OCI image layout, its files in the order of their paths.

    Raises:
        NotFoundError: Content is missing, or an image has nothing for the platform; the message says what it has.
        DataLossError: Content is not what its descriptor says.
        InvalidArgumentError: An image is malformed, or is none.
    """
    async with hold_lease(services) as leased:
        await _keep(leased, images)
        plan = await plan_export(leased, images, scope)
        await _write(leased, plan, writer, docker_manifest=docker_manifest)


async def _keep(leased: Services, images: list[NamedImage]) -> None:
    """Have the lease keep the images, and with them all that they name, whoever deletes them meanwhile."""
    assert leased.lease is not None
    for digest in dict.fromkeys(image.target.digest for image in images):
        await leased.leases.add_resource(leased.lease, LeaseResource(type="content", id=digest))


async def _write(services: Services, plan: ExportPlan, writer: ImageWriter, *, docker_manifest: bool) -> None:
    await writer.folder(BLOBS)
    for algorithm in sorted({algorithm_of(blob.digest) for blob in plan.blobs}):
        await writer.folder(f"{BLOBS}/{algorithm}")
        for blob in plan.blobs:
            if algorithm_of(blob.digest) == algorithm:
                await _write_blob(services, blob, writer)
    await _write_document(writer, INDEX_FILE, plan.index, FILE_MODE)
    if docker_manifest and plan.docker_manifest != b"[]":
        await _write_document(writer, DOCKER_FILE, plan.docker_manifest, FILE_MODE)
    await _write_document(writer, LAYOUT_FILE, LAYOUT, BLOB_MODE)


async def _write_document(writer: ImageWriter, path: str, data: bytes, mode: int) -> None:
    await writer.file(path, len(data), mode)
    await writer.write(data)
    await writer.end_file()


async def _write_blob(services: Services, blob: Descriptor, writer: ImageWriter) -> None:
    await writer.file(blob_path(blob.digest), blob.size, BLOB_MODE)
    algorithm = algorithm_of(blob.digest)
    digest = hashlib.new(algorithm)
    size = 0
    async with services.content.open_reader(blob.digest) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > blob.size:
                break
            digest.update(chunk)
            await writer.write(chunk)
    if size != blob.size:
        raise SizeMismatchError(f"{blob.digest} has {blob.size} bytes, and the daemon read {size}")
    actual = f"{algorithm}:{digest.hexdigest()}"
    if actual != blob.digest:
        raise DigestMismatchError(blob.digest, actual, "the daemon's content store")
    await writer.end_file()
