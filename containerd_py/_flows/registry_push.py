"""Pushing client-side: the daemon hands out the content, we talk to the registry. Works with every daemon line.

Blobs go first, then the manifests that name them, then the indexes: a registry takes nothing whose parts it lacks.
Source: containerd, core/remotes (PushContent); OCI distribution specification 1.1, "Push".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import anyio

from containerd_py._flows.content_labels import ingest_ref
from containerd_py._flows.image_content import read_blob
from containerd_py._flows.outgoing import check_blob, open_outgoing
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.push_plan import Piece, PushPlan, PushRequest, incomplete
from containerd_py._flows.together import working_together
from containerd_py.errors import RegistryError
from containerd_py.oci.image_spec import MAX_MANIFEST_SIZE
from containerd_py.progress import Progress
from containerd_py.remotes.repository import Repository
from containerd_py.services.bundle import Services
from containerd_py.services.vigil import until_daemon_goes
from containerd_py.types import Descriptor

# Requests at once, as Docker does; containerd's client sets no limit, its transfer service 3.
MAX_UPLOADS: Final = 5

_BLOB_UNKNOWN: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_DIGEST_INVALID: Final = "DIGEST_INVALID"


async def push_to_registry(leased: Services, request: PushRequest, plan: PushPlan, board: ProgressBoard) -> Descriptor:
    """Push an image, and return what the tag names now.

    Raises:
        NotFoundError: Some of it is neither here nor at the registry; the message says what to do.
        RegistryError: The registry refused, failed or misbehaved.
        DataLossError: Content is not what its descriptor says, here or once it had arrived there.
    """
    async with working_together() as group:
        # A registry that stalls must not hide that the daemon has gone.
        group.start_soon(until_daemon_goes, leased.rpc)
        await _push(leased, request, plan, board)
        await group.end()
    return plan.root


async def _push(leased: Services, request: PushRequest, plan: PushPlan, board: ProgressBoard) -> None:
    async with request.registry.open_repository(request.reference) as repository:
        board.report(Progress(event=f"Pushing to {request.destination}"))
        board.report(Progress(event="pushing content", name=request.source, descriptor=plan.root))
        for lacking in plan.lacking:
            if not await repository.has(lacking.descriptor):
                raise incomplete(request, plan)
        await _Pushing(leased, repository, request, plan, board).run()
        board.report(Progress(event="pushed content", name=request.source, descriptor=plan.root))
        board.report(Progress(event=f"Completed push to {request.destination}", descriptor=plan.root))


class _Pushing:
    """An image on its way to a repository."""

    def __init__(
        self, leased: Services, repository: Repository, request: PushRequest, plan: PushPlan, board: ProgressBoard
    ) -> None:
        self._leased = leased
        self._repository = repository
        self._tag = request.reference.tag
        self._plan = plan
        self._board = board
        self._trusted: list[Piece] = []  # blobs that the registry says it has
        self._refused: list[tuple[Piece, RegistryError]] = []  # manifests whose blobs the registry says it lacks

    async def run(self) -> None:
        for piece in (*self._plan.blobs, *self._plan.documents):
            self._tell("waiting", piece)
        await self._do_all(self._plan.blobs, self._push_blob)
        await self._do_all(self._plan.manifests, self._push_manifest)
        if self._refused:
            await self._push_what_was_trusted()
        for index in self._plan.indexes:
            await self._put(index)

    async def _do_all(self, pieces: Iterable[Piece], do: Callable[[Piece], Awaitable[None]]) -> None:
        limiter = anyio.CapacityLimiter(MAX_UPLOADS)

        async def do_one(piece: Piece) -> None:
            async with limiter:
                await do(piece)

        async with working_together() as group:
            for piece in pieces:
                group.start_soon(do_one, piece)

    async def _push_blob(self, piece: Piece, *, check: bool = True) -> None:
        digest = piece.descriptor.digest
        try:
            outcome = await self._repository.push_blob(
                piece.descriptor,
                partial(open_outgoing, self._leased, digest),
                mount_from=piece.mount_from,
                report=partial(self._tell, "uploading", piece),
                check=check,
            )
        except RegistryError as error:
            if error.code == _DIGEST_INVALID:
                await check_blob(self._leased, digest)  # whose fault is it?
            raise
        if outcome == "already exists":
            self._trusted.append(piece)
        self._tell("complete" if outcome == "uploaded" else "already exists", piece, piece.descriptor.size)

    async def _push_manifest(self, piece: Piece) -> None:
        try:
            await self._put(piece)
        except RegistryError as error:
            if error.code not in _BLOB_UNKNOWN:
                raise
            self._refused.append((piece, error))

    async def _push_what_was_trusted(self) -> None:
        """Push what the registry had said that it has, and lacks all the same: something there remembers wrongly."""
        refused, trusted = self._refused, self._trusted
        if not trusted:
            raise refused[0][1]
        await self._do_all(trusted, partial(self._push_blob, check=False))
        await self._do_all((piece for piece, _ in refused), self._put)

    async def _put(self, piece: Piece) -> None:
        descriptor = piece.descriptor
        data = piece.data
        if data is None:
            data = await read_blob(self._leased, descriptor, limit=MAX_MANIFEST_SIZE)
        tag = self._tag if descriptor.digest == self._plan.root.digest else None
        was_put = await self._repository.push_manifest(descriptor, data, tag=tag)
        self._tell("complete" if was_put else "already exists", piece, descriptor.size)

    def _tell(self, event: str, piece: Piece, progress: int = 0) -> None:
        descriptor = piece.descriptor
        self._board.report(
            Progress(
                event=event,
                name=ingest_ref(descriptor),
                parents=(piece.parent,),
                progress=progress,
                total=descriptor.size,
                descriptor=descriptor,
            )
        )
