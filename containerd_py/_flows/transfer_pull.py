"""Pulling by transfer: the daemon talks to the registry, and tells us how it goes and asks us who we are.

Needs containerd 1.7 or later. Source: containerd, core/transfer.
"""

from __future__ import annotations

import logging
import secrets
import time
from functools import partial
from typing import Final

import anyio
import attrs

from containerd_py import platforms
from containerd_py._flows.image_content import (
    ImageContent,
    find_manifest,
    list_platforms,
    no_such_platform,
    read_config,
)
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.pull_request import PullRequest
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_errors import cannot_unpack, lacks_platform, poisoned_ingest, typed_error
from containerd_py._flows.transfer_registry import registry_endpoint, scheme_of
from containerd_py._flows.undoing import tidy
from containerd_py._flows.unpack import artifact_error, is_unpacked, plan_layers, unpack_layers
from containerd_py.errors import ContainerdError, NotFoundError
from containerd_py.oci.image_spec import MEDIA_TYPE_INDEX, is_config
from containerd_py.progress import Progress
from containerd_py.remotes.credentials import look_up
from containerd_py.remotes.origins import origin_of
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.services.streaming import DaemonStream
from containerd_py.services.transfer import (
    ImageStoreEndpoint,
    Unpack,
    answer_to_wire,
    progress_from_wire,
    question_from_wire,
)
from containerd_py.services.wire import label_mask
from containerd_py.types import Descriptor
from containerd_py.typeurl import TypedValue

PROGRESS_BOUND: Final = 5.0  # seconds that the last progress may come after the transfer's own end
ATTEMPTS: Final = 2  # the second one after throwing bad content away
_UNDER_WAY: Final = frozenset({"waiting", "downloading", "extracting"})

_log = logging.getLogger(__name__)


async def pull_by_transfer(services: Services, request: PullRequest, board: ProgressBoard) -> ImageRecord:
    """Have the daemon pull an image and return its record.

    Raises:
        NotSupportedError: The daemon is older than containerd 1.7.
        RegistryError: The registry refused, failed or misbehaved.
        NotFoundError: The image has nothing for the platform; the message says what it has.
        DataLossError: The registry sent something else than its descriptor says, twice.
        UnpackError: A layer is damaged.
    """
    async with hold_lease(services) as leased:
        labels = await _labels_of(leased, request.name)
        await _Pulling(leased, request, board).run()
        record = await leased.images.get(request.name)
        # The daemon replaces all labels, also those that others have put on the record.
        lost = {key: value for key, value in labels.items() if key not in record.labels}
        if lost:
            record = await leased.images.update(attrs.evolve(record, labels=lost), fields=label_mask(lost))
        if request.snapshotter is not None:
            await _unpack_rest(leased, record, request, request.snapshotter)
        return record


async def _labels_of(services: Services, name: str) -> dict[str, str]:
    try:
        return dict((await services.images.get(name)).labels)
    except NotFoundError:
        return {}


async def _unpack_rest(leased: Services, record: ImageRecord, request: PullRequest, snapshotter: str) -> None:
    """Unpack what the daemon has not: it does so only for the platforms and snapshotters of its configuration."""
    found = await find_manifest(leased, record.target, request.platform)
    if not is_config(found.manifest.config.media_type):
        raise artifact_error(request.name, found.manifest)
    image = ImageContent(found=found, config=await read_config(leased, found.manifest.config))
    layers = plan_layers(image)
    if layers and not await is_unpacked(leased, layers[-1].chain_id, snapshotter):
        await unpack_layers(leased, snapshotter, layers, image.manifest.config)


