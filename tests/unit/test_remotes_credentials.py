"""Credentials: looked up by the one exact name of a registry, and by no other."""

from __future__ import annotations

import threading

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.remotes.credentials import Credential, key_of, look_up, sealed
from containerd_py.remotes.origins import origin_of
from containerd_py.remotes.secret import Secret

ME = Credential(username="me", secret="pw")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://reg.example", "reg.example"),
        ("https://REG.example:443", "reg.example"),
        ("https://reg.example:5000", "reg.example:5000"),
        ("http://reg.example", "reg.example"),
        ("http://localhost:5000", "localhost:5000"),
        ("https://registry-1.docker.io", "docker.io"),
        ("https://docker.io", "docker.io"),
        ("https://index.docker.io", "docker.io"),
        ("http://docker.io", "docker.io"),
        ("https://docker.io:444", "docker.io:444"),
        ("https://[::1]:5000", "[::1]:5000"),
    ],
)
def test_key(url: str, key: str) -> None:
    """A registry's credentials are kept under host and port; Docker Hub's three names are one."""
    assert key_of(origin_of(url)) == key


@pytest.mark.parametrize(
    ("key", "url", "found"),
    [
        ("reg.example", "https://reg.example", True),
        ("REG.example", "https://reg.EXAMPLE", True),
        ("reg.example:443", "https://reg.example", True),
        ("reg.example:80", "http://reg.example", True),
        ("docker.io", "https://registry-1.docker.io", True),
        ("index.docker.io", "https://registry-1.docker.io", True),
        ("registry-1.docker.io", "https://registry-1.docker.io", True),
        ("[::1]:5000", "http://[::1]:5000", True),
        ("reg.example", "https://reg.example.evil.com", False),
        ("reg.example", "https://evil-reg.example", False),
        ("reg.example", "https://sub.reg.example", False),
        ("reg.example", "https://reg.example:5000", False),
        ("reg.example:5000", "https://reg.example", False),
        ("reg.example:443", "http://reg.example", False),
        ("reg.example", "https://reg.example.", False),
        ("bücher.example".encode("idna").decode(), "https://bucher.example", False),
        ("docker.io", "https://auth.docker.io", False),
        ("docker.io", "https://docker.io:444", False),
    ],
)
async def test_exact_match_only(key: str, url: str, found: bool) -> None:
    """Credentials go to the host they were given for: no prefix, suffix, subdomain, other port or final dot."""
    assert await look_up(sealed({key: ("me", "pw")}), origin_of(url)) == (ME if found else None)


@pytest.mark.parametrize(
    "key", ["", "https://reg.example", "reg.example/path", "user@reg.example", "a b", "reg.example:"]
)
def test_keys_that_are_no_host(key: str) -> None:
    """A key that is no host, or host and port, would never match and is refused."""
    with pytest.raises(InvalidArgumentError):
        sealed({key: ("me", "pw")})


@pytest.mark.parametrize("value", ["me:pw", ("me",), ("me", 5), None, ("a", "b", "c")])
def test_values_that_are_no_pair(value: object) -> None:
    """A value that is no pair of texts is refused, without being shown."""
    with pytest.raises(InvalidArgumentError):
        sealed({"reg.example": value})


@pytest.mark.parametrize("source", ["user:hidden", ("user", "hidden")])
def test_no_mapping(source: object) -> None:
    """Credentials are given by registry; the error does not show what was given instead."""
    with pytest.raises(InvalidArgumentError, match="mapping by registry") as caught:
        sealed(source)  # type: ignore[arg-type]
    assert "hidden" not in str(caught.value)


async def test_no_source() -> None:
    """Without a source nobody is told anything."""
    assert await look_up(None, origin_of("https://reg.example")) is None


async def test_callbacks() -> None:
    """A plain callable runs off the event loop, an asynchronous one on it; both get the registry's one name."""
    seen: list[tuple[str, bool]] = []
    main = threading.get_ident()

    def plain(host: str) -> tuple[str, str] | None:
        seen.append((host, threading.get_ident() == main))
        return ("me", "pw") if host == "docker.io" else None

    async def asynchronous(host: str) -> Credential:
        seen.append((host, threading.get_ident() == main))
        return Credential(username="me", secret=Secret("pw"))

    class Keeper:
        async def __call__(self, host: str) -> tuple[str, Secret] | None:
            return ("me", Secret("pw")) if host == "docker.io" else None

    hub = origin_of("https://registry-1.docker.io")
    assert await look_up(plain, hub) == ME
    assert await look_up(plain, origin_of("https://other.example")) is None
    assert await look_up(asynchronous, hub) == ME
    assert await look_up(Keeper(), hub) == ME
    assert seen == [("docker.io", False), ("other.example", False), ("docker.io", True)]


async def test_callback_s_nonsense() -> None:
    """A callback that answers something else is told so."""
    with pytest.raises(InvalidArgumentError):
        await look_up(lambda _: "me:pw", origin_of("https://reg.example"))  # type: ignore[arg-type,return-value]
