"""TLS contexts for registries, out of certificate files. Opens no connection."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs
from anyio import to_thread

from containerd_py.errors import InvalidArgumentError


@attrs.frozen(kw_only=True)
class TLSFiles:
    """Certificate files (PEM): authorities trusted besides the system's, and our own, each with its key's file.

    A key of None stands in the certificate's file.
    """

    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()

    def with_defaults(self, defaults: TLSFiles) -> TLSFiles:
        """Fill in what this one leaves open: authorities add up, an own certificate replaces the default one."""
        return TLSFiles(ca=defaults.ca + self.ca, client=self.client or defaults.client)

    def without_client(self) -> TLSFiles:
        """Leave our own certificate out: it says who we are, and only the configured host may know."""
        return TLSFiles(ca=self.ca)


NO_FILES: Final = TLSFiles()


def make_context(files: TLSFiles, *, verify: bool) -> ssl.SSLContext:
    """Make a client's context: TLS 1.2 at least, the system's authorities and the given ones. Blocks.

    Raises:
        InvalidArgumentError: A file cannot be read, or is not what it should be.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for authority in files.ca:
        try:
            context.load_verify_locations(cafile=authority)
        except OSError as error:
            raise InvalidArgumentError(f"the certificate authority {authority} cannot be loaded: {error}") from None
    for certificate, key in files.client:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"the client certificate {certificate} cannot be loaded: {error}") from None
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, with the event loop waiting.
    raise ValueError("its key is encrypted")


class TLSContexts:
    """TLS contexts, each made once, in a thread: loading the system's authorities takes tens of milliseconds."""

    def __init__(self) -> None:
        self._made: dict[tuple[TLSFiles, bool], ssl.SSLContext] = {}
        self._making = anyio.Lock()

    async def get(self, files: TLSFiles, *, verify: bool) -> ssl.SSLContext:
        """Make the context, or take the one made before.

        Raises:
            InvalidArgumentError: A file cannot be read, or is not what it should be.
        """
        async with self._making:
            key = files, verify
            if key not in self._made:
                self._made[key] = await to_thread.run_sync(partial(make_context, files, verify=verify))
            return self._made[key]
