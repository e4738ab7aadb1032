"""One transfer between the daemon and a registry: its progress is read and passed on, its questions are answered.

Needs containerd 1.7 or later. Source: containerd, core/transfer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import anyio
import attrs

from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_registry import RegistryRequest, registry_endpoint, scheme_of
from containerd_py.errors import ContainerdError
from containerd_py.progress import Progress
from containerd_py.remotes.credentials import look_up
from containerd_py.remotes.origins import origin_of
from containerd_py.services.bundle import Services
from containerd_py.services.streaming import DaemonStream, new_stream_id
from containerd_py.services.transfer import (
    Endpoint,
    RegistryEndpoint,
    answer_to_wire,
    progress_from_wire,
    question_from_wire,
)
from containerd_py.typeurl import TypedValue

PROGRESS_BOUND: Final = 5.0  # seconds that the last progress may come after the transfer's own end
_UNDER_WAY: Final = frozenset({"waiting", "downloading", "extracting", "uploading"})

_log = logging.getLogger(__name__)

Ends = Callable[[RegistryEndpoint], tuple[Endpoint, Endpoint]]
"""Given the registry, says what is transferred where."""


class TransferTalk:
    """The two streams next to a transfer, and what was learned on them. One for all attempts at the same."""

    def __init__(self, leased: Services, request: RegistryRequest, board: ProgressBoard) -> None:
        self._leased = leased
        self._request = request
        self._board = board
        self._scheme = scheme_of(request)
        self._under_way: dict[str, Progress] = {}
        self._lookup_failures: list[Exception] = []
        self.root = ""  # digest of the index the image is, if it is one

    async def transfer(self, ends: Ends) -> None:
        """Have the daemon do it; what it fails with comes as it is."""
        progress_id, credentials_id = new_stream_id("progress"), new_stream_id("creds")
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
            source, destination = ends(registry_endpoint(self._request, credentials_id))
            await self._leased.transfer.transfer(source, destination, progress_stream=progress_id)
            with anyio.move_on_after(PROGRESS_BOUND):
                await ended.wait()
            await group.end()
        # containerd 1.7 forgets some of them.
        for unended in self._under_way.values():
            self._board.report(attrs.evolve(unended, event="complete", progress=unended.total))

    def raise_lookup_failure(self, error: ContainerdError) -> None:
        """Raise what looking up credentials failed with, if it did: the daemon went without them, and met `error`."""
        if self._lookup_failures:
            failure = self._lookup_failures[0]
            failure.add_note(f"because of it the daemon went without credentials: {error}")
            raise failure

    def warn_of_lookup_failures(self) -> None:
        """Say that looking up credentials failed, though all went well."""
        for failure in self._lookup_failures:
            _log.warning("credentials were looked up in vain, and it went well without: %r", failure)

    async def _read_progress(self, stream: DaemonStream, ended: anyio.Event) -> None:
        try:
            while (value := await stream.receive()) is not None:
                progress = progress_from_wire(value)
                if not self.root and progress.name.startswith("index-"):
                    self.root = progress.name.removeprefix("index-").rpartition("@")[2]
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