class _Pulling:
    """The transfer, done again where that helps."""

    def __init__(self, leased: Services, request: PullRequest, board: ProgressBoard) -> None:
        self._leased = leased
        self._request = request
        self._board = board
        self._scheme = scheme_of(request)
        self._root = ""  # digest of the index the image is, if it is one
        self._under_way: dict[str, Progress] = {}
        self._lookup_failures: list[Exception] = []

    async def run(self) -> None:
        unpack = self._request.snapshotter is not None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._transfer_or_leave_packed(unpack=unpack)
            except ContainerdError as error:
                ref = poisoned_ingest(error)
                if ref is not None:  # the daemon would commit it again and again without asking the registry
                    await tidy(f"aborting ingest {ref!r}", partial(self._leased.in_scope().content.abort, ref))
                if ref is None or attempt == ATTEMPTS:
                    raise await self._explained(error) from error.__cause__
            else:
                break
        for failure in self._lookup_failures:
            _log.warning("credentials were looked up in vain, the pull went well without: %r", failure)

    async def _transfer_or_leave_packed(self, *, unpack: bool) -> None:
        try:
            await self._transfer(unpack=unpack)
        except ContainerdError as error:
            if not (unpack and cannot_unpack(error)):
                raise
        else:
            return
        await self._transfer(unpack=False)

    async def _explained(self, error: ContainerdError) -> Exception:
        if self._lookup_failures:
            failure = self._lookup_failures[0]
            failure.add_note(f"because of it the daemon pulled without credentials: {error}")
            return failure
        if lacks_platform(error) and self._root:
            index = Descriptor(media_type=MEDIA_TYPE_INDEX, digest=self._root, size=0)
            present = await list_platforms(self._leased, index)
            return no_such_platform(f"{self._request.name} ({self._root})", self._request.platform, present)
        return typed_error(error, self._request.reference.host)

    async def _transfer(self, *, unpack: bool) -> None:
        progress_id, credentials_id = _stream_id("progress"), _stream_id("creds")
        streaming = self._leased.streaming
        # The daemon looks for both streams when the transfer begins.
        async with (
            streaming.open(progress_id) as progress,
            streaming.open(credentials_id) as questions,
            working_together() as group,
        ):
            ended = anyio.Event()
            group.start_soon(self._read_progress, progress, ended)
            group.start_soon(self._answer, questions)
            source = registry_endpoint(self._request, credentials_id)
            await self._leased.transfer.transfer(source, self._destination(unpack=unpack), progress_stream=progress_id)
            with anyio.move_on_after(PROGRESS_BOUND):
                await ended.wait()
            await group.end()
        # containerd 1.7 forgets some of them.
        for unended in self._under_way.values():
            self._board.report(attrs.evolve(unended, event="complete", progress=unended.total))

    def _destination(self, *, unpack: bool) -> ImageStoreEndpoint:
        request = self._request
        one = () if request.all_platforms else platforms.only(request.platform).platforms or ()
        return ImageStoreEndpoint(
            name=request.name,
            labels=request.labels,
            platforms=one,
            manifest_limit=len(one[:1]),
            unpacks=(Unpack(platform=request.platform, snapshotter=request.snapshotter or ""),) if unpack else (),
        )

    async def _read_progress(self, stream: DaemonStream, ended: anyio.Event) -> None:
        try:
            while (value := await stream.receive()) is not None:
                progress = progress_from_wire(value)
                if not self._root and progress.name.startswith("index-"):
                    self._root = progress.name.removeprefix("index-").rpartition("@")[2]
                if progress.event in _UNDER_WAY:
                    self._under_way[progress.name] = progress
                else:
                    self._under_way.pop(progress.name, None)
                self._board.report(progress)
        except ContainerdError as error:
            _log.debug("progress of a transfer ended early: %r", error)  # whether the transfer did, its own call says
        finally:
            ended.set()

    async def _answer(self, stream: DaemonStream) -> None:
        """Answer every question: the daemon waits for ever otherwise."""
        try:
            while (value := await stream.receive()) is not None:
                await stream.send(await self._credentials(question_from_wire(value).host))
        except ContainerdError as error:
            _log.debug("questions about credentials ended early: %r", error)

    async def _credentials(self, host: str) -> TypedValue:
        try:
            found = await look_up(self._request.registry.credentials, origin_of(f"{self._scheme}://{host}"))
        except Exception as error:  # noqa: BLE001  # the caller's own code; raised once the daemon has its answer
            self._lookup_failures.append(error)
            return answer_to_wire()
        if found is None:
            return answer_to_wire()
        return answer_to_wire(username=found.username, secret=found.secret.reveal())


def _stream_id(purpose: str) -> str:
    return f"{purpose}-{time.time_ns() % 10**9}-{secrets.token_urlsafe(9)}"
