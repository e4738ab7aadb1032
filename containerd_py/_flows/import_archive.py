"""Importing client-side: we read the archive and check it, the daemon stores and unpacks. Works with every daemon line.

Source: containerd, client/import.go and core/images/archive.
"""

from __future__ import annotations

from containerd_py._flows.content_labels import child_labels
from containerd_py._flows.image_content import is_attestation_platform, no_such_platform
from containerd_py._flows.import_content import ArchiveContent, FolderContent, ImportContent, store_bytes
from containerd_py._flows.import_docker import DockerImages
from containerd_py._flows.import_graph import ImportGraph, State
from containerd_py._flows.import_options import ImportPlan
from containerd_py._flows.import_unpack import unpack_imported
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.publishing import publish
from containerd_py._flows.together import working_together
from containerd_py._flows.undoing import undoing
from containerd_py.archives.archive_json import check_layout, read_docker_images
from containerd_py.archives.compression import Decompressed
from containerd_py.archives.documents import DOCKER_FILE, INDEX_FILE, LAYOUT_FILE
from containerd_py.archives.layout_folder import open_layout
from containerd_py.archives.sources import ArchiveSource, is_folder, open_source
from containerd_py.archives.tar_reader import TarReader
from containerd_py.errors import ArchiveError, InvalidArgumentError, NotFoundError
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_spec import Index, parse_index
from containerd_py.oci.media_types import MEDIA_TYPE_INDEX
from containerd_py.progress import Progress
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.services.vigil import until_daemon_goes
from containerd_py.types import Descriptor


async def import_archive(
    services: Services, source: ArchiveSource, plan: ImportPlan, board: ProgressBoard
) -> list[ImageRecord]:
    """Import an archive or a layout and return the image records it made.

    Raises:
        ArchiveError: It is damaged, hostile or of no known form, or names none of its images.
        NotFoundError: There is no such file, content is missing, or there is nothing for the platform.
        DataLossError: Content is not what its descriptor says.
        UnpackError: A layer is damaged.
    """
    async with working_together() as group:
        # A source that stalls must not hide that the daemon has gone.
        group.start_soon(until_daemon_goes, services.rpc)
        board.report(Progress(event="Importing"))
        async with hold_lease(services) as leased:
            records = await _import(leased, source, plan, board)
        board.report(Progress(event="Completed import"))
        await group.end()
    return records


async def _import(leased: Services, source: ArchiveSource, plan: ImportPlan, board: ProgressBoard) -> list[ImageRecord]:
    def report(path: str, taken: int, total: int) -> None:
        event = "complete" if taken == total else "importing"
        board.report(Progress(event=event, name=path, progress=taken, total=total))

    limits = plan.wish.limits
    if is_folder(source):
        with open_layout(source) as folder:
            check_layout(folder.read(LAYOUT_FILE, limits.json))
            index = folder.read(INDEX_FILE, limits.json)
            return await _Importing(leased, FolderContent(leased, folder, report), plan, board).run(index)
    content = ArchiveContent(leased, limits, report)
    async with open_source(source) as chunks:
        await content.take(TarReader(Decompressed(chunks, limits), limits))
    index = await _index_of(leased, content, compress=plan.wish.compress_layers)
    return await _Importing(leased, content, plan, board).run(index)


async def _index_of(leased: Services, content: ArchiveContent, *, compress: bool) -> bytes:
    """Return the index of the archive's images: its own, else one that is made of Docker's manifest.json."""
    documents = content.documents
    if LAYOUT_FILE in documents:
        check_layout(documents[LAYOUT_FILE])
        if INDEX_FILE not in documents:
            raise ArchiveError(f"the archive is an OCI image layout without {INDEX_FILE}")
        return documents[INDEX_FILE]
    if DOCKER_FILE not in documents:
        raise ArchiveError(f"the archive holds no images: it has neither {LAYOUT_FILE} nor {DOCKER_FILE}")
    images = read_docker_images(documents[DOCKER_FILE])
    return await DockerImages(leased, content, compress=compress).index(images)


class _Importing:
    """One import, once its content can be asked for."""

    def __init__(self, leased: Services, content: ImportContent, plan: ImportPlan, board: ProgressBoard) -> None:
        self._leased = leased
        self._content = content
        self._plan = plan
        self._board = board
        self._graph = ImportGraph(content, plan.graph_options)

    async def run(self, index: bytes) -> list[ImageRecord]:
        parsed = _parsed(index)
        wanted = self._graph.wanted(parsed.manifests)
        states = [(image, await self._graph.visit(image)) for image in wanted]
        kept = [(image, state) for image, state in states if state in {State.WHOLE, State.LACKING}]
        if not kept:
            raise self._nothing(parsed, [state for _, state in states])
        named = {name: image for image, _ in kept for name in self._plan.names_for(image)}
        if self._plan.wish.index_name:
            named[self._plan.wish.index_name] = await self._keep_index(index, wanted)
        if not named:
            raise ArchiveError(
                "the archive names none of its images, or none with the base name: "
                'give index_name, or base_name and digest_names="unnamed"'
            )
        for image in {image.digest: image for image, state in kept if state is State.WHOLE}.values():
            await unpack_imported(self._leased, image, self._plan, self._board)
        return await self._publish(named)

    def _nothing(self, index: Index, states: list[State]) -> Exception:
        if State.MISSING in states:
            return NotFoundError("the archive has none of the images it names, nor has the content store")
        if not index.manifests:
            return ArchiveError("the archive holds no images")
        present = [image.platform for image in index.manifests if image.platform is not None]
        named = [platform for platform in present if not is_attestation_platform(platform)]
        return no_such_platform("the archive", self._plan.platform, named)

    async def _keep_index(self, data: bytes, wanted: list[Descriptor]) -> Descriptor:
        digest = digest_of(data)
        await store_bytes(self._leased, data, digest, child_labels(wanted))
        return Descriptor(media_type=MEDIA_TYPE_INDEX, digest=digest, size=len(data))

    async def _publish(self, named: dict[str, Descriptor]) -> list[ImageRecord]:
        """Save the records, last of all: all of them, or those of before."""
        records: list[ImageRecord] = []
        async with undoing(self._leased.connection) as undo:
            for name, target in named.items():
                record = ImageRecord(name=name, target=target, labels=self._plan.labels)
                records.append(await publish(self._leased, undo, record))
                self._board.report(Progress(event="saved", name=name, descriptor=target))
            undo.keep()
        return records


def _parsed(index: bytes) -> Index:
    try:
        return parse_index(index)
    except InvalidArgumentError as error:
        raise ArchiveError(f"{INDEX_FILE}: {error}") from error
