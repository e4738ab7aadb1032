"""Proxies from the environment, by Go's rules."""

from __future__ import annotations

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.remotes.origins import origin_of
from containerd_py.remotes.proxies import Proxies

BOTH = {"HTTPS_PROXY": "http://p.example:1", "http_proxy": "q.example:2"}


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("https://reg.example", "", "http://p.example:1"),
        ("http://reg.example", "", "http://q.example:2"),
        ("https://localhost:5000", "", None),
        ("https://127.0.0.1:5000", "", None),
        ("https://[::1]:5000", "", None),
        ("https://reg.example", "*", None),
        ("https://reg.example", "reg.example", None),
        ("https://REG.example", " other , Reg.Example ", None),
        ("https://sub.reg.example", "reg.example", None),
        ("https://sub.reg.example", ".reg.example", None),
        ("https://sub.reg.example", "*.reg.example", None),
        ("https://reg.example", ".reg.example", "http://p.example:1"),
        ("https://myreg.example", "reg.example", "http://p.example:1"),
        ("https://reg.example:5000", "reg.example:5000", None),
        ("https://reg.example:5001", "reg.example:5000", "http://p.example:1"),
        ("https://10.1.2.3", "10.0.0.0/8", None),
        ("https://11.1.2.3", "10.0.0.0/8", "http://p.example:1"),
        ("https://10.1.2.3", "10.1.2.3", None),
        ("https://10.1.2.3:5000", "10.1.2.3:5000", None),
        ("https://[fd00::1]", "fd00::/8", None),
        ("https://[fd00::1]", "fd00::1", None),
        ("https://[fd00::1]:5000", "[fd00::1]:5000", None),
        ("https://reg.example", "nonsense/99", "http://p.example:1"),
    ],
)
def test_choice(url: str, no_proxy: str, proxy: str | None) -> None:
    """Each scheme has its proxy; loopback and what NO_PROXY names, by name, suffix, address or network, has none."""
    chosen = Proxies.from_environment({**BOTH, "no_proxy": no_proxy}).choose(origin_of(url))
    assert (chosen.reveal() if chosen else None) == proxy


def test_no_proxies() -> None:
    """Without variables there is no proxy."""
    assert Proxies.from_environment({}).choose(origin_of("https://reg.example")) is None


def test_upper_case_comes_first() -> None:
    """Where both spellings are set, the upper-case one counts."""
    proxies = Proxies.from_environment({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"})
    chosen = proxies.choose(origin_of("https://reg.example"))
    assert chosen is not None
    assert chosen.reveal() == "http://upper:1"


def test_http_proxy_under_cgi() -> None:
    """Under CGI the HTTP_PROXY variable comes from a stranger's request header and is ignored."""
    proxies = Proxies.from_environment({**BOTH, "REQUEST_METHOD": "GET"})
    assert proxies.choose(origin_of("http://reg.example")) is None


@pytest.mark.parametrize("value", ["socks5://p.example:1", "http://", "http://p.example:x", "ftp://p.example"])
def test_unusable_proxies(value: str) -> None:
    """A proxy that cannot be used is an error naming the variable, never silently passed by."""
    with pytest.raises(InvalidArgumentError, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": value})


def test_passwords_of_proxies_do_not_show() -> None:
    """A proxy's URL may hold a password and is not shown."""
    assert "canary" not in repr(Proxies.from_environment({"https_proxy": "http://me:canary@p.example:1"}))
