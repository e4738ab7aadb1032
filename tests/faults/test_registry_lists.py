"""Lists of a registry that never end, lead elsewhere or hold nonsense; referrers; manifests that are deleted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from containerd_py import Registry
from containerd_py.errors import InvalidArgumentError, RegistryError, RegistryNotFoundError
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.types import Descriptor
from tests.harness.registry import MANIFESTS, FaultyRegistry, open_registry, open_token_server
from tests.harness.registry_actions import Call, Drop, ReplaceBody, Respond, SetHeaders, json_response

QUICK = RegistryLimits(stall_timeout=0.5, first_backoff=0.01, max_backoff=0.05, max_pages=5, max_listed=50)
SOMEWHERE = Registry(limits=QUICK)
TAGS = r"/tags/list$"


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with open_registry() as registry:
        yield registry


def add_tags(registry: FaultyRegistry, count: int) -> list[str]:
    names = [f"tag-{number:03}" for number in range(count)]
    for name in names:
        registry.add_image([], repository="team/app", tag=name)
    return names


async def tags_of(registry: FaultyRegistry, options: Registry = SOMEWHERE) -> list[str]:
    async with options.open_repository(registry.reference("team/app")) as repository:
        return await repository.list_tags()


async def test_pages_are_followed(registry: FaultyRegistry):
    """A list that comes page by page is put together, each name once."""
    names = add_tags(registry, 25)
    registry.fault(SmallPages(registry), path=TAGS)
    assert await tags_of(registry) == names
    assert len(registry.matching(TAGS)) == 3


def SmallPages(registry: FaultyRegistry) -> Call:
    """Answer with ten names at a time, whatever was asked for."""

    async def answer(request):
        request.target = request.target.replace("n=1000", "n=10")
        return await registry.service.handle(request)

    return Call(answer)


async def test_a_list_of_nothing(registry: FaultyRegistry):
    """Null, an empty list and no list at all are no tags."""
    for body in (b'{"name":"x","tags":null}', b'{"tags":[]}', b'{"name":"x"}'):
        registry.clear()
        registry.fault(Respond(200, body), path=TAGS)
        assert await tags_of(registry) == []


@pytest.mark.parametrize("number", [51, 1000])
async def test_too_many(registry: FaultyRegistry, number: int):
    """A list longer than the limit is an error, not a cut list."""
    names = [f"t{each}" for each in range(number)]
    registry.fault(Respond(200, json.dumps({"tags": names}).encode()), path=TAGS)
    with pytest.raises(RegistryError, match="more than 50"):
        await tags_of(registry)


async def test_as_many_as_may_be(registry: FaultyRegistry):
    """The limit itself is no error."""
    names = [f"t{each}" for each in range(50)]
    registry.fault(Respond(200, json.dumps({"tags": names}).encode()), path=TAGS)
    assert await tags_of(registry) == names


async def test_pages_without_end(registry: FaultyRegistry):
    """A list that always goes on ends at the limit of pages."""

    async def answer(request):
        response = json_response({"tags": [f"t{len(registry.requests)}"]})
        response.headers.set("Link", f'</v2/team/app/tags/list?last={len(registry.requests)}>; rel="next"')
        return response

    registry.fault(Call(answer), path=TAGS)
    with pytest.raises(RegistryError, match="5 pages"):
        await tags_of(registry)
    assert len(registry.requests) == 5


async def test_a_page_that_leads_to_itself(registry: FaultyRegistry):
    """A list that leads in a circle is an error."""
    add_tags(registry, 1)
    registry.fault(SetHeaders({"Link": '</v2/team/app/tags/list?n=1000>; rel="next"'}), path=TAGS)
    with pytest.raises(RegistryError, match="circle"):
        await tags_of(registry)
    assert len(registry.requests) == 1


async def test_pages_on_another_host_are_not_fetched(registry: FaultyRegistry):
    """A list never goes on at another origin: not even a question goes there, and no credentials."""
    add_tags(registry, 1)
    registry.require_basic("me", "c4n4ry")
    async with open_registry(host="127.0.0.2") as other:
        options = Registry(limits=QUICK, credentials={registry.address: ("me", "c4n4ry")})
        for link in (f"{other.url}/v2/x", "//127.0.0.2/x", "http://169.254.169.254/latest", "file:///etc/passwd"):
            registry.clear()
            registry.fault(
                SetHeaders({"Link": f'<{link}>; rel="next"'}), path=TAGS, match=lambda r: "Authorization" in r.headers
            )
            with pytest.raises(RegistryError, match="not followed"):
                await tags_of(registry, options)
        assert other.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"tags":"latest"}',
        b'{"tags":[1]}',
        b'{"tags":["../../etc"]}',
        b'{"tags":["a\\nb"]}',
        b'{"tags":["ok"],"tags":["other"]}',
        b"[" * 100_000,
        b'{"tags":["' + b"a" * 200 + b'"]}',
        b" " * (9 * 1024 * 1024),
    ],
)
async def test_what_is_no_list(registry: FaultyRegistry, body: bytes):
    """What is no list of tags is a typed error, of whatever size."""
    registry.fault(Respond(200, body), path=TAGS)
    with pytest.raises(RegistryError):
        await tags_of(registry)


async def test_an_answer_that_breaks_off(registry: FaultyRegistry):
    """A page that breaks off is asked for again."""
    names = add_tags(registry, 3)
    registry.fault(Drop(5), path=TAGS, nth=1)
    assert await tags_of(registry) == names


async def test_repositories(registry: FaultyRegistry):
    """All repositories of a registry are listed; what is no registry's address is refused."""
    add_tags(registry, 1)
    registry.add_image([], repository="other")
    assert await SOMEWHERE.list_repositories(registry.address) == ["other", "team/app"]
    with pytest.raises(InvalidArgumentError):
        await SOMEWHERE.list_repositories("no host/at all")


