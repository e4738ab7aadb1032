"""What every generated message is: betterproto2's, with straight-line encoders and decoders, and made when needed.

Importing a module of messages defines their names and fields, no more. A message becomes a dataclass when the first one
is made, and its module's `codec` is imported when the first one is encoded or decoded. Knows nothing of any message.
"""

from __future__ import annotations

import dataclasses
import threading
from importlib import import_module
from typing import Any, Final, Self, dataclass_transform

import betterproto2

from containerd_py._codec.wire_format import DecodeError

_FIELDS: Final = "__dataclass_fields__"
_completing = threading.RLock()  # a class can become a dataclass only once, and clients live in any thread


class _FieldsWhenAsked:
    """Makes a message a dataclass when somebody wants to know its fields."""

    def __get__(self, _: object, owner: type[Message]) -> dict[str, dataclasses.Field[Any]]:
        if owner is Message:
            raise AttributeError(_FIELDS)  # which tells `dataclasses` that this class is none
        _complete(owner)
        found: dict[str, dataclasses.Field[Any]] = owner.__dict__[_FIELDS]
        return found


def _complete(message: type[Message]) -> None:
    with _completing:
        if _FIELDS not in message.__dict__:
            dataclasses.dataclass(eq=False, repr=False)(message)


@dataclass_transform(eq_default=False)
class Message(betterproto2.Message):
    """A protobuf message. `bytes(message)` encodes it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _complete(type(self))
        type(self).__init__(self, *args, **kwargs)  # the dataclass's own by now

    def __bytes__(self) -> bytes:
        return bytes(self._encode())

    def _encode(self) -> bytes | bytearray:
        _load_codec(type(self))
        return self._encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the message in the bytes.

        Raises:
            DecodeError: They are no such message.
        """
        return cls.merge(bytes(data), None)

    @classmethod
    def merge(cls, data: bytes, into: Self | None, begin: int = 0, end: int | None = None) -> Self:
        """Read bytes on top of a message, None meaning a new one: a message may be read in pieces, cut between fields.

        Raises:
            DecodeError: They are no such message.
        """
        try:
            return cls._decode(data, begin, len(data) if end is None else end, into)
        except IndexError:
            raise DecodeError(f"a {cls.__name__} ends too soon") from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"a {cls.__name__} has text that is not UTF-8: {error}") from None

    @classmethod
    def values(cls, data: bytes, begin: int, end: int) -> tuple[Any, ...]:
        """Return the values of the fields in the order of their declaration, submessages as their bytes or None.

        For messages that there are thousands of (`codegen.codec.LISTED`), to make something else of them at once.

        Raises:
            DecodeError, IndexError, UnicodeDecodeError: They are no such message.
        """
        _load_codec(cls)
        return cls.values(data, begin, end)

    @classmethod
    def _decode(cls, data: bytes, at: int, limit: int, into: Self | None) -> Self:
        _load_codec(cls)
        return cls._decode(data, at, limit, into)


def _load_codec(message: type[Message]) -> None:
    import_module(f"{message.__module__}.codec")  # which gives each message of that module its own methods


setattr(Message, _FIELDS, _FieldsWhenAsked())
