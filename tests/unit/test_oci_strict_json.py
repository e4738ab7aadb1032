"""Strict JSON: what Go and Python could read differently is refused, and the error says where."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.strict_json import load_object

LIMIT = 1 << 20


def load(data: bytes, **options) -> dict[str, object]:
    return load_object(data, what="manifest", max_size=LIMIT, **options)


REJECTED = {
    "duplicate key": (b'{"a": {"digest": "x", "digest": "y"}}', r"a: key 'digest' appears twice"),
    "duplicate key through an escape": (b'{"a": 1, "\\u0061": 2}', "document: key 'a' appears twice"),
    "case variants": (b'{"layers": [{"digest": "good", "Digest": "evil"}]}', r"layers\[0\]: keys 'digest' and"),
    "case variants by Kelvin sign": ('{"k": 1, "\u212a": 2}'.encode(), "differ in case only"),
    "case variants by long s": ('{"size": 1, "\u017fize": 2}'.encode(), "differ in case only"),
    "NaN": (b'{"a": [0, NaN]}', r"a\[1\]: NaN is not JSON"),
    "Infinity": (b'{"a": Infinity}', "a: Infinity is not JSON"),
    "-Infinity": (b'{"a": -Infinity}', "a: -Infinity is not JSON"),
    "1e400": (b'{"a": {"b": 1e400}}', "a.b: number does not fit in a float"),
    "long fraction": (b'{"a": 0.' + b"1" * 5000 + b"}", "a: number is too long"),
    "5,000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "a: integer does not fit"),
    "2**64": (b'{"a": 18446744073709551616}', "a: integer does not fit"),
    "-2**63-1": (b'{"a": -9223372036854775809}', "a: integer does not fit"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
    "UTF-16": ('{"a": 1}'.encode("utf-16-le"), "manifest: line 1"),
    "UTF-16 with mark": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "Latin-1": (b'{"a": "\xe9"}', "not UTF-8 at byte 7"),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', "not UTF-8"),
    "encoded surrogate": (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    "escaped lone surrogate": (b'{"a": ["\\ud800"]}', r"a\[0\]: half of a surrogate pair"),
    "lone surrogate in a key": (b'{"a": {"\\udfff": 1}}', "a: a key holds half"),
    "trailing data": (b'{"a": 1} {"b": 2}', "Extra data"),
    "trailing NUL": (b'{"a": 1}\x00', "Extra data"),
    "trailing comma": (b'{"a": 1,}', "line 1 column"),
    "comment": (b'{"a": 1 /* x */}', "line 1 column"),
    "single quotes": (b"{'a': 1}", "line 1 column"),
    "raw newline in a string": (b'{"a": "\n"}', "line 1 column"),
    "leading zero": (b'{"a": 01}', "line 1 column"),
    "plus sign": (b'{"a": +1}', "line 1 column"),
    "Arabic digits": ('{"a": \u0661}'.encode(), "line 1 column"),
    "no-break space": ('{\u00a0"a": 1}'.encode(), "line 1 column"),
    "nothing": (b"", "line 1 column 1"),
    "an array": (b"[]", "expected an object, found an array"),
    "a string": (b'"x"', "expected an object, found a string"),
    "100,000 arrays": (b'{"a": ' + b"[" * 100_000, "nested deeper than 64"),
    "100,000 objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper than 64"),
}


@pytest.mark.parametrize(("data", "message"), REJECTED.values(), ids=REJECTED)
def test_refuses(data: bytes, message: str):
    """A document that another parser may read differently is refused, with the path to the trouble."""
    with pytest.raises(InvalidArgumentError, match=message):
        load(data)


ACCEPTED = {
    "nested": (b'{"a": {"b": [1, 2.5, true, null, "x"]}}', {"a": {"b": [1, 2.5, True, None, "x"]}}),
    "largest integers": (b'{"a": [18446744073709551615, -9223372036854775808]}', {"a": [2**64 - 1, -(2**63)]}),
    "escaped pair": (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    "brackets in strings": (b'{"a": "' + b"[{" * 5000 + b'", "b": [{}]}', {"a": "[{" * 5000, "b": [{}]}),
    "wide, not deep": (b'{"a": [' + b"[]," * 5000 + b"[]]}", {"a": [[]] * 5001}),
    "white space": (b' \t\r\n{"a"\n:\t1 }\n', {"a": 1}),
    "escaped quotes": (b'{"a": "\\"[[[\\\\"}', {"a": '"[[[\\'}),
}


@pytest.mark.parametrize(("data", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(data: bytes, expected: object):
    """Plain JSON is read as `json` reads it."""
    assert load(data) == expected


def test_keys_of_maps_may_differ_in_case():
    """Labels are data: `Foo` and `foo` are two labels, in containerd as well."""
    data = b'{"config": {"Labels": {"Foo": "1", "foo": "2"}}}'
    assert load(data, maps={"Labels"}) == {"config": {"Labels": {"Foo": "1", "foo": "2"}}}
    with pytest.raises(InvalidArgumentError, match=r"config\.Labels: keys 'Foo' and 'foo'"):
        load(data)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_size_limit(extra: int):
    """N-1 and N bytes pass, N+1 do not."""
    data = b'{"a": "' + b"x" * (LIMIT - 9 + extra) + b'"}'
    assert len(data) == LIMIT + extra
    if extra > 0:
        with pytest.raises(InvalidArgumentError, match="more than the 1048576 allowed"):
            load(data)
    else:
        load(data)


@pytest.mark.parametrize("depth", [63, 64, 65])
def test_depth_limit(depth: int):
    """64 levels pass, 65 do not, wherever the caller's own stack stands."""
    data = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    if depth > 64:
        with pytest.raises(InvalidArgumentError, match="nested deeper than 64 levels at byte 68"):
            load(data)
    else:
        load(data)


def test_a_path_never_shows_raw_keys():
    """Hostile keys are shortened and escaped in messages."""
    data = json.dumps({"\x1b[2J" + "x" * 100_000: {"a": float("nan")}}).encode()
    with pytest.raises(InvalidArgumentError) as caught:
        load(data)
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_whatever_is_accepted_is_what_json_reads(document: dict[str, object]):
    """Accepting never changes the meaning."""
    data = json.dumps(document).encode()
    try:
        loaded = load(data)
    except InvalidArgumentError as error:
        assert "differ in case" in str(error)
    else:
        assert loaded == json.loads(data)


@given(st.binary(max_size=300))
def test_any_bytes_give_an_object_or_the_one_error(data: bytes):
    """Nothing but InvalidArgumentError comes out of garbage."""
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(load(data), dict)
