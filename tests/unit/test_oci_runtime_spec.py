"""Specs are plain JSON objects: whatever others put into them survives."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.spec_json import MAX_SPEC_SIZE, clone, spec_from_json, spec_to_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate is no text.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=15,
)
specs = st.dictionaries(
    st.sampled_from(["ociVersion", "process", "linux", "windows", "com.example.vendor", "Linux", ""]), values
)


@given(specs)
def test_round_trip(spec: Spec):
    """Unknown members, keys in any case and 64-bit numbers come back as they were."""
    assert spec_from_json(spec_to_json(spec)) == spec


def test_unknown_members_survive():
    """A spec of a newer specification passes through unharmed, in its order."""
    data = b'{"ociVersion":"9.9","zzz":{"b":1,"a":[true,null]},"process":{"x":{}},"annotations":{"A":"1","a":"2"}}'
    assert spec_to_json(spec_from_json(data)) == data


@given(specs)
def test_clones_are_equal_and_share_nothing(spec: Spec):
    """A copy is equal, and no container inside it is the original's."""
    copy = clone(spec)
    assert copy == spec
    assert _containers(copy).isdisjoint(_containers(spec))


def _containers(value: object) -> set[int]:
    if isinstance(value, dict):
        return {id(value)}.union(*map(_containers, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(_containers, value))
    return set()


def test_text_is_utf8():
    """Text is written as itself, not as escapes."""
    assert spec_to_json({"ociVersion": "\u20ac"}) == '{"ociVersion":"\u20ac"}'.encode()


CIRCLE: dict = {}
CIRCLE["circle"] = CIRCLE


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", b"bytes", {1, 2}, CIRCLE])
def test_what_is_no_json(value: object):
    """Something the daemon could not read, or would read as something else, is refused here."""
    with pytest.raises(InvalidArgumentError, match="runtime spec cannot be written as JSON"):
        spec_to_json({"ociVersion": value})


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"a":1,"a":2}', b'{"a":NaN}', b" " * (MAX_SPEC_SIZE + 1)])
def test_what_is_no_spec(data: bytes):
    """Reading takes one unambiguous JSON object of at most 16 MiB."""
    with pytest.raises(InvalidArgumentError, match=r"^runtime spec: "):
        spec_from_json(data)


def test_empty_spec():
    """An empty object is read as it is; what is missing the runtime will say."""
    assert spec_from_json(b"{}") == json.loads("{}")
