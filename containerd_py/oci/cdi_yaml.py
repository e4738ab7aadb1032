"""YAML documents as plain values, bounded and unambiguous. Knows YAML; needs the extra `cdi` (PyYAML).

YAML of strangers can be small and mean gigabytes, by aliases of aliases; it can name classes to make, repeat keys, and
reads `no` as false. What comes out of here is what JSON can hold, or an error.
"""

from __future__ import annotations

from typing import Final

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from containerd_py.errors import InvalidArgumentError

MAX_SIZE: Final = 2**20  # bytes: a second or more of PyYAML
MAX_NODES: Final = 100_000  # aliases counted as often as they are used
MAX_DEPTH: Final = 32
_PREFIX: Final = "tag:yaml.org,2002:"


def load_yaml_object(data: bytes, *, what: str) -> dict[str, object]:
    """Parse one YAML mapping; `what` names it in errors. Blocks for as long as it is large.

    Raises:
        InvalidArgumentError: It is no YAML, or none that JSON could say as well, or too large.
    """
    if len(data) > MAX_SIZE:
        raise InvalidArgumentError(f"{what}: more than {MAX_SIZE} bytes of YAML")
    try:
        text = data.decode()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidArgumentError(f"{what}: no YAML: {' '.join(str(error).split())[:300]}") from error
    plain = _Plain(what).value_of(root)
    if not isinstance(plain, dict):
        raise InvalidArgumentError(f"{what}: expected a mapping")
    return plain


class _Plain:
    """Makes plain values of nodes, and counts them."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._left = MAX_NODES

    def value_of(self, node: Node | None, depth: int = 0) -> object:
        if node is None:
            return None
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise self._error(node, f"more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}")
        match node:
            case ScalarNode():
                return self._scalar(node)
            case SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [self.value_of(child, depth + 1) for child in node.value]
            case MappingNode(tag="tag:yaml.org,2002:map"):
                made: dict[str, object] = {}
                for key_node, child in node.value:
                    key = self.value_of(key_node, depth + 1)
                    if not isinstance(key, str):
                        raise self._error(key_node, "a key is not a string")
                    if key in made:
                        raise self._error(key_node, f"key {key[:64]!a} appears twice")
                    made[key] = self.value_of(child, depth + 1)
                return made
            case _:
                raise self._error(node, f"the tag {node.tag[:80]!a} is not allowed")

    def _scalar(self, node: ScalarNode) -> object:
        constructor = SafeConstructor()
        try:
            match node.tag.removeprefix(_PREFIX):
                case "str" | "float" | "timestamp":  # a version such as 0.6 is text here, and nothing else is a float
                    return str(node.value)
                case "int":
                    return int(constructor.construct_yaml_int(node))
                case "bool":
                    return bool(constructor.construct_yaml_bool(node))
                case "null":
                    return None
        except ValueError as error:
            raise self._error(node, f"{str(node.value)[:80]!a} is no number") from error
        raise self._error(node, f"the tag {node.tag[:80]!a} is not allowed")

    def _error(self, node: Node, reason: str) -> InvalidArgumentError:
        mark = node.start_mark
        return InvalidArgumentError(f"{self._what}: line {mark.line + 1} column {mark.column + 1}: {reason}")
