"""What a registry's refusal means: status and error body become a typed error. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import attrs

from containerd_py.errors import (
    ContainerdError,
    InvalidArgumentError,
    RegistryAuthenticationError,
    RegistryError,
    RegistryNotFoundError,
    RegistryPermissionError,
    RegistryRateLimitedError,
    RegistryUnavailableError,
)
from containerd_py.oci.strict_json import load_object
from containerd_py.remotes.limits import MAX_ERROR_SHOWN, MAX_ERROR_SIZE
from containerd_py.remotes.secret import Secret, scrub

_BY_STATUS: Final[dict[int, type[RegistryError]]] = {
    401: RegistryAuthenticationError,
    403: RegistryPermissionError,
    404: RegistryNotFoundError,
    408: RegistryUnavailableError,
    425: RegistryUnavailableError,
}
_MEANING: Final = {
    401: "wants other credentials",
    403: "refuses access",
    404: "does not have it",
    429: "asks to come back later",
}
_SERVER_ERRORS: Final = 500
_TOO_MANY: Final = 429
_MAX_LISTED: Final = 5


@attrs.frozen(kw_only=True)
class Answer:
    """A refusal as it came: who said it to what, and with which words."""

    host: str
    asked: str  # method and URL, fit to be shown
    status: int
    body: bytes = b""
    retry_after: float | None = None


def error_of(answer: Answer, *secrets: Secret | None) -> RegistryError:
    """Make the error for a refusal; secrets the server sent back are hidden."""
    code, detail = _read_body(answer.body)
    code, detail = scrub(code, *secrets), scrub(detail, *secrets)
    meaning = _MEANING.get(answer.status, "failed" if answer.status >= _SERVER_ERRORS else "refused")
    words = f": {detail}" if detail else ""
    message = f"{answer.host} {meaning} (status {answer.status} to {answer.asked}){words}"
    if answer.status == _TOO_MANY or (answer.status >= _SERVER_ERRORS and answer.retry_after is not None):
        return _rate_limited(answer, message, code, detail)
    kind = RegistryUnavailableError if answer.status >= _SERVER_ERRORS else _BY_STATUS.get(answer.status, RegistryError)
    return kind(message, host=answer.host, status=answer.status, code=code, detail=detail)


def most_telling(errors: Sequence[ContainerdError]) -> ContainerdError:
    """Choose the error of the host that came furthest, and let it name the others.

    A host out of reach tells least, one that lacks the content more, one that refuses most (containerd, Resolve).
    """
    best = max(errors, key=_weight)
    others = [error for error in errors if error is not best]
    if others and isinstance(best, RegistryError):
        best.args = (f"{best.args[0]} (tried before or after: {'; '.join(map(str, others))})", *best.args[1:])
    elif others:
        best.add_note(f"other hosts tried: {'; '.join(map(str, others))}")
    return best


def _weight(error: ContainerdError) -> int:
    if isinstance(error, RegistryUnavailableError):
        return 1
    if isinstance(error, RegistryNotFoundError):
        return 2
    return 3


def _rate_limited(answer: Answer, message: str, code: str, detail: str) -> RegistryRateLimitedError:
    later = None
    if answer.retry_after is not None:
        later = timedelta(seconds=min(answer.retry_after, timedelta.max.total_seconds() // 2))
        message += f" [retry after {answer.retry_after:.0f} s]"
    return RegistryRateLimitedError(
        message, retry_after=later, host=answer.host, status=answer.status, code=code, detail=detail
    )


def _read_body(body: bytes) -> tuple[str, str]:
    """Take code and words out of an error body of the distribution specification; nothing out of any other."""
    try:
        listed = load_object(body, what="error body", max_size=MAX_ERROR_SIZE, fold_case=False).get("errors")
    except InvalidArgumentError:
        return "", ""
    errors = [error for error in listed if isinstance(error, dict)][:_MAX_LISTED] if isinstance(listed, list) else []
    words = []
    for error in errors:
        code, message, detail = (_printable(error.get(key)) for key in ("code", "message", "detail"))
        words.append((message or code.lower().replace("_", " ")) + (f" ({detail})" if detail else ""))
    return (_printable(errors[0].get("code")) if errors else "", "; ".join(words)[:MAX_ERROR_SHOWN])


def _printable(value: object) -> str:
    if not isinstance(value, str | int | list | dict) or not value:
        return ""
    text = value if isinstance(value, str) else repr(value)
    return "".join(character if character.isprintable() else " " for character in text[:MAX_ERROR_SHOWN])
