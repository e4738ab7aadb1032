"""What a plugin's exit code and words mean: a document, nothing, or a typed error.

Source: CNI specification 1.1, section 5 "Error".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from containerd_py.cni.programs import Answer
from containerd_py.cni.results import MAX_RESULT_SIZE
from containerd_py.errors import (
    CNIConfigError,
    CNIDecodeError,
    CNIEnvironmentError,
    CNIError,
    CNIInputOutputError,
    CNINotReadyError,
    CNIProtocolError,
    CNITryAgainError,
    CNIUnknownContainerError,
    CNIUnsupportedFieldError,
    CNIVersionError,
    InvalidArgumentError,
)
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

_SHOWN: Final = 2000  # characters of a plugin's words in an error
_FIELDS: Final = frozenset(["cniVersion", "code", "msg", "details"])
_TYPES: Final[Mapping[int, type[CNIError]]] = {
    1: CNIVersionError,
    2: CNIUnsupportedFieldError,
    3: CNIUnknownContainerError,
    4: CNIEnvironmentError,
    5: CNIInputOutputError,
    6: CNIDecodeError,
    7: CNIConfigError,
    8: CNIEnvironmentError,  # a broken network namespace, in the plugins' own library
    11: CNITryAgainError,
    50: CNINotReadyError,
    51: CNINotReadyError,
}


def read_answer(answer: Answer, plugin: str, command: str) -> dict[str, object] | None:
    """Return the document a plugin answered, None where it said nothing.

    Raises:
        CNIError: It failed; the class tells how.
        CNIProtocolError: It answered something else than a JSON object, or was killed.
    """
    if answer.code != 0:
        raise _failure(answer, plugin, command)
    if not answer.stdout.strip():
        return None
    try:
        return load_object(answer.stdout, what=f"answer of plugin {plugin} to {command}", max_size=MAX_RESULT_SIZE)
    except InvalidArgumentError as error:
        raise CNIProtocolError(str(error), plugin=plugin) from error


def _failure(answer: Answer, plugin: str, command: str) -> CNIError:
    said = f"plugin {plugin} failed at {command}"
    if answer.code < 0:
        return CNIProtocolError(f"{said}: killed by signal {-answer.code}{_words(answer.stderr)}", plugin=plugin)
    try:
        document = load_object(answer.stdout, what="error", max_size=MAX_RESULT_SIZE)
        fields = Fields(members=document, known=_FIELDS, what="error")
        code, message, details = fields.integer("code"), fields.string("msg"), fields.string("details")
    except InvalidArgumentError:
        code, message, details = None, "", ""
    if code is None:
        words = _words(answer.stdout) or _words(answer.stderr)
        return CNIProtocolError(f"{said} with exit code {answer.code}{words or ' and no word'}", plugin=plugin)
    shown = "; ".join(_printable(text) for text in (message, details) if text)
    return _TYPES.get(code, CNIError)(f"{said}: {shown or f'code {code}'}", plugin=plugin, code=code, details=details)


def _words(output: bytes) -> str:
    text = _printable(output[-4 * _SHOWN :].decode(errors="replace").strip())
    return f": {text}" if text else ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)[-_SHOWN:]
