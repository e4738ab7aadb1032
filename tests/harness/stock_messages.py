"""The generated messages as betterproto2 makes them: what our own encoders and decoders are held to."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import betterproto2

from codegen import outputs
from tests.harness import protobuf_reference

GENERATED = outputs.ROOT / outputs.PACKAGE
_OUR_CLASS = re.compile(r"^class (\w+)\(Message\):", re.MULTILINE)
_STOCK_CLASS = r"@dataclasses.dataclass(eq=False, repr=False)\nclass \1(betterproto2.Message):"


@contextmanager
def stock_messages(folder: Path) -> Iterator[Callable[[str], type[betterproto2.Message]]]:
    """Lend a look-up of betterproto2's own classes by a message's full name; their code is written into the folder."""
    for path in (*GENERATED.rglob("__init__.py"), GENERATED / "message_pool.py"):
        copied = folder / "stock_messages" / path.relative_to(GENERATED)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text("import dataclasses\n" + _OUR_CLASS.sub(_STOCK_CLASS, path.read_text()))
    sys.path.insert(0, str(folder))
    try:
        yield _stock_class
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "stock_messages"]:
            del sys.modules[name]


def _stock_class(name: str) -> type[betterproto2.Message]:
    ours = protobuf_reference.our_class(name)
    module = importlib.import_module(ours.__module__.replace("containerd_py._generated", "stock_messages"))
    found: type[betterproto2.Message] = getattr(module, ours.__name__)
    return found
