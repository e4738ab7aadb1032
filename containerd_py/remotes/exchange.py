"""One request, tried as often as it is worth: pauses, Retry-After, broken connections. Knows no registry protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import attrs

from containerd_py.errors import RegistryConnectError, RegistryDisconnectedError, RegistryError, RegistryTLSError
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.responses import Response
from containerd_py.remotes.retries import backoff, is_worth_retrying, parse_retry_after
from containerd_py.remotes.session import Request, Session

T = TypeVar("T")


@attrs.define
class Attempts:
    """The tries left for one thing that is asked. `last_host` tells that there is no other host to turn to."""

    limits: RegistryLimits
    last_host: bool = True
    made: int = 0

    def pause_after(self, response: Response) -> float | None:
        """Seconds until the next try after an answer; None where the answer stands."""
        if not is_worth_retrying(response.status, last_host=self.last_host) or self.made >= self.limits.attempts:
            return None
        asked = parse_retry_after(response.header("Retry-After"))
        if asked is None:
            return backoff(self.made, self.limits)
        return asked if asked <= self.limits.max_retry_after else None

    def pause_after_failure(self) -> float | None:
        """Seconds until the next try after a broken connection; None where the next host is better."""
        if not self.last_host or self.made >= self.limits.attempts:
            return None
        return backoff(self.made, self.limits)


async def again_if_dropped(attempts: Attempts, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask for something small again, from the start, when the connection breaks in the middle of the answer.

    Raises:
        RegistryError: Whatever `ask` raises, once the tries are used up.
    """
    while True:
        try:
            return await ask()
        except RegistryDisconnectedError:
            pause = attempts.pause_after_failure()
            if pause is None:
                raise
        await anyio.sleep(pause)


async def send_patiently(session: Session, request: Request, attempts: Attempts) -> Response:
    """Send a request until it gets an answer that stands, which is to be closed by the caller.

    Raises:
        RegistryError: No answer came, as often as it was tried.
    """
    while True:
        attempts.made += 1
        try:
            response = await session.send(request)
        except (RegistryDisconnectedError, RegistryConnectError) as error:
            hopeless = isinstance(error, RegistryConnectError) and not session.has_answered
            pause = None if hopeless else attempts.pause_after_failure()
            if pause is None:
                raise _explained(error, session) from None
        else:
            pause = attempts.pause_after(response)
            if pause is None:
                return response
            response.close()
        await anyio.sleep(pause)


def _explained(error: RegistryError, session: Session) -> RegistryError:
    """Tell a host that ends every connection after the TLS handshake from one that broke down.

    With TLS 1.3 a client learns only then that its certificate was wanted, if at all.
    """
    host = session.host
    if session.has_answered or host.origin.scheme != "https" or not isinstance(error, RegistryDisconnectedError):
        return error
    reason = f"{error}: right after the TLS handshake, so it may want a client certificate"
    return RegistryTLSError(reason, host=host.name)