# ── referrers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def add_referrer(registry: FaultyRegistry, subject: Descriptor, kind: str, **options: object) -> Descriptor:
    config = registry.add_blob(b"{}", repository="team/app", media_type="application/vnd.oci.empty.v1+json")
    plain = {"mediaType": config.media_type, "digest": config.digest, "size": config.size}
    about = {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size}
    document = {"schemaVersion": 2, "artifactType": kind, "config": plain, "layers": [], "subject": about}
    return registry.add_manifest(document, repository="team/app", **options)  # type: ignore[arg-type]


async def referrers_of(registry: FaultyRegistry, subject: Descriptor, *types: str) -> list[str | None]:
    async with SOMEWHERE.open_repository(registry.reference("team/app")) as repository:
        return sorted(each.artifact_type or "" for each in await repository.referrers(subject, types))


async def test_referrers_are_filtered(registry: FaultyRegistry):
    """Hosts may filter by type or not: what comes is of the types asked for."""
    image = registry.add_image([], repository="team/app")
    for kind in ("a/x", "a/y", "a/z"):
        add_referrer(registry, image, kind)
    assert await referrers_of(registry, image) == ["a/x", "a/y", "a/z"]
    assert await referrers_of(registry, image, "a/y") == ["a/y"]
    assert await referrers_of(registry, image, "a/y", "a/z", "a/none") == ["a/y", "a/z"]
    assert [each.target.partition("?")[2] for each in registry.matching("/referrers/")] == [
        "",
        "artifactType=a%2Fy",
        "",
    ]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_the_fallback_tag(registry: FaultyRegistry, status: int):
    """Without the API the index under the fallback tag tells, and without that there is nothing."""
    image = registry.add_image([], repository="team/app")
    registry.fault(Respond(status), path="/referrers/")
    assert await referrers_of(registry, image) == []
    found = add_referrer(registry, image, "a/x")
    entry = {"mediaType": found.media_type, "digest": found.digest, "size": found.size, "artifactType": "a/x"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    tag = image.digest.replace(":", "-")
    registry.add_manifest(index, repository="team/app", tag=tag, media_type=index["mediaType"])
    assert await referrers_of(registry, image) == ["a/x"]
    assert await referrers_of(registry, image, "a/other") == []


@pytest.mark.parametrize("status", [400, 401, 403, 500])
async def test_failures_are_no_empty_list(registry: FaultyRegistry, status: int):
    """A registry that refuses to tell is a typed error, not an image without referrers."""
    image = registry.add_image([], repository="team/app")
    registry.fault(Respond(status), path="/referrers/")
    with pytest.raises(RegistryError):
        await referrers_of(registry, image)


@pytest.mark.parametrize("body", [b"<html>", b'{"manifests":[{"digest":"../x"}]}', b'{"layers":[]}'])
async def test_what_is_no_list_of_referrers(registry: FaultyRegistry, body: bytes):
    """What is no index is a typed error, from the API as from the fallback tag."""
    image = registry.add_image([], repository="team/app")
    registry.fault(ReplaceBody(body), path="/referrers/")
    with pytest.raises(RegistryError):
        await referrers_of(registry, image)
    registry.clear()
    registry.fault(Respond(404), path="/referrers/")
    registry.fault(Respond(200, body), path=MANIFESTS)
    with pytest.raises(RegistryError):
        await referrers_of(registry, image)


# ── deletion ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_deletion_asks_for_the_right(registry: FaultyRegistry):
    """A manifest or a tag is deleted with the scope for that; what is neither is refused before anything is asked."""
    image = registry.add_image([], repository="team/app", tag="one")
    async with open_token_server() as tokens, SOMEWHERE.open_repository(registry.reference("team/app")) as repository:
        registry.require_tokens(tokens)
        await repository.delete_manifest("one")
        assert registry.content.repository("team/app").tags == {}
        await repository.delete_manifest(image)
        assert any("repository:team/app:delete" in token.scopes for token in tokens.issued)
        with pytest.raises(RegistryNotFoundError):
            await repository.delete_manifest(image)
        asked = len(registry.requests)
        for nonsense in ("", "../x", "sha256:short", "a b"):
            with pytest.raises(InvalidArgumentError):
                await repository.delete_manifest(nonsense)
        assert len(registry.requests) == asked


async def test_registries_that_delete_nothing(registry: FaultyRegistry):
    """405 comes out with its status."""
    image = registry.add_image([], repository="team/app")
    registry.fault(Respond(405, code="UNSUPPORTED"), method="DELETE")
    async with SOMEWHERE.open_repository(registry.reference("team/app")) as repository:
        with pytest.raises(RegistryError) as caught:
            await repository.delete_manifest(image)
    assert (caught.value.status, caught.value.code) == (405, "UNSUPPORTED")
