"""Text that must not be seen: passwords, tokens, header values. Printing, formatting or copying it never shows it."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, Self, final

HIDDEN: Final = "•••"


@final
class Secret:
    """A text that only `reveal` shows.

    Not a `str` on purpose: joining, formatting or serialising a subclass of `str` would show it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Show the text; only where it goes on the wire."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is never pickled")


def secret(text: str | Secret) -> Secret:
    """Wrap a text, if it is not wrapped yet."""
    return text if isinstance(text, Secret) else Secret(text)


def scrub(text: str, *secrets: Secret | None) -> str:
    """Hide secrets that a server sent back to us."""
    for hidden in secrets:
        if hidden:
            for part in (hidden.reveal(), *hidden.reveal().split()[1:]):  # "Basic abc" whole, then "abc"
                if len(part) > 3:
                    text = text.replace(part, HIDDEN)
    return text
