"""What a push consists of, in which order, and what of it is not here. Reads documents, sends nothing.

Source: containerd, core/remotes (PushContent).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import attrs

from containerd_py import platforms
from containerd_py._flows.content_labels import ingest_ref, mount_candidate
from containerd_py._flows.image_content import (
    MAX_DEPTH,
    FoundManifest,
    find_manifest,
    is_attestation_platform,
    list_platforms,
    read_blob,
)
from containerd_py.errors import InvalidArgumentError, NotFoundError, SizeMismatchError
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_documents import descriptor_document, dump_document, load_document
from containerd_py.oci.image_spec import MAX_MANIFEST_SIZE, MAX_REFERENCES, parse_index, parse_manifest
from containerd_py.oci.media_types import is_index, is_manifest, is_nondistributable
from containerd_py.references import Reference
from containerd_py.remotes.registry import Registry
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Descriptor, Platform

_ATTESTED: Final = "vnd.docker.reference.digest"  # annotation of an attestation: the manifest it speaks of


@attrs.frozen(kw_only=True)
class PushRequest:
    """An image to push: `target` is what is here under the name `source`; no platforms means all it has."""

    reference: Reference
    source: str
    target: Descriptor
    registry: Registry
    platforms: tuple[Platform, ...] = ()
    skip_non_distributable: bool = False

    @property
    def destination(self) -> str:
        """The destination in the daemon's words."""
        return f"OCI Registry ({self.reference})"


@attrs.frozen(kw_only=True)
class Piece:
    """A piece of content to push: what it is part of, and the repository it may be mounted from."""

    descriptor: Descriptor
    parent: str
    mount_from: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)  # of a document that is not in the content store


@attrs.frozen(kw_only=True)
class Lacking:
    """A piece of content that is not here; `platform` says of which of the image's platforms, where that is known."""

    descriptor: Descriptor
    platform: Platform | None


@attrs.frozen(kw_only=True)
class PushPlan:
    """A push: blobs, then the manifests that name them, then the indexes, inner ones first. `root` gets the tag."""

    root: Descriptor
    blobs: tuple[Piece, ...]
    manifests: tuple[Piece, ...]
    indexes: tuple[Piece, ...]
    lacking: tuple[Lacking, ...]
    whole: tuple[Platform, ...]  # platforms of which everything is here
    has_skipped: bool = False  # layers were left out that may not be distributed

    @property
    def documents(self) -> tuple[Piece, ...]:
        """All documents, in order."""
        return (*self.manifests, *self.indexes)


async def plan_push(services: Services, request: PushRequest) -> PushPlan:
    """Find out what is to be pushed.

    Raises:
        NotFoundError: The image has nothing for a platform; the message says what it has. Or its root is not here.
        InvalidArgumentError: It is no image, a document is malformed, or the reference's digest is another one's.
        DataLossError: Content is not what its descriptor says.
    """
    root, data = await _root_of(services, request)
    pinned = request.reference.digest
    if pinned not in {None, root.digest}:
        raise InvalidArgumentError(f"{request.reference} names {pinned}, and what is pushed there is {root.digest}")
    planning = _Planning(services, request)
    await planning.visit(root, request.source, None, (), data=data)
    return planning.plan(root)


def incomplete(request: PushRequest, plan: PushPlan) -> NotFoundError:
    """Make the error for a push whose content is neither here nor there."""
    named = {piece.platform: None for piece in plan.lacking if piece.platform is not None}
    if not named or not plan.whole:
        return NotFoundError(
            f"{request.source} cannot be pushed: {plan.lacking[0].descriptor.digest} of it is missing. Pull it again, "
            "with unpack=False, which fetches also the layers that are unpacked here already"
        )
    return NotFoundError(
        f"{request.source} cannot be pushed whole: what it has for {_listed(named)} is missing. Push what is here, "
        f"with platform={platforms.format(plan.whole[0])!r}, or pull the rest, with all_platforms=True"
    )


def _listed(found: Iterable[Platform]) -> str:
    return ", ".join(dict.fromkeys(map(platforms.format, found)))


# ── what the tag is to name ─────────────────────────────────────────────────────────────────────────────────────────


async def _root_of(services: Services, request: PushRequest) -> tuple[Descriptor, bytes | None]:
    """Return what the tag is to name: the target, its manifest for one platform, or an index of some of them."""
    target = request.target
    if not request.platforms or not is_index(target.media_type):
        return target, None
    found = [await _find(services, request, platform) for platform in request.platforms]
    chosen = {one.descriptor.digest: one for one in found}
    if len(request.platforms) == 1:
        return found[0].descriptor, None
    data = await read_blob(services, target, limit=MAX_MANIFEST_SIZE)
    children = parse_index(data).manifests
    kept = [child for child in children if child.digest in chosen or await _is_kept(services, child, chosen)]
    kept += [one.descriptor for one in chosen.values() if one.descriptor.digest not in {c.digest for c in kept}]
    if {child.digest for child in children} == {child.digest for child in kept}:
        return target, None
    document = load_document(data, what="index")
    document["manifests"] = [descriptor_document(child) for child in kept]
    reduced = dump_document(document)
    root = Descriptor(media_type=target.media_type, digest=digest_of(reduced), size=len(reduced))
    return root, reduced


