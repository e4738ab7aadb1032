"""A registry's answer: its head, and its body as it comes from the wire, watched for stalls. Decides nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

import anyio
import attrs

from containerd_py.errors import RegistryError
from containerd_py.remotes.bodies import Body
from containerd_py.remotes.failures import failure_of, stalled
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.origins import Origin, shown

if TYPE_CHECKING:
    import aiohttp  # a tenth of a second: imported when a registry is talked to

# A new connection costs less than what it saves from here on.
TAKE_OVER_FROM: Final = 4 * 1024 * 1024  # bytes still to come


@attrs.define(eq=False)
class Response:
    """An answer whose body is being read. To be closed; read to its end, its connection is used again.

    `led_away` tells whether a redirect took the request to another origin than it was meant for.
    """

    _raw: aiohttp.ClientResponse = attrs.field(repr=False)  # its own repr shows all headers
    host: str
    origin: Origin
    led_away: bool
    _limits: RegistryLimits
    _waited: float = 0.0  # seconds spent waiting, and bytes got for it, since the rate was last judged
    _received: int = 0
    _put_back: bytes = b""
    _body: Body | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._raw.status

    @property
    def url(self) -> str:
        """What was asked, redirects followed; what the answer's Location is relative to."""
        return str(self._raw.url)

    @property
    def asked(self) -> str:
        """Method and URL, fit to be shown."""
        return f"{self._raw.method} {shown(str(self._raw.url))}"

    @property
    def is_head(self) -> bool:
        """Whether the body was not asked for."""
        return self._raw.method == "HEAD"

    def header(self, name: str) -> str | None:
        """Take a header's value; None where it was not sent."""
        return self._raw.headers.get(name)

    def headers(self, name: str) -> list[str]:
        """Take all values of a header."""
        return list(self._raw.headers.getall(name, []))

    @property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes; None where none was announced."""
        value = self.header("Content-Length")
        return int(value) if value and value.isascii() and value.isdecimal() and len(value) < 20 else None

    async def chunk(self) -> bytes:
        """Wait for the next bytes; b"" at the end of the body.

        Raises:
            RegistryStalledError: Nothing came for too long, or too little.
            RegistryError: The connection broke.
        """
        if self._put_back:
            data, self._put_back = self._put_back, b""
            return data
        import aiohttp
        from aiohttp.http_exceptions import HttpProcessingError

        started = time.monotonic()
        try:
            data = await self._raw.content.readany()
        except aiohttp.SocketTimeoutError:
            failure: RegistryError = self._stalled(f"it sent nothing for {self._limits.stall_timeout:g} s")
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            failure = failure_of(error, host=self.host, asked=self.origin)
        else:
            self._watch(time.monotonic() - started, len(data))
            return data
        self.close()
        raise failure

    async def view(self) -> bytes | memoryview:
        """Wait for the next bytes, as `chunk` does; they are valid until the next call.

        Large bodies are received without the HTTP client's help, and use their connection up.
        """
        if self._body is None and not self._put_back:
            self._body = self._take_over()
        if self._body is None:
            return await self.chunk()
        started = time.monotonic()
        data: memoryview | None = None
        try:
            with anyio.move_on_after(self._limits.stall_timeout):
                data = await self._body.take()
        except (OSError, EOFError) as error:
            failure: RegistryError = failure_of(error, host=self.host, asked=self.origin)
        else:
            if data is not None:
                self._watch(time.monotonic() - started, len(data))
                return data
            failure = self._stalled(f"it sent nothing for {self._limits.stall_timeout:g} s")
        self.close()
        raise failure

    def _take_over(self) -> Body | None:
        """Take the connection from the HTTP client, once the client holds nothing back and much is still to come."""
        connection, content = self._raw.connection, self._raw.content
        transport = None if connection is None else connection.transport
        if self.content_length is None or self.header("Transfer-Encoding") is not None or transport is None:
            return None
        rest = self.content_length - content.total_bytes
        if rest < TAKE_OVER_FROM or content.exception() is not None or not transport.is_reading():
            return None
        if held := content.read_nowait():
            self._put_back = held
            return None
        return Body(transport, rest)

    def put_back(self, data: bytes) -> None:
        """Return the end of a chunk, to be the next one."""
        self._put_back = data

    async def read(self, limit: int) -> bytes:
        """Read the body, or its first bytes if it is longer: a result of more than `limit` bytes is cut off.

        Raises:
            RegistryError: As `chunk` does.
        """
        body = bytearray()
        while len(body) <= limit and (data := await self.chunk()):
            body += data
        return bytes(body[: limit + 1])

    def close(self) -> None:
        """Drop the connection, unless the body was read to its end."""
        if self._body is not None:
            self._body.give_back()
            self._body = None
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self, waited: float, received: int) -> None:
        """Judge the average rate over each window of waiting: a byte now and then is a stall too."""
        self._waited += waited
        self._received += received
        if self._waited < self._limits.min_rate_window:
            return
        rate = self._received / self._waited
        self._waited, self._received = 0.0, 0
        if received and rate < self._limits.min_rate:
            self.close()
            raise self._stalled(f"{rate:.0f} bytes/s, fewer than {self._limits.min_rate}, over a while")

    def _stalled(self, reason: str) -> RegistryError:
        return stalled(reason, host=self.host, asked=self.origin)
