"""Header blocks unpacked once: a daemon's answers have the same few, which hpack unpacks each time anew.

A block means the same for as long as the table it refers to does not change (RFC 7541, 2.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hpack import Decoder, HeaderTuple

REMEMBERED: Final = 128  # blocks


class ReplyDecoder(Decoder):
    """Unpacks header blocks, and remembers those that left the table as it was."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[bytes, Iterable[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Return the headers in a block. Callers share what is returned, and must not change it."""
        if not raw:
            return super().decode(data, raw)
        known = self._known.get(data)
        if known is not None:
            return known
        entries = self.header_table.dynamic_entries
        count, newest = len(entries), entries[0] if entries else None
        headers = super().decode(data, raw)
        if len(entries) != count or (entries and entries[0] is not newest):
            self._known.clear()
        elif len(self._known) < REMEMBERED:
            self._known[data] = headers
        return headers
