"""What can go wrong with an upload: requests of which the registry keeps a part, answers that come before the body."""

from __future__ import annotations

import anyio
import attrs

from tests.harness.http_wire import Request, Response
from tests.harness.registry_actions import Action, Exchange, error_response
from tests.harness.registry_service import RegistryService


@attrs.frozen
class KeepPart(Action):
    """Take only the first bytes of an upload's body, keep them, and end the connection."""

    service: RegistryService
    kept: int

    def before(self, exchange: Exchange) -> None:
        exchange.upload_limit = self.kept
        exchange.respond = self._keep
        exchange.raw = b""
        exchange.end = "close"

    async def _keep(self, request: Request) -> Response:
        self.service.uploads[request.path.rpartition("/")[2]] += request.body
        return Response(status=0)


@attrs.frozen
class AnswerEarly(Action):
    """Answer after so many bytes of the body, and end the connection without having read the rest."""

    status: int
    read: int = 0
    reset: bool = False

    def before(self, exchange: Exchange) -> None:
        exchange.upload_limit = self.read
        exchange.response = error_response(self.status, "SIZE_INVALID", "no more of that")

    def after(self, exchange: Exchange) -> None:
        exchange.end = "reset" if self.reset else "close"


@attrs.frozen
class TakeNothing(Action):
    """Read nothing of the body for so many seconds, then end the connection."""

    seconds: float

    def before(self, exchange: Exchange) -> None:
        exchange.upload_limit = 0
        exchange.respond = self._wait
        exchange.raw = b""
        exchange.end = "close"

    async def _wait(self, _request: Request) -> Response:
        await anyio.sleep(self.seconds)
        return Response(status=0)
