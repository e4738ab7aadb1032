"""Image references: the same verdicts and the same full names as distribution/reference gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError
from containerd_py.references import Reference

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA384 = "sha384:" + "0" * 96
SHA512 = "sha512:" + "f" * 128


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/library/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/team/app:1", "docker.io/team/app:1"),
        ("registry-1.docker.io/library/alpine", "registry-1.docker.io/library/alpine:latest"),
        ("team/app", "docker.io/team/app:latest"),
        ("team/sub/app", "docker.io/team/sub/app:latest"),
        ("docker.io", "docker.io/library/docker.io:latest"),
        ("localhost", "docker.io/library/localhost:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("LOCALHOST/app", "LOCALHOST/app:latest"),
        ("Team/app", "Team/app:latest"),
        ("example.com/app", "example.com/app:latest"),
        ("example.com:8443/a/b/c:v1", "example.com:8443/a/b/c:v1"),
        ("EXAMPLE.com/app", "EXAMPLE.com/app:latest"),
        ("host:443/app", "host:443/app:latest"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]/app", "[::1]/app:latest"),
        ("[2001:db8::1]:5000/app:tag", "[2001:db8::1]:5000/app:tag"),
        ("under_score.local/app", "under_score.local/app:latest"),
        ("xn--n3h.com/app", "xn--n3h.com/app:latest"),
        ("a/b__c---d.e_f", "docker.io/a/b__c---d.e_f:latest"),
        (SHA256, f"docker.io/library/{SHA256}"),  # a name and a tag, for the Go grammar too
        ("alpine:3/app", "alpine:3/app:latest"),
        (f"alpine@{SHA256}", f"docker.io/library/alpine@{SHA256}"),
        (f"alpine:3@{SHA256}", f"docker.io/library/alpine:3@{SHA256}"),
        (f"host.example/x@{SHA384}", f"host.example/x@{SHA384}"),
        (f"host.example/x@{SHA512}", f"host.example/x@{SHA512}"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128),
        ("a:_T.x-", "docker.io/library/a:_T.x-"),
        ("a.b/" + "p" * 255, "a.b/" + "p" * 255 + ":latest"),
        ("0123456789abcdef" * 4 + ":x", "docker.io/library/" + "0123456789abcdef" * 4 + ":x"),
    ],
)
def test_full_name(text: str, full: str) -> None:
    """Every accepted reference has one full name, which reads back as the same value."""
    reference = Reference.parse(text)
    assert str(reference) == full
    assert Reference.parse(full) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/",
        "//",
        "/alpine",
        "alpine/",
        "a//b",
        ":tag",
        "@" + SHA256,
        "0123456789abcdef" * 4,
        "Alpine",
        "team/App",
        "example.com/App",
        "alpine:",
        "alpine:-tag",
        "alpine:.tag",
        "alpine:" + "t" * 129,
        "alpine:a:b",
        "alpine:a/b",
        "alpine\n",
        "alpine:3\n",
        f"alpine@{SHA256}\n",
        "\nalpine",
        "alpine ",
        "al pine",
        "alpine\x00",
        "alpíne",
        "аlpine",  # noqa: RUF001  a Cyrillic letter
        "alpine:٣",
        "ａlpine",  # noqa: RUF001  a full-width letter
        "a_/b",
        "a/_b",
        "a/b-",
        "a/-b",
        "a/b..c",
        "a/b___c",
        "a/b._c",
        "a/../b",
        "./a",
        "../a",
        "host.example/../a",
        "-host.example/a",
        "host-.example/a",
        "host..example/a",
        "host.example:/a",
        "host.example:port/a",
        "under_score.local:5000/a",
        "https://host.example/a",
        "user@host.example/a",
        "[::1/a",
        "[::1]5000/a",
        "[fe80::1%eth0]/a",
        "[::ffff:127.0.0.1]/a",
        "alpine@",
        "alpine@latest",
        "alpine@sha256:",
        "alpine@sha256:" + "a" * 63,
        "alpine@sha256:" + "a" * 65,
        "alpine@sha256:" + "A" * 64,
        "alpine@sha1:" + "a" * 40,
        "alpine@md5:" + "a" * 32,
        "alpine@sha256:../../" + "a" * 58,
        f"alpine@{SHA256}:tag",
        f"alpine@{SHA256}@{SHA256}",
        f"alpine:@{SHA256}",
        "a.b/" + "p" * 256,
        "p" * 248,  # with library/ one more than 255
        "a/" * 128 + "a",
        "alpine?x=y",
        "alpine#x",
        "al%70ine",
    ],
)
def test_refused(text: str) -> None:
    """What distribution/reference refuses is refused, with an error that is both ours and a ValueError."""
    with pytest.raises(InvalidArgumentError) as caught:
        Reference.parse(text)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 1000


def test_longest_path() -> None:
    """255 characters of repository are accepted, 256 are not; the registry does not count."""
    assert Reference.parse("h" * 200 + ".example/" + "p" * 255).path == "p" * 255


def test_parts() -> None:
    """Registry, repository, tag and digest are told apart, and what to ask for is the digest before the tag."""
    reference = Reference.parse(f"localhost:5000/team/app:v1@{SHA256}")
    assert (reference.domain, reference.path, reference.tag, reference.digest) == (
        "localhost:5000",
        "team/app",
        "v1",
        SHA256,
    )
    assert reference.object == SHA256
    assert reference.with_digest(None).object == "v1"
    assert reference.name == "localhost:5000/team/app"


def test_digest_alone_has_no_tag() -> None:
    """A reference by digest gets no default tag."""
    assert Reference.parse(f"alpine@{SHA256}").tag is None


def test_host_of_docker_hub() -> None:
    """Docker Hub's registry is not at docker.io; every other registry is at its name."""
    assert Reference.parse("alpine").host == "registry-1.docker.io"
    assert Reference.parse("localhost:5000/a").host == "localhost:5000"


