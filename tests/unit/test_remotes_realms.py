"""Token services: where a registry may send us, and where not."""

from __future__ import annotations

import pytest

from containerd_py.remotes.origins import origin_of
from containerd_py.remotes.realms import check_realm


@pytest.mark.parametrize(
    ("realm", "registry", "listed"),
    [
        ("https://auth.docker.io/token", "https://registry-1.docker.io", None),
        ("https://gitlab.example/jwt/auth", "https://registry.gitlab.example", None),
        ("https://reg.example/token?x=1", "https://reg.example", None),
        ("https://reg.example/token", "https://reg.example", set()),
        ("https://auth.example/token", "https://reg.example", {"auth.example"}),
        ("https://auth.example:8443/token", "https://reg.example", {"auth.example:8443"}),
        ("http://localhost:5001/token", "http://localhost:5000", None),
        ("http://127.0.0.1:5001/token", "http://[::1]:5000", None),
        ("http://10.0.0.5:5001/token", "http://10.0.0.5:5000", None),
        ("https://10.0.0.5/token", "http://10.0.0.5:5000", None),
        ("https://auth.example/token", "http://localhost:5000", None),
        ("https://auth.example/token", "http://10.0.0.5:5000", {"auth.example"}),
    ],
)
def test_permitted(realm: str, registry: str, listed: set[str] | None) -> None:
    """Over https any host may be named unless a list narrows it; plain HTTP stays where the registry is."""
    assert check_realm(realm, origin_of(registry), listed) == origin_of(realm)


@pytest.mark.parametrize(
    ("realm", "registry", "listed"),
    [
        ("", "https://reg.example", None),
        ("/token", "https://reg.example", None),
        ("token", "https://reg.example", None),
        ("file:///etc/passwd", "https://reg.example", None),
        ("gopher://auth.example/", "https://reg.example", None),
        ("https://user:pw@auth.example/token", "https://reg.example", None),
        ("https://auth.example/\r\nX: y", "https://reg.example", None),
        ("https://auth.example/" + "a" * 9000, "https://reg.example", None),
        ("http://reg.example/token", "https://reg.example", None),
        ("http://auth.example/token", "https://reg.example", {"auth.example"}),
        ("http://auth.example/token", "http://10.0.0.5:5000", None),
        ("http://localhost/token", "https://reg.example", None),
        ("http://auth.example/token", "http://localhost:5000", None),
        ("http://localhost:1/token", "http://10.0.0.5:5000", None),
        ("https://auth.example/token", "http://10.0.0.5:5000", None),
        ("https://auth.example/token", "https://reg.example", set()),
        ("https://auth.example.evil.com/token", "https://reg.example", {"auth.example"}),
        ("https://auth.example:444/token", "https://reg.example", {"auth.example"}),
    ],
)
def test_refused(realm: str, registry: str, listed: set[str] | None) -> None:
    """Other schemes, user names, malformed URLs, plain HTTP elsewhere and unlisted hosts are refused."""
    with pytest.raises(ValueError):
        check_realm(realm, origin_of(registry), listed)
