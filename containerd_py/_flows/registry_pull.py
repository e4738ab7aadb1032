"""Pulling client-side: we talk to the registry, the daemon stores and unpacks. Works with every daemon line.

Everything is fetched, labelled and unpacked as containerd's own client does it, so that the result is the same and both
may do it at once. Source: containerd, client/pull.go and core/remotes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import anyio

from containerd_py import platforms
from containerd_py._flows.content_labels import child_labels, ingest_ref, source_labels
from containerd_py._flows.fetch import fetch_blob, fetch_document
from containerd_py._flows.image_content import (
    MAX_DEPTH,
    FoundManifest,
    ImageContent,
    choose,
    is_attestation_platform,
    no_such_platform,
    read_blob,
    read_config,
)
from containerd_py._flows.image_records import save_record
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.pull_request import PullRequest
from containerd_py._flows.ranged_fetch import RangedSource
from containerd_py._flows.together import Workers, working_together
from containerd_py._flows.unpack import UnpackHooks, artifact_error, plan_layers, unpack_layers
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.image_spec import MAX_MANIFEST_SIZE, MAX_REFERENCES, Manifest, parse_index, parse_manifest
from containerd_py.oci.media_types import is_config, is_index, is_layer, is_manifest, is_schema1
from containerd_py.progress import Progress
from containerd_py.remotes.repository import Repository
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.services.vigil import until_daemon_goes
from containerd_py.types import NO_LABELS, Descriptor

# Blobs fetched at once. containerd's client sets no limit any more, its transfer service 3, Docker 3. One connection to
# a distant registry rarely fills the line; but the more share it, the later the lowest layer is whole, and with it the
# unpacking begins.
MAX_DOWNLOADS: Final = 4
# With small blobs it is not the line but the disk that is waited for: each is synced when it is committed.
MAX_SMALL_DOWNLOADS: Final = 8
SMALL: Final = 1024 * 1024  # bytes at most

_ChildrenOf = Callable[[bytes], Sequence[Descriptor]]


async def pull_from_registry(services: Services, request: PullRequest, board: ProgressBoard) -> ImageRecord:
    """Pull an image and return its record.

    Raises:
        RegistryError: The registry refused, failed or misbehaved.
        NotFoundError: The image has nothing for the platform; the message says what it has.
        DataLossError: Content is not what its descriptor says.
        UnpackError: A layer is damaged.
    """
    async with working_together() as group:
        # A registry that stalls must not hide that the daemon has gone.
        group.start_soon(until_daemon_goes, services.rpc)
        record = await _pull(services, request, board)
        await group.end()
    return record


async def _pull(services: Services, request: PullRequest, board: ProgressBoard) -> ImageRecord:
    async with hold_lease(services) as leased, request.registry.open_repository(request.reference) as repository:
        board.report(Progress(event=f"Resolving from {request.source}"))
        target = await repository.resolve()
        board.report(Progress(event=f"Pulling from {request.source}"))
        board.report(Progress(event="fetching image content", name=request.name, descriptor=target))
        async with working_together() as group:
            await _Graph(leased, repository, request, board, group).visit(target, request.name, 0)
        record = ImageRecord(name=request.name, target=target, labels=request.labels)
        saved = await save_record(leased, record)
        board.report(Progress(event="saved", name=request.name, descriptor=target))
        board.report(Progress(event=f"Completed pull from {request.source}"))
        return saved


class _Graph:
    """An image on its way: each piece of content is visited once, whoever names it."""

    def __init__(
        self, leased: Services, repository: Repository, request: PullRequest, board: ProgressBoard, group: Workers
    ) -> None:
        self._leased = leased
        self._repository = repository
        self._blobs = RangedSource(repository, request.registry.limits)
        self._request = request
        self._board = board
        self._group = group
        self._matcher = platforms.only(request.platform)
        self._downloads = anyio.CapacityLimiter(MAX_DOWNLOADS)
        self._small_downloads = anyio.CapacityLimiter(MAX_SMALL_DOWNLOADS)
        self._here: dict[str, anyio.Event] = {}

    async def visit(self, descriptor: Descriptor, parent: str, depth: int) -> None:
        """Fetch a document and begin with what it names."""
        if is_schema1(descriptor.media_type):
            raise InvalidArgumentError(
                f"{descriptor.digest} is a Docker schema 1 image, which nothing supports any more: push it again"
            )
        if depth > MAX_DEPTH:
            raise InvalidArgumentError(f"the image's indexes are nested more than {MAX_DEPTH} deep")
        if is_index(descriptor.media_type):
            await self._visit_index(descriptor, parent, depth)
        elif is_manifest(descriptor.media_type):
            await self._visit_manifest(descriptor, parent)
        else:
            raise InvalidArgumentError(f"{self._request.name} is a {descriptor.media_type}, no image")

    # ── documents ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _visit_index(self, descriptor: Descriptor, parent: str, depth: int) -> None:
        here = self._expect(descriptor)
        if here is None:
            return
        data = await self._fetch_document(descriptor, parent, lambda data: parse_index(data).manifests)
        here.set()
        for child in self._wanted(descriptor, parse_index(data).manifests):
            if is_index(child.media_type) or is_manifest(child.media_type):
                self._group.start_soon(self.visit, child, ingest_ref(descriptor), depth + 1)
            else:
                self._begin(child, descriptor)

    async def _visit_manifest(self, descriptor: Descriptor, parent: str) -> None:
        here = self._expect(descriptor)
        if here is None:
            return
        data = await self._fetch_document(descriptor, parent, lambda data: _children(parse_manifest(data)))
        here.set()
        manifest = parse_manifest(data)
        if self._request.snapshotter is None:
            self._begin_all(_children(manifest), descriptor)
        elif not is_config(manifest.config.media_type):
            raise artifact_error(self._request.name, manifest)
        else:
            self._begin_all((child for child in _children(manifest) if not is_layer(child.media_type)), descriptor)
            self._group.start_soon(self._unpack, FoundManifest(descriptor=descriptor, manifest=manifest))

    def _wanted(self, index: Descriptor, children: Sequence[Descriptor]) -> Sequence[Descriptor]:
        if self._request.all_platforms:
            return children
        chosen = choose(children, self._matcher)[:1]
        if not chosen:
            named = [child.platform for child in children if child.platform is not None]
            present = [platform for platform in named if not is_attestation_platform(platform)]
            raise no_such_platform(f"{self._request.name} ({index.digest})", self._request.platform, present)
        return chosen

    async def _fetch_document(self, descriptor: Descriptor, parent: str, children_of: _ChildrenOf) -> bytes:
        """Store a document with the labels that keep its children, those of other platforms as well; return it."""
        self._tell("waiting", descriptor, parent)
        made: list[bytes] = []

        async def make() -> tuple[bytes, Mapping[str, str]]:
            data = await self._repository.fetch_manifest(descriptor)
            made.append(data)
            return data, child_labels(children_of(data)) | source_labels(self._request.reference, NO_LABELS)

        async with self._downloads:
            fetched = await fetch_document(self._leased, descriptor, make)
        if fetched:
            self._tell("complete", descriptor, parent, descriptor.size)
            return made[0]
        data = await read_blob(self._leased, descriptor, limit=MAX_MANIFEST_SIZE)
        await self._label(descriptor, child_labels(children_of(data)))
        self._tell("already exists", descriptor, parent, descriptor.size)
        return data

    # ── blobs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _expect(self, descriptor: Descriptor) -> anyio.Event | None:
        """Note that content is under way; None if it was already."""
        if descriptor.digest in self._here:
            return None
        if len(self._here) >= MAX_REFERENCES:
            raise InvalidArgumentError(f"{self._request.name} consists of more than {MAX_REFERENCES} pieces of content")
        self._here[descriptor.digest] = anyio.Event()
        return self._here[descriptor.digest]

    def _begin_all(self, descriptors: Iterable[Descriptor], parent: Descriptor) -> None:
        for descriptor in descriptors:
            self._begin(descriptor, parent)

    def _begin(self, descriptor: Descriptor, parent: Descriptor) -> None:
        here = self._expect(descriptor)
        if here is not None:
            self._tell("waiting", descriptor, ingest_ref(parent))
            self._group.start_soon(self._fetch, descriptor, ingest_ref(parent), here)

    async def _fetch(self, descriptor: Descriptor, parent: str, here: anyio.Event) -> None:
        async with self._small_downloads if descriptor.size <= SMALL else self._downloads:
            fetched = await fetch_blob(
                self._leased,
                self._blobs,
                descriptor,
                report=partial(self._tell, "downloading", descriptor, parent),
                labels=source_labels(self._request.reference, NO_LABELS),
            )
        if not fetched:
            await self._label(descriptor, NO_LABELS)
        self._tell("complete" if fetched else "already exists", descriptor, parent, descriptor.size)
        here.set()

    async def _label(self, descriptor: Descriptor, labels: Mapping[str, str]) -> None:
        """Add labels to content that was there already, and that it is to be had from this registry too."""
        present = (await self._leased.content.info(descriptor.digest)).labels
        wanted = {**labels, **source_labels(self._request.reference, present)}
        missing = {key: value for key, value in wanted.items() if present.get(key) != value}
        if missing:
            await self._leased.content.update(descriptor.digest, missing)

    # ── snapshots ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _unpack(self, found: FoundManifest) -> None:
        """Unpack as layers arrive. From the first one on that is not a snapshot yet, they are fetched."""
        config = found.manifest.config
        await self._here[config.digest].wait()
        layers = plan_layers(ImageContent(found=found, config=await read_config(self._leased, config)))

        async def ready(index: int) -> None:
            self._begin_all((layer.descriptor for layer in layers[index:]), found.descriptor)
            await self._here[layers[index].descriptor.digest].wait()

        def report(event: str, descriptor: Descriptor) -> None:
            self._tell(event, descriptor, ingest_ref(found.descriptor), descriptor.size if event == "extracted" else 0)

        assert self._request.snapshotter is not None
        hooks = UnpackHooks(ready=ready, report=report)
        await unpack_layers(self._leased, self._request.snapshotter, layers, config, hooks=hooks)

    def _tell(self, event: str, descriptor: Descriptor, parent: str, progress: int = 0) -> None:
        self._board.report(
            Progress(
                event=event,
                name=ingest_ref(descriptor),
                parents=(parent,),
                progress=progress,
                total=descriptor.size,
                descriptor=descriptor,
            )
        )


def _children(manifest: Manifest) -> tuple[Descriptor, ...]:
    return (manifest.config, *manifest.layers)
