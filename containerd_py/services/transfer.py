"""Transfers the daemon does itself. Knows the Transfer service and its sources and destinations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import attrs

from containerd_py._generated.containerd.services.transfer.v1 import TransferOptions, TransferRequest, TransferStub
from containerd_py._generated.containerd.types import Platform as WirePlatform
from containerd_py._generated.containerd.types.transfer import (
    AuthRequest,
    AuthResponse,
    AuthType,
    ImageExportStream,
    ImageImportStream,
    ImageReference,
    ImageStore,
    OciRegistry,
    RegistryResolver,
    UnpackConfiguration,
)
from containerd_py._generated.containerd.types.transfer import Progress as WireProgress
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._transport.connection import Rpc
from containerd_py.labels import check_labels
from containerd_py.progress import Progress
from containerd_py.services.wire import descriptor_from_wire
from containerd_py.types import NO_LABELS, Platform, frozen_map
from containerd_py.typeurl import TypedValue


@attrs.frozen(kw_only=True)
class Unpack:
    """What to unpack during a transfer: a platform, into a snapshotter (empty: the daemon's default)."""

    platform: Platform
    snapshotter: str = ""


@attrs.frozen(kw_only=True)
class ExtraReference:
    """Another name an import gives its images (containerd.types.transfer.ImageReference)."""

    name: str
    is_prefix: bool = False
    allow_overwrite: bool = False
    add_digest: bool = False
    skip_named_digest: bool = False


@attrs.frozen(kw_only=True)
class ImageStoreEndpoint:
    """The daemon's image store as source or destination (containerd.types.transfer.ImageStore)."""

    name: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    platforms: tuple[Platform, ...] = ()
    all_metadata: bool = False
    manifest_limit: int = 0
    extra_references: tuple[ExtraReference, ...] = ()
    unpacks: tuple[Unpack, ...] = ()


@attrs.frozen(kw_only=True)
class RegistryEndpoint:
    """A registry as source or destination (containerd.types.transfer.OCIRegistry).

    `host_dir` is a folder on the daemon's host; `default_scheme` and `host_dir` count from containerd 2.0 on.
    `auth_stream` names the stream on which the daemon asks for credentials: every question must be answered.
    """

    reference: str
    auth_stream: str = ""
    headers: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False, repr=False)
    host_dir: str = ""
    default_scheme: str = ""


@attrs.frozen(kw_only=True)
class ImportStreamEndpoint:
    """An archive we send on a stream (containerd.types.transfer.ImageImportStream); empty media type: recognised."""

    stream: str
    media_type: str = ""
    force_compress: bool = False


@attrs.frozen(kw_only=True)
class ExportStreamEndpoint:
    """An archive the daemon sends on a stream (containerd.types.transfer.ImageExportStream)."""

    stream: str
    media_type: str = ""
    platforms: tuple[Platform, ...] = ()
    all_platforms: bool = False
    skip_compatibility_manifest: bool = False
    skip_non_distributable: bool = False


Endpoint = ImageStoreEndpoint | RegistryEndpoint | ImportStreamEndpoint | ExportStreamEndpoint


def _platforms_to_wire(platforms: Iterable[Platform]) -> list[WirePlatform]:
    return [
        WirePlatform(os=platform.os, architecture=platform.architecture, variant=platform.variant)
        for platform in platforms
    ]


def _store_to_wire(endpoint: ImageStoreEndpoint) -> ImageStore:
    check_labels(endpoint.labels)
    return ImageStore(
        name=endpoint.name,
        labels=dict(endpoint.labels),
        platforms=_platforms_to_wire(endpoint.platforms),
        all_metadata=endpoint.all_metadata,
        manifest_limit=endpoint.manifest_limit,
        extra_references=[ImageReference(**attrs.asdict(reference)) for reference in endpoint.extra_references],
        unpacks=[
            UnpackConfiguration(platform=_platforms_to_wire([unpack.platform])[0], snapshotter=unpack.snapshotter)
            for unpack in endpoint.unpacks
        ],
    )


def _registry_to_wire(endpoint: RegistryEndpoint) -> OciRegistry:
    resolver = RegistryResolver(
        auth_stream=endpoint.auth_stream,
        headers=dict(endpoint.headers),
        host_dir=endpoint.host_dir,
        default_scheme=endpoint.default_scheme,
    )
    return OciRegistry(reference=endpoint.reference, resolver=resolver)


def _endpoint_to_wire(endpoint: Endpoint) -> WireAny:
    match endpoint:
        case ImageStoreEndpoint():
            return WireAny(type_url="containerd.types.transfer.ImageStore", value=bytes(_store_to_wire(endpoint)))
        case RegistryEndpoint():
            return WireAny(type_url="containerd.types.transfer.OCIRegistry", value=bytes(_registry_to_wire(endpoint)))
        case ImportStreamEndpoint():
            message = ImageImportStream(**attrs.asdict(endpoint))
            return WireAny(type_url="containerd.types.transfer.ImageImportStream", value=bytes(message))
        case ExportStreamEndpoint():
            export = ImageExportStream(
                stream=endpoint.stream,
                media_type=endpoint.media_type,
                platforms=_platforms_to_wire(endpoint.platforms),
                all_platforms=endpoint.all_platforms,
                skip_compatibility_manifest=endpoint.skip_compatibility_manifest,
                skip_non_distributable=endpoint.skip_non_distributable,
            )
            return WireAny(type_url="containerd.types.transfer.ImageExportStream", value=bytes(export))


def progress_from_wire(value: TypedValue) -> Progress:
    """Return the progress that a message on a progress stream carries."""
    message = WireProgress.parse(value.value)
    return Progress(
        event=message.event,
        name=message.name,
        parents=tuple(message.parents),
        progress=message.progress,
        total=message.total,
        descriptor=None if message.desc is None else descriptor_from_wire(message.desc),
    )


@attrs.frozen(kw_only=True)
class CredentialsQuestion:
    """What the daemon asks on a credentials stream."""

    host: str
    reference: str


def question_from_wire(value: TypedValue) -> CredentialsQuestion:
    """Return the question that a message on a credentials stream carries."""
    message = AuthRequest.parse(value.value)
    return CredentialsQuestion(host=message.host, reference=message.reference)


def answer_to_wire(*, username: str = "", secret: str = "") -> TypedValue:
    """Return the answer to a credentials question; both empty means anonymous, no username a refresh token."""
    kind = AuthType.REFRESH if secret and not username else AuthType.CREDENTIALS
    message = AuthResponse(auth_type=kind, username=username, secret=secret)
    return TypedValue(type_url="containerd.types.transfer.AuthResponse", value=bytes(message))


class TransferService:
    """The Transfer service, typed (containerd.services.transfer.v1.Transfer, from containerd 1.7 on)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> TransferStub:
        return self._rpc.stub(TransferStub)

    async def transfer(self, source: Endpoint, destination: Endpoint, *, progress_stream: str = "") -> None:
        """Have the daemon transfer from source to destination; returns when it is done (Transfer.Transfer).

        `progress_stream` names an open stream for progress, which may go on a little after this returns. Pairs the
        daemon knows: registry to store (pull), store to registry (push), store to store (tag), import stream to store,
        store to export stream.

        Raises:
            NotSupportedError: The daemon has no Transfer service.
            UnimplementedError: It has, but not for this pair.
        """
        request = TransferRequest(
            source=_endpoint_to_wire(source),
            destination=_endpoint_to_wire(destination),
            options=TransferOptions(progress_stream=progress_stream),
        )
        await self._stub.transfer(request)
