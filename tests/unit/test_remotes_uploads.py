"""Where uploads go, what they are mounted from, and how content is handed out in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from containerd_py._flows.content_labels import mount_candidate
from containerd_py.errors import InvalidArgumentError, RegistryError, SizeMismatchError
from containerd_py.references import Reference
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.listing import next_link
from containerd_py.remotes.origins import origin_of
from containerd_py.remotes.referrers import fallback_tag
from containerd_py.remotes.sending import Content, Sending
from containerd_py.remotes.upload_places import Place, place_of

DIGEST = "sha256:" + "a" * 64
HERE = "https://registry.example/v2/app/blobs/uploads/"


class Answer:
    """As much of an answer as a place is read from."""

    host = "registry.example"
    status = 202
    asked = f"POST {HERE}"
    url = HERE

    def __init__(self, location: str | None) -> None:
        self._location = location

    def header(self, name: str) -> str | None:
        return self._location if name == "Location" else None


def read_place(location: str | None, **options: Any) -> Place:
    return place_of(Answer(location), origin_of(HERE), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2/app/blobs/uploads/1", "https://registry.example/v2/app/blobs/uploads/1"),
        ("1?state=x", "https://registry.example/v2/app/blobs/uploads/1?state=x"),
        (
            "https://registry.example/v2/app/blobs/uploads/1?a=%2B",
            "https://registry.example/v2/app/blobs/uploads/1?a=%2B",
        ),
        ("https://storage.example/put?signature=s%3D", "https://storage.example/put?signature=s%3D"),
        ("//storage.example/put", "https://storage.example/put"),
        ("http://registry.example/v2/app/blobs/uploads/1", "https://registry.example/v2/app/blobs/uploads/1"),
        ("http://registry.example:443/v2/x", "https://registry.example/v2/x"),
        ("/v2/x#fragment", "https://registry.example/v2/x"),
    ],
)
def test_places(location: str, url: str):
    """A Location is read relative to what was asked; one that forgot about TLS at the registry itself is meant."""
    assert read_place(location).url == url


@pytest.mark.parametrize(
    "location",
    [
        "http://storage.example/put",
        "http://registry.example:8080/v2/x",
        "ftp://registry.example/x",
        "https://me:secret@registry.example/x",
        "https:///x",
        "https://registry.example/\r\nX: y",
        "x" * 9000,
    ],
)
def test_places_that_nothing_is_sent_to(location: str):
    """What leaves TLS, is malformed or carries a user name is refused, without showing secrets."""
    with pytest.raises(RegistryError) as caught:
        read_place(location)
    assert "secret" not in str(caught.value)


def test_an_answer_without_a_location():
    """The first answer must say where the upload goes; later ones may leave it as it is."""
    with pytest.raises(RegistryError, match="Location"):
        read_place(None)
    assert read_place(None, offset=5, before=Place(url=HERE)) == Place(url=HERE, offset=5)


@pytest.mark.parametrize(
    ("url", "closing"),
    [
        ("https://a/u", "https://a/u?digest=sha256%3A" + "a" * 64),
        ("https://a/u?s=%2F", "https://a/u?s=%2F&digest=sha256%3A" + "a" * 64),
        ("https://a/u?digest=other", "https://a/u?digest=other"),
    ],
)
def test_the_last_request_names_the_digest(url: str, closing: str):
    """The digest follows the place's own query, untouched as that is."""
    assert Place(url=url).closing_url(DIGEST) == closing


# ── mounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

KEY = "containerd.io/distribution.source"


@pytest.mark.parametrize(
    ("labels", "candidate"),
    [
        ([], None),
        ([{}], None),
        ([{f"{KEY}.registry.example": "team/app"}], None),  # what is pushed to
        ([{f"{KEY}.other.example": "team/old"}], None),
        ([{f"{KEY}.registry.example": "library/x,team/old,zoo"}], "team/old"),
        ([{f"{KEY}.registry.example": "a,b,c"}], "c"),  # as containerd: the last of equals
        ([{f"{KEY}.registry.example": "team/app/deeper,team/ap"}], "team/app/deeper"),
        ([{}, {f"{KEY}.registry.example": "from/parent"}], "from/parent"),
        ([{f"{KEY}.registry.example": "own"}, {f"{KEY}.registry.example": "team/parent"}], "own"),
        ([{f"{KEY}.registry.example": "../etc,a?b=c,team/%2e"}], None),
    ],
)
def test_the_nearest_repository_is_mounted_from(labels: list[dict[str, str]], candidate: str | None):
    """Of the repositories that labels name at this registry the one with the most like path is taken."""
    reference = Reference.parse("registry.example:5000/team/app:1")
    assert mount_candidate(reference, labels) == candidate


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "link"),
    [
        ([], None),
        (['</v2/x/tags/list?n=1&last=a>; rel="next"'], "/v2/x/tags/list?n=1&last=a"),
        (["</v2/x>; rel=next"], "/v2/x"),
        (['</v2/x>; rel="prev", </v2/y>; title="a"; REL="next"'], "/v2/y"),
        (['</v2/x>; rel="prev"', '</v2/y>; rel="next"'], "/v2/y"),
        (['</v2/x>; rel="prev"'], None),
        (["</v2/x>; rel=nextish"], None),
        (["nonsense"], None),
        (['<a b>; rel="next"'], None),
        (["<" * 10000], None),
        (['<x>; rel="next"' * 5000], None),
    ],
)
def test_where_a_list_goes_on(headers: list[str], link: str | None):
    """The link to the next page is found among others, and nothing else is taken for it."""
    assert next_link(headers) == link