def test_familiar() -> None:
    """The short form leaves out what parsing fills in, but never the tag."""
    assert Reference.parse("alpine").familiar == "alpine:latest"
    assert Reference.parse("team/app:1").familiar == "team/app:1"
    assert Reference.parse("docker.io/library/a/b").familiar == "library/a/b:latest"
    assert Reference.parse("ghcr.io/a/b").familiar == "ghcr.io/a/b:latest"


def test_with_tag_and_digest_check() -> None:
    """Derived references are checked as strictly as parsed ones."""
    reference = Reference.parse("alpine:3")
    assert str(reference.with_digest(SHA256)) == f"docker.io/library/alpine:3@{SHA256}"
    assert str(reference.with_tag("4")) == "docker.io/library/alpine:4"
    for broken in ("", "a b", "x\n"):
        with pytest.raises(InvalidArgumentError):
            reference.with_tag(broken)
        with pytest.raises(InvalidArgumentError):
            reference.with_digest(broken)
    with pytest.raises(InvalidArgumentError):
        reference.with_tag(None)


@pytest.mark.parametrize(
    ("domain", "path"), [("docker.io", "alpine"), ("index.docker.io", "a/b"), ("team", "app"), ("a/b.c", "app")]
)
def test_parts_that_would_not_read_back(domain: str, path: str) -> None:
    """A value that would parse differently from what it holds cannot be made."""
    with pytest.raises(InvalidArgumentError):
        Reference(domain=domain, path=path, tag="latest")


def test_hostile_length_is_refused_unread() -> None:
    """What is longer than any reference is refused by its length, whatever it is made of, and so are single parts."""
    for text in ("a" * 1_000_000, "a." * 500_000, "a-" * 500_000 + "/x", "a/" * 500_000, "[" + ":" * 1_000_000 + "/a"):
        with pytest.raises(InvalidArgumentError, match=f"^{len(text)} characters are no image reference: '.{{64}}…'$"):
            Reference.parse(text)
    with pytest.raises(InvalidArgumentError, match="the registry has 1000001 characters, more than 512"):
        Reference(domain="a-" * 500_000 + "/", path="x", tag="latest")
    with pytest.raises(InvalidArgumentError, match="the repository has 1000000 characters, more than 255"):
        Reference(domain="a.b", path="a/" * 500_000, tag="latest")


@given(st.text(alphabet="aZ0./:@-_[]\n ab%é", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Whatever the text, it is a reference that reads back as itself, or an InvalidArgumentError."""
    try:
        reference = Reference.parse(text)
    except InvalidArgumentError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


_part = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?", fullmatch=True)
_domain = st.from_regex(
    r"([a-z0-9]{1,8}\.){1,3}[a-z]{2,3}(:[0-9]{1,5})?|localhost|\[:[0-9a-f:]{1,20}\]", fullmatch=True
)


@given(
    st.one_of(st.just("docker.io"), _domain),
    st.lists(_part, min_size=2, max_size=4).map("/".join),
    st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
    st.sampled_from([None, SHA256, SHA384, SHA512]),
)
def test_round_trip(domain: str, path: str, tag: str | None, digest: str | None) -> None:
    """parse(str(x)) == x for every reference there is."""
    reference = Reference(domain=domain, path=path, tag=tag or (None if digest else "latest"), digest=digest)
    assert Reference.parse(str(reference)) == reference
