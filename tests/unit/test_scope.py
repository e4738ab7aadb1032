"""A scope is what every call carries: a namespace containerd would take, and perhaps a lease."""

import attrs
import pytest

from containerd_py._transport.scope import LEASE_HEADER, MAX_IDENTIFIER, NAMESPACE_HEADER, Scope, check_identifier
from containerd_py.errors import InvalidArgumentError

VALID = ["a", "default", "k8s.io", "A-b_c.d", "0", "x" * MAX_IDENTIFIER, "a1-2.b_3"]
INVALID = [
    "",
    " ",
    "a ",
    "a\n",
    "\na",
    ".a",
    "a.",
    "-a",
    "a_",
    "a..b",
    "a.-b",
    "a/b",
    "a:b",
    "..",
    "a\0b",
    "ä",
    "\u0663",
    "a\u200d",
    "x" * (MAX_IDENTIFIER + 1),
]


@pytest.mark.parametrize("name", VALID)
def test_identifiers_containerd_takes(name: str):
    """Letters and digits joined by single separators, 1 to 76 of them, are an identifier and a namespace."""
    assert check_identifier(name, "container ID") == name
    assert Scope(namespace=name).metadata() == {NAMESPACE_HEADER: name}


@pytest.mark.parametrize("name", INVALID)
def test_identifiers_containerd_refuses(name: str):
    """What the daemon would refuse, or what would forge a header, is refused here, and named in the message."""
    with pytest.raises(InvalidArgumentError, match="container ID") as refused:
        check_identifier(name, "container ID")
    assert repr(name) in str(refused.value)
    with pytest.raises(InvalidArgumentError):
        Scope(namespace=name)


def test_namespace_version_is_containerds_own():
    """The metadata store keeps its schema version where a namespace "version" would be: refused."""
    with pytest.raises(InvalidArgumentError, match="keeps that name for itself"):
        Scope(namespace="version")


def test_a_lease_travels_in_its_own_header():
    """Inside a lease both headers are sent."""
    assert Scope(namespace="a", lease="l 1").metadata() == {NAMESPACE_HEADER: "a", LEASE_HEADER: "l 1"}


@pytest.mark.parametrize("lease", ["", "a\nb", "a\r\ncontainerd-namespace: x", "a\0", "ä", "\x7f", "\t"])
def test_a_lease_that_would_forge_headers_is_refused(lease: str):
    """grpclib checks no outgoing header, so this package does."""
    with pytest.raises(InvalidArgumentError, match="lease ID"):
        Scope(namespace="a", lease=lease)


def test_a_scope_is_a_value():
    """Scopes compare by value, cannot be changed, and are derived instead."""
    scope = Scope(namespace="a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        scope.namespace = "b"  # type: ignore[misc]
    assert attrs.evolve(scope, lease="l") == Scope(namespace="a", lease="l")
    assert scope.lease is None