def test_the_fallback_tag_of_a_digest():
    """What refers to a manifest is under its digest with a dash, cut to what a tag may be."""
    assert fallback_tag(DIGEST) == "sha256-" + "a" * 64
    assert fallback_tag("sha512:" + "b" * 128) == "sha512-" + "b" * 64


@pytest.mark.parametrize(
    "options",
    [
        {"layer_parallelism": 0},
        {"layer_parallelism": 33},
        {"layer_chunk_size": 1000},
        {"upload_chunk_size": 0},
        {"max_pages": 0},
    ],
)
def test_limits_that_cannot_be(options: dict[str, int]):
    """Limits that would never let anything through, or far too much, are refused by name."""
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        RegistryLimits(**options)


# ── content in pieces ───────────────────────────────────────────────────────────────────────────────────────────────


class Chunks:
    """Content that comes in chunks, each after a pause."""

    def __init__(self, *chunks: bytes, pause: float = 0) -> None:
        self._chunks = iter(chunks)
        self._pause = pause

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(self._pause)
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


async def test_pieces_are_the_content_and_reported_once_taken():
    """Whatever the chunks are, the pieces together are the content; what is reported never runs ahead."""
    reports: list[int] = []
    data = bytes(range(256)) * 4096
    with anyio.CancelScope() as scope:
        content = Content(chunks=Chunks(data[:1], b"", data[1:]), size=len(data), report=reports.append)
        sending = Sending(content, RegistryLimits(), scope)
        pieces = []
        async for piece in sending:
            assert sum(map(len, pieces)) == (reports or [0])[-1]
            pieces.append(bytes(piece))
    assert b"".join(pieces) == data
    assert reports[-1] == len(data)
    assert max(map(len, pieces)) > min(map(len, pieces))  # they grow while they are taken quickly
    assert sending.has_ended


@pytest.mark.parametrize("size", [2, 4])
async def test_content_of_another_size(size: int):
    """Content that is longer or shorter than was said never passes for whole."""
    with anyio.CancelScope() as scope:
        sending = Sending(Content(chunks=Chunks(b"a", b"bc"), size=size), RegistryLimits(), scope)
        with pytest.raises(SizeMismatchError):
            async for _ in sending:
                pass
    assert sending.failure is not None


async def test_content_is_not_sent_twice():
    """An HTTP client that repeats a request by itself gets no rest of the content for the whole."""
    with anyio.CancelScope() as scope:
        sending = Sending(Content(chunks=Chunks(b"a", b"b"), size=2), RegistryLimits(), scope)
        await anext(aiter(sending))
        with pytest.raises(ConnectionResetError):
            aiter(sending)


async def test_only_the_peer_can_stall():
    """Content that is slow to come stalls nothing; a piece that is not taken does."""
    limits = RegistryLimits(stall_timeout=0.05, commit_timeout=0.05)
    with anyio.CancelScope() as scope:
        sending = Sending(Content(chunks=Chunks(b"a", b"b", pause=0.1), size=2), limits, scope)
        await anext(sending)
        await anext(sending)
    assert not scope.cancel_called
    with anyio.CancelScope() as scope:
        sending = Sending(Content(chunks=Chunks(b"a"), size=1), limits, scope)
        await anext(sending)
        await anyio.sleep(5)
    assert scope.cancelled_caught


async def test_a_trickle_is_a_stall():
    """Pieces that are taken, but ever so slowly, end it."""
    limits = RegistryLimits(min_rate=1024, min_rate_window=0.1)
    with anyio.CancelScope() as scope:
        sending = Sending(Content(chunks=Chunks(*[b"a"] * 100), size=100), limits, scope)
        async for _ in sending:
            await anyio.sleep(0.03)
    assert scope.cancelled_caught
    assert sending.is_slow
