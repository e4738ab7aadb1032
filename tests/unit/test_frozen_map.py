"""Mappings in values cannot be changed, and the values can be hashed, copied, pickled and made JSON of."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from containerd_py import ContainerRecord, ImageRecord, Runtime
from containerd_py.types import Descriptor, FrozenMap
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue

SPEC = TypedValue(type_url=RUNTIME_SPEC, value=b"{}")
VALUES = [
    FrozenMap(a="b"),
    Descriptor(media_type="m", digest="sha256:" + "a" * 64, size=1, annotations={"a": "b"}),
    ImageRecord(name="n", target=Descriptor(media_type="m", digest="sha256:" + "a" * 64, size=1), labels={"a": "b"}),
    ContainerRecord(id="c", runtime=Runtime(name="r"), labels={"a": "b"}, extensions={"e": SPEC}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_can_be_copied_and_hashed(value: Any):
    """Copies and what was pickled are equal to the value, hash alike, and are as frozen."""
    copies = [copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))]
    assert copies == [value] * 3
    assert {hash(made) for made in copies} == {hash(value)}
    mappings = [made if isinstance(made, FrozenMap) else getattr(made, "labels", None) for made in copies]
    assert all(mapping is None or type(mapping) is FrozenMap for mapping in mappings)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.__setitem__("a", 1),
        lambda it: it.__delitem__("a"),
        lambda it: it.__ior__({"a": 1}),
        lambda it: it.clear(),
        lambda it: it.pop("a"),
        lambda it: it.popitem(),
        lambda it: it.setdefault("c", 1),
        lambda it: it.update(a=1),
    ],
)
def test_nothing_changes_it(change: Callable[[Any], object]):
    """Whatever changes a dict is refused, and says how to get one to change."""
    frozen = FrozenMap(a="b")
    with pytest.raises(TypeError, match="make a dict of it"):
        change(frozen)
    assert frozen == {"a": "b"}


def test_it_is_read_as_a_dict():
    """JSON is made of it, others are joined to it, and it shows as a dict does."""
    frozen = FrozenMap(a="b")
    assert json.dumps(frozen) == '{"a": "b"}'
    assert frozen | {"c": "d"} == {"a": "b", "c": "d"}
    assert repr(frozen) == "{'a': 'b'}"
    assert type(frozen.copy()) is dict
