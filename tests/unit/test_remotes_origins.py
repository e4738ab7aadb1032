"""URLs from strangers: origins told apart strictly, addresses judged by how near they are, secrets not shown."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.remotes.origins import Origin, Reach, literal, origin_of, reach_of, shown, target_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host.example", ("https", "host.example", 443)),
        ("https://HOST.example:443/x?y", ("https", "host.example", 443)),
        ("http://host.example:5000/", ("http", "host.example", 5000)),
        ("HTTP://host.example", ("http", "host.example", 80)),
        ("https://127.0.0.1:1", ("https", "127.0.0.1", 1)),
        ("https://[::1]:5000/v2", ("https", "::1", 5000)),
        ("https://under_score.example", ("https", "under_score.example", 443)),
        ("https://host.example.", ("https", "host.example.", 443)),
    ],
)
def test_origin(url: str, expected: tuple[str, str, int]) -> None:
    """Scheme and host are in lower case, the port is filled in, a final dot is another host."""
    assert origin_of(url) == Origin(scheme=expected[0], host=expected[1], port=expected[2])


@pytest.mark.parametrize(
    "url",
    [
        "", "host.example", "//host.example", "file:///etc/passwd", "gopher://host", "ftp://host", "unix:///run/x.sock",
        "https://", "https:///path", "https://user@host.example", "https://user:secret@host.example", "https://@host",
        "https://host.example:", "https://host.example:0", "https://host.example:65536", "https://host.example:x",
        "https://host\nevil", "https://host.example/\r\nX-Evil: 1", "https://host example", "https://hóst.example",
        "https://host\\@evil.example", "https://host%2eexample", "https://[::1", "https://[::1%eth0]", "https://[zz]",
        "https://2130706433", "https://127.1", "https://0177.0.0.1", "https://127.0.0.1.",
        "https://host:443:80", "javascript:alert(1)", "https://" + "a" * 9000, "https://host\x00.example",
    ],
)  # fmt: skip
def test_origin_refuses(url: str) -> None:
    """What is no plain http or https URL has no origin: other schemes, user names, line ends, malformed hosts."""
    with pytest.raises(ValueError):
        origin_of(url)


def test_authority_leaves_out_the_default_port() -> None:
    """The name of an origin has its port only where it is not the scheme's own."""
    assert origin_of("https://host:443").authority == "host"
    assert origin_of("http://host:443").authority == "host:443"
    assert origin_of("http://[::1]:5000").authority == "[::1]:5000"
    assert str(origin_of("http://[::1]:80/x")) == "http://[::1]"


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("127.0.0.1", Reach.LOCAL),
        ("127.255.0.9", Reach.LOCAL),
        ("0.0.0.0", Reach.LOCAL),
        ("0.1.2.3", Reach.LOCAL),
        ("169.254.169.254", Reach.LOCAL),
        ("224.0.0.1", Reach.LOCAL),
        ("255.255.255.255", Reach.LOCAL),
        ("::1", Reach.LOCAL),
        ("::", Reach.LOCAL),
        ("fe80::1", Reach.LOCAL),
        ("ff02::1", Reach.LOCAL),
        ("::ffff:127.0.0.1", Reach.LOCAL),
        ("64:ff9b::7f00:1", Reach.LOCAL),
        ("64:ff9b::a9fe:a9fe", Reach.LOCAL),
        ("2002:7f00:1::", Reach.LOCAL),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("10.1.2.3", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("100.100.100.200", Reach.PRIVATE),
        ("fd00:ec2::254", Reach.PRIVATE),
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1", Reach.PUBLIC),
        ("64:ff9b::808:808", Reach.PUBLIC),
    ],
)
def test_reach(address: str, reach: Reach) -> None:
    """This machine, its network and the world are told apart, also when wrapped in an IPv6 address."""
    assert reach_of(ipaddress.ip_address(address)) is reach


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True), ("LOCALHOST", True),
        ("localhost.example", False), ("127.0.0.1.example", False), ("10.0.0.1", False), ("host.localhost", False),
        ("0x7f.1", False),
    ],
)  # fmt: skip
def test_loopback_by_its_usual_names_only(host: str, loopback: bool) -> None:
    """Only localhost, 127.0.0.0/8 and ::1 in their usual notation count as loopback (containerd, MatchLocalhost)."""
    assert origin_of(f"https://{host}").is_loopback is loopback


@pytest.mark.parametrize(
    ("base", "location", "target"),
    [
        ("https://a.example/v2/x/blobs/y", "/z", "https://a.example/z"),
        ("https://a.example/v2/x/blobs/y", "z?q=1#frag", "https://a.example/v2/x/blobs/z?q=1"),
        ("https://a.example/v2", "//b.example/z", "https://b.example/z"),
        ("https://a.example/v2", "http://b.example/z", "http://b.example/z"),
        ("https://a.example/v2", "https://b.example/z?sig=a%2Fb+c%3D", "https://b.example/z?sig=a%2Fb+c%3D"),
    ],
)
def test_target(base: str, location: str, target: str) -> None:
    """A Location may be relative; a signed one stays as it is, to the letter."""
    assert target_of(base, location) == target


def test_shown_hides_user_and_query() -> None:
    """Messages show a URL without user name and query values, except the namespace told to mirrors."""
    text = shown("https://me:pw@host.example/v2/x?ns=docker.io&X-Sig=canary&token=canary")
    assert "canary" not in text
    assert "pw" not in text
    assert "ns=docker.io" in text
    assert text.startswith("https://host.example/v2/x?")
    assert len(shown("https://host.example/" + "a" * 9000)) < 400
    assert shown("https://[zz") == "(malformed URL)"


@given(st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    """Whatever the text, it has an origin or a ValueError, and can be shown."""
    assert "\n" not in shown("https://host/" + text)
    assert literal(text) is None or ":" in text or "." in text
    try:
        origin = origin_of("https://" + text)
    except ValueError:
        return
    assert origin_of(str(origin)) == origin
