"""Request headers packed once: a call's are those of the call before, but hpack packs them each time anew.

Every header goes as a literal that no table remembers, so that a block means the same whenever it is sent (RFC 7541,
6.2.2). A few hundred bytes over a unix socket cost less than finding shorter ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, cast

from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.metadata import USER_AGENT, _Metadata, encode_metadata
from hpack import Encoder
from hpack.hpack import encode_integer
from multidict import MultiDict

REMEMBERED: Final = 512  # blocks: one for each method, namespace and lease in use
_LITERAL: Final = b"\0"  # without indexing, its name a literal too
_LENGTH_PREFIX: Final = 7  # bits, of a string's length; the eighth would say that it is Huffman-coded


class RequestEncoder(Encoder):
    """Packs headers without regard to those packed before."""

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        """Return the block of some headers."""
        if self.table_size_changes:  # the block has to begin with them
            return super().encode(headers, huffman)
        return _block(tuple(headers))


@lru_cache(maxsize=REMEMBERED)
def request_block(scheme: str, authority: str, route: str, metadata: tuple[tuple[str, Any], ...]) -> bytes:
    """Return the block of a call's headers, those of gRPC's before its metadata."""
    own = {
        ":method": "POST",
        ":scheme": scheme,
        ":path": route,
        ":authority": authority,
        "te": "trailers",
        "content-type": GRPC_CONTENT_TYPE,
        "user-agent": USER_AGENT,
    }
    headers = [*own.items(), *encode_metadata(cast("_Metadata", MultiDict(metadata)))]
    return _block(tuple((name.encode("ascii"), value.encode("ascii")) for name, value in headers))


@lru_cache(maxsize=REMEMBERED)
def _block(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b"".join(_LITERAL + _string(name) + _string(value) for name, value, *_ in headers)


def _string(value: bytes) -> bytes:
    return bytes(encode_integer(len(value), _LENGTH_PREFIX)) + value