async def _find(services: Services, request: PushRequest, platform: Platform) -> FoundManifest:
    try:
        return await find_manifest(services, request.target, platform)
    except NotFoundError as error:
        named = await list_platforms(services, request.target)
        if not any(platforms.only(platform).matches(one) for one in named):
            raise
        wanted = platforms.format(platform)
        raise NotFoundError(
            f"{request.source} cannot be pushed for {wanted}: what it has for that is missing here. Pull it, with "
            f"platform={wanted!r} or all_platforms=True"
        ) from error


async def _is_kept(services: Services, child: Descriptor, chosen: Collection[str]) -> bool:
    """Tell whether a child is an attestation of what is kept, and here."""
    is_attestation = child.platform is not None and is_attestation_platform(child.platform)
    if not is_attestation or child.annotations.get(_ATTESTED) not in chosen:
        return False
    try:
        await services.content.info(child.digest)
    except NotFoundError:
        return False
    return True


# ── what that consists of ───────────────────────────────────────────────────────────────────────────────────────────


class _Planning:
    """Collects what an image consists of; each piece is looked at once, whoever names it."""

    def __init__(self, services: Services, request: PushRequest) -> None:
        self._services = services
        self._request = request
        self._seen: set[str] = set()
        self._blobs: list[Piece] = []
        self._manifests: list[Piece] = []
        self._indexes: list[Piece] = []
        self._lacking: list[Lacking] = []
        self._platforms: dict[Platform, None] = {}
        self._has_skipped = False

    def plan(self, root: Descriptor) -> PushPlan:
        """Return what was found."""
        lacking = {piece.platform for piece in self._lacking}
        return PushPlan(
            root=root,
            blobs=tuple(self._blobs),
            manifests=tuple(self._manifests),
            indexes=tuple(self._indexes),
            lacking=tuple(self._lacking),
            whole=tuple(platform for platform in self._platforms if platform not in lacking),
            has_skipped=self._has_skipped,
        )

    async def visit(
        self,
        descriptor: Descriptor,
        parent: str,
        platform: Platform | None,
        above: tuple[Mapping[str, str], ...],
        *,
        data: bytes | None = None,
    ) -> None:
        """Add a document and what it names. `above` are the labels of the documents above it, nearest first."""
        if len(above) > 2 * MAX_DEPTH:
            raise InvalidArgumentError(f"the indexes of {self._request.source} are nested more than {MAX_DEPTH} deep")
        if not is_index(descriptor.media_type) and not is_manifest(descriptor.media_type):
            if not above:
                raise InvalidArgumentError(f"{self._request.source} is a {descriptor.media_type}, no image")
            await self._add_blob(descriptor, parent, platform, above)
            return
        if not self._is_new(descriptor):
            return
        labels = NO_LABELS
        if data is None:
            try:
                labels = (await self._services.content.info(descriptor.digest)).labels
                data = await read_blob(self._services, descriptor, limit=MAX_MANIFEST_SIZE)
            except NotFoundError:
                if not above:
                    raise
                self._lacking.append(Lacking(descriptor=descriptor, platform=platform))
                return
            piece = Piece(descriptor=attrs.evolve(descriptor, size=len(data)), parent=parent)
        else:
            piece = Piece(descriptor=descriptor, parent=parent, data=data)
        below = (descriptor.annotations, labels, *above)
        if is_index(descriptor.media_type):
            await self._visit_children(parse_index(data).manifests, descriptor, below)
            self._indexes.append(piece)  # after its children
        else:
            await self._add_blobs(data, descriptor, platform, below)
            self._manifests.append(piece)

    async def _visit_children(
        self, children: Sequence[Descriptor], index: Descriptor, above: tuple[Mapping[str, str], ...]
    ) -> None:
        for child in children:
            named = None if child.platform is None or is_attestation_platform(child.platform) else child.platform
            if named is not None:
                self._platforms[named] = None
            await self.visit(child, ingest_ref(index), named, above)

    async def _add_blobs(
        self, data: bytes, manifest: Descriptor, platform: Platform | None, above: tuple[Mapping[str, str], ...]
    ) -> None:
        parsed = parse_manifest(data)
        for child in (parsed.config, *parsed.layers):
            await self._add_blob(child, ingest_ref(manifest), platform, above)

    async def _add_blob(
        self, descriptor: Descriptor, parent: str, platform: Platform | None, above: tuple[Mapping[str, str], ...]
    ) -> None:
        if self._request.skip_non_distributable and is_nondistributable(descriptor.media_type):
            self._has_skipped = True
            return
        if not self._is_new(descriptor):
            return
        try:
            info = await self._services.content.info(descriptor.digest)
        except NotFoundError:
            self._lacking.append(Lacking(descriptor=descriptor, platform=platform))
            return
        if info.size != descriptor.size:
            raise SizeMismatchError(f"{descriptor.digest} is said to have {descriptor.size} bytes and has {info.size}")
        candidate = mount_candidate(self._request.reference, (info.labels, *above))
        self._blobs.append(Piece(descriptor=descriptor, parent=parent, mount_from=candidate))

    def _is_new(self, descriptor: Descriptor) -> bool:
        if descriptor.digest in self._seen:
            return False
        self._seen.add(descriptor.digest)
        if len(self._seen) > MAX_REFERENCES:
            raise InvalidArgumentError(
                f"{self._request.source} consists of more than {MAX_REFERENCES} pieces of content"
            )
        return True
