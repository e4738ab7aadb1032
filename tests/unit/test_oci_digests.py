"""Digests are checked before they become paths, URLs or keys; chain IDs follow the image specification."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.digests import algorithm_of, chain_ids, check_digest, digest_of, is_digest

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


@pytest.mark.parametrize("digest", [A, "sha384:" + "0" * 96, "sha512:" + "f" * 128])
def test_valid(digest: str):
    """The three registered algorithms in lower-case hex pass."""
    assert check_digest(digest) == digest


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "SHA256:" + "a" * 64,
        "sha512:" + "a" * 64,
        "sha384:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha1:" + "a" * 40,
        "blake3:" + "a" * 64,
        "sha256:../../../../etc/passwd",
        "sha256:" + "a" * 64 + "\n",
        "\nsha256:" + "a" * 64,
        "sha256:" + "a" * 64 + "\x00",
        "sha256:" + "\u0660" * 64,
        "sha256-" + "a" * 64,
        "x/sha256:" + "a" * 64,
    ],
)
def test_invalid(digest: str):
    """Unknown algorithms, other lengths, upper case, traversal and trailing newlines do not pass."""
    assert not is_digest(digest)
    with pytest.raises(InvalidArgumentError, match=r"layer: .* is not a sha256"):
        check_digest(digest, what="layer")


def test_the_error_does_not_repeat_megabytes():
    """A hostile digest is shortened in the message."""
    with pytest.raises(InvalidArgumentError) as caught:
        check_digest("x" * 1_000_000)
    assert len(str(caught.value)) < 300


@given(st.binary(), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_what_we_compute_is_valid(data: bytes, algorithm: str):
    """Computed digests are canonical."""
    digest = digest_of(data, algorithm=algorithm)
    assert is_digest(digest)
    assert algorithm_of(digest) == algorithm


def test_chain_ids():
    """The first layer's chain ID is its diff ID; each further one hashes the chain below and the diff ID."""
    second = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {C}".encode()).hexdigest()
    assert chain_ids([A, B, C]) == [A, second, third]


def test_chain_ids_of_nothing():
    """An image without layers has no chain."""
    assert chain_ids([]) == []


def test_chain_ids_check_their_input():
    """The bad diff ID is named by its place."""
    with pytest.raises(InvalidArgumentError, match=r"diff_ids\[1\]"):
        chain_ids([A, "sha256:zz"])


@given(st.lists(st.binary(max_size=4).map(digest_of), max_size=6))
def test_chain_of_a_prefix_is_the_prefix_of_the_chain(diff_ids: list[str]):
    """Images that share their lowest layers share their snapshots."""
    whole = chain_ids(diff_ids)
    for length in range(len(diff_ids) + 1):
        assert chain_ids(diff_ids[:length]) == whole[:length]
