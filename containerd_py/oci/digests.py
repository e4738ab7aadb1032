"""Content digests as strings: which are valid, what they are of, and chain IDs. Knows nothing of where content is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from containerd_py.errors import InvalidArgumentError

# Digest strings become URLs, references and file names: nothing but these forms may pass (CVE-2024-3727).
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}", re.ASCII)


def is_digest(value: str) -> bool:
    """Tell whether `value` is a sha256, sha384 or sha512 digest in canonical form (lower-case hex)."""
    return _DIGEST.fullmatch(value) is not None


def check_digest(value: str, *, what: str = "digest") -> str:
    """Return `value` if it is a digest.

    Raises:
        InvalidArgumentError: It is not; `what` names it in the message.
    """
    if not is_digest(value):
        raise InvalidArgumentError(f"{what}: {value[:160]!a} is not a sha256, sha384 or sha512 digest")
    return value


def algorithm_of(digest: str) -> str:
    """Return the algorithm of a valid digest: the name `hashlib` knows it by."""
    return check_digest(digest).partition(":")[0]


def digest_of(data: bytes, *, algorithm: str = "sha256") -> str:
    """Compute the digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=True).hexdigest()}"


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Name every stack of layers, lowest first: the keys under which snapshotters keep unpacked layers.

    Source: OCI image specification, "Layer ChainID".

    Raises:
        InvalidArgumentError: A diff ID is no digest.
    """
    chain: list[str] = []
    for index, diff_id in enumerate(diff_ids):
        check_digest(diff_id, what=f"diff_ids[{index}]")
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
