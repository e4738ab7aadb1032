"""Pushes to registries that misbehave: resumed where they may be, typed errors, and the next push succeeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import attrs
import pytest

from containerd_py import Client, Image, Registry, connect, deleting
from containerd_py.errors import (
    DigestMismatchError,
    NotFoundError,
    RegistryAuthenticationError,
    RegistryError,
    RegistryPermissionError,
    RegistryRateLimitedError,
    RegistryStalledError,
    RegistryUnavailableError,
    UnavailableError,
)
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.types import Descriptor
from tests.faults.layers import tar_layer
from tests.faults.upload_actions import AnswerEarly, KeepPart, TakeNothing
from tests.harness.cancel import Mode, Tally, sweep
from tests.harness.registry import MANIFESTS, UPLOADS, Authority, FaultyRegistry, open_registry, open_token_server
from tests.harness.registry_actions import (
    Call,
    Delay,
    Drop,
    DropUpload,
    Redirect,
    Respond,
    SetHeaders,
    Stall,
    too_many_requests,
)
from tests.integration.pulled import left_in

# What a registry does to us is the same with every daemon line; what the daemon has a part in is tested on all.
pytestmark = pytest.mark.lines("2.1")
ON_ALL = pytest.mark.lines("1.6", "1.7", "2.1")

MIB = 1024 * 1024
LAYER_SIZE = 4 * MIB
QUICK = RegistryLimits(
    connect_timeout=2.0,
    stall_timeout=0.5,
    commit_timeout=1.0,
    first_backoff=0.01,
    max_backoff=0.05,
    max_retry_after=2.0,
)
IMPATIENT = Registry(limits=QUICK)
EVERY = 4  # the storm session visits every point


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with open_registry() as registry:
        yield registry


@pytest.fixture
async def image(client: Client) -> AsyncIterator[Image]:
    """Lend an image with one layer of 4 MiB, from a registry that is gone."""
    async with open_registry(host="127.0.0.2") as source:
        source.add_image([tar_layer("file", LAYER_SIZE)])
        image = await client.pull(source.reference("library/test"), unpack=False, via="client")
    async with deleting(image):
        yield image


@pytest.fixture
async def layer(image: Image) -> Descriptor:
    return (await image.manifest()).layers[0]


def ref_of(registry: FaultyRegistry) -> str:
    return registry.reference("team/app:1")


def is_layer(layer: Descriptor):
    """Match the requests that bring the layer: to uploads, with more than a configuration."""
    return lambda request: int(request.headers.get("Content-Length") or 0) > MIB


def is_closing(layer: Descriptor):
    """Match the request that ends the layer's upload."""
    return lambda request: layer.digest.removeprefix("sha256:") in request.target


async def check_arrived(client: Client, registry: FaultyRegistry, image: Image) -> None:
    """See that the image is there whole, under its tag, and nothing is left here."""
    registry.assert_all_fired()
    found = registry.content.repository("team/app")
    assert found.tags == {"1": image.target.digest}
    manifest = await image.manifest()
    assert set(found.blobs) == {blob.digest for blob in (manifest.config, *manifest.layers)}
    left = await left_in(client)
    assert (left.leases, left.ingests) == (0, 0)


async def check_afterlife(client: Client, registry: FaultyRegistry, image: Image) -> None:
    """Push once more, undisturbed, on the same client."""
    registry.assert_all_fired()
    registry.clear()
    assert (await left_in(client)).leases == 0
    await client.push(ref_of(registry), source=image, via="client")
    await check_arrived(client, registry, image)


async def push(client: Client, registry: FaultyRegistry, image: Image, options: Registry = IMPATIENT) -> Descriptor:
    with anyio.fail_after(30):
        return await client.push(ref_of(registry), source=image, registry=options, via="client")


# ── connections that break ──────────────────────────────────────────────────────────────────────────────────────────


@ON_ALL
async def test_an_upload_is_resumed_at_the_exact_byte(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """What a registry has kept of an upload whose connection broke is not sent again."""
    registry.fault(KeepPart(registry.service, MIB), method="PUT", match=is_layer(layer), times=1)
    registry.fault(KeepPart(registry.service, MIB), method="PATCH", nth=1)
    await push(client, registry, image)
    patches = registry.matching(UPLOADS, method="PATCH")
    assert [each.headers.get("Content-Range") for each in patches] == [
        f"{MIB}-{layer.size - 1}",
        f"{2 * MIB}-{layer.size - 1}",
    ]
    await check_arrived(client, registry, image)


async def test_an_upload_that_breaks_off_fifty_times(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """As long as each connection brings something across, an upload goes on."""
    registry.fault(KeepPart(registry.service, 64 * 1024), method="PUT", match=is_layer(layer), times=1)
    registry.fault(KeepPart(registry.service, 64 * 1024), method="PATCH", times=49)
    await push(client, registry, image)
    sent = sum(each.body_size for each in registry.matching(UPLOADS) if each.body_size > 1000)
    assert sent == layer.size
    await check_arrived(client, registry, image)


@ON_ALL
async def test_where_nothing_is_kept_it_is_begun_anew(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """A registry that forgets what a broken connection brought gets all of it again, in a new upload."""
    registry.fault(DropUpload(MIB), method="PUT", match=is_layer(layer), nth=(1, 2))
    await push(client, registry, image)
    places = {each.path for each in registry.matching(UPLOADS, method="PUT") if each.body_size > 1000}
    assert len(places) == 3
    await check_arrived(client, registry, image)


@pytest.mark.parametrize("reset", [False, True])
async def test_broken_connections_without_end_are_typed(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor, reset
):
    """A registry that ends every upload is given up, by type; the image has no tag there."""
    registry.fault(DropUpload(MIB, reset=reset), method="PUT", match=is_layer(layer))
    with pytest.raises(RegistryUnavailableError):
        await push(client, registry, image)
    assert len([each for each in registry.matching(UPLOADS, method="PUT") if each.faults]) == QUICK.attempts
    assert registry.content.repository("team/app").tags == {}
    await check_afterlife(client, registry, image)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
async def test_answers_that_do_not_come(client: Client, registry: FaultyRegistry, image: Image, method: str):
    """A connection that ends before the answer, once for each kind of request, is no obstacle."""
    registry.fault(Drop(None), method=method, path=MANIFESTS if method == "PUT" else "", nth=1)
    await push(client, registry, image)
    await check_arrived(client, registry, image)


async def test_a_blob_that_was_stored_though_the_answer_was_lost(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """The answer to the last byte is lost: the next upload finds the blob there, or stores it once more."""
    registry.fault(Drop(None), method="PUT", match=is_layer(layer), nth=1)
    await push(client, registry, image)
    await check_arrived(client, registry, image)


# ── upload sessions ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [404, 410])
async def test_an_upload_that_expired(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor, status: int
):
    """An upload the registry does not know any more is begun anew."""
    registry.fault(Respond(status, code="BLOB_UPLOAD_UNKNOWN"), method="PUT", match=is_layer(layer), nth=1)
    await push(client, registry, image)
    await check_arrived(client, registry, image)


async def test_an_offset_that_is_refused(client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor):
    """416 to a part is answered by asking where to go on."""
    registry.fault(KeepPart(registry.service, MIB), method="PUT", match=is_layer(layer), times=1)
    registry.fault(Respond(416, headers={"Range": "0-17"}), method="PATCH", nth=1)
    await push(client, registry, image)
    assert len(registry.matching(UPLOADS, method="GET")) == 2
    await check_arrived(client, registry, image)


@pytest.mark.parametrize("status", [400, 405, 501])
async def test_a_registry_without_parts(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor, status: int
):
    """A registry that keeps a part and then takes no PATCH gets everything in one request, in a new upload."""
    registry.fault(KeepPart(registry.service, MIB), method="PUT", match=is_layer(layer), times=1)
    registry.fault(Respond(status), method="PATCH")
    await push(client, registry, image)
    assert [each.body_size for each in registry.matching(UPLOADS, method="PUT") if each.body_size > 1000][
        -1
    ] == layer.size
    await check_arrived(client, registry, image)


@pytest.mark.parametrize("told", ["0-0", "0-99999999999", "nonsense", None])
async def test_offsets_that_cannot_be(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor, told: str | None
):
    """A registry that tells nothing usable of an upload's state gets a new upload."""
    registry.fault(KeepPart(registry.service, MIB), method="PUT", match=is_layer(layer), times=1)
    registry.fault(SetHeaders({"Range": told}), method="GET", path=UPLOADS)
    await push(client, registry, image)
    assert registry.matching(UPLOADS, method="PATCH") == []
    await check_arrived(client, registry, image)


async def test_in_chunks(client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor):
    """Where the limits say so content goes in chunks, no smaller than the registry wants them."""
    options = Registry(limits=attrs.evolve(QUICK, upload_chunk_size=MIB))
    registry.fault(SetHeaders({"OCI-Chunk-Min-Length": str(3 * MIB // 2)}), method="POST")
    registry.fault(KeepPart(registry.service, MIB), method="PATCH", nth=2)
    await push(client, registry, image, options)
    sizes = [each.body_size for each in registry.matching(UPLOADS, method="PATCH")]
    assert sizes[0] == 3 * MIB // 2
    assert sum(sizes) == layer.size
    await check_arrived(client, registry, image)


@pytest.mark.parametrize("answer", [AnswerEarly(413), AnswerEarly(413, MIB), AnswerEarly(413, MIB, reset=True)])
async def test_a_body_that_is_too_large(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor, answer
):
    """413 in the middle of the body comes out with its status and words, and is not repeated for ever."""
    registry.fault(answer, method="PUT", match=is_layer(layer))
    with pytest.raises(RegistryError, match="no more of that") as caught:
        await push(client, registry, image)
    assert caught.value.status == 413
    await check_afterlife(client, registry, image)


async def test_a_front_end_that_takes_small_bodies_only(client: Client, registry: FaultyRegistry):
    """A large blob that is too large for one request is sent in chunks."""
    async with open_registry(host="127.0.0.2") as source:
        source.add_image([tar_layer("file", 20 * MIB)])
        image = await client.pull(source.reference("library/test"), unpack=False, via="client")
    limit = 17 * MIB
    registry.fault(AnswerEarly(413), match=lambda request: int(request.headers.get("Content-Length") or 0) > limit)
    await push(client, registry, image)
    await check_arrived(client, registry, image)
    await image.delete()


# ── where an upload goes ────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_location(client: Client, registry: FaultyRegistry, image: Image):
    """An upload without a place to go to is a typed error."""
    registry.fault(SetHeaders({"Location": None}), method="POST", path=UPLOADS)
    with pytest.raises(RegistryError, match="Location"):
        await push(client, registry, image)
    await check_afterlife(client, registry, image)


async def test_absolute_locations_with_queries(client: Client, registry: FaultyRegistry, image: Image):
    """An absolute Location is used as it is, with its own query before ours."""

    async def absolute(request):
        response = await registry.service.handle(request)
        place = response.headers.get("Location")
        response.headers.set("Location", f"{registry.url}{place}?_state=a%2Bb%3D&part=1")
        return response

    registry.fault(Call(absolute), method="POST", path=UPLOADS)
    await push(client, registry, image)
    puts = registry.matching(UPLOADS, method="PUT")
    assert all("?_state=a%2Bb%3D&part=1&digest=sha256%3A" in each.target for each in puts)
    await check_arrived(client, registry, image)


async def test_uploads_on_another_host_get_no_credentials(client: Client, registry: FaultyRegistry, image: Image):
    """An upload that goes to another host brings the content there, and nothing of who we are."""
    async with open_registry(host="127.0.0.2", content=registry.content) as storage:
        storage.service = registry.service
        registry.require_basic("me", "c4n4ry")

        async def elsewhere(request):
            response = await registry.service.handle(request)
            response.headers.set("Location", f"{storage.url}{response.headers.get('Location')}")
            return response

        registry.fault(Call(elsewhere), method="POST", path=UPLOADS, match=lambda r: "Authorization" in r.headers)

        storage.fault(KeepPart(registry.service, MIB), method="PUT", nth=1, match=is_layer(image.target))
        options = attrs.evolve(IMPATIENT, credentials={registry.address: ("me", "c4n4ry")})
        await push(client, registry, image, options)
        assert storage.matching(UPLOADS, method="PATCH")
        assert storage.mentioning("c4n4ry") == []
        assert not any("Authorization" in each.headers for each in storage.requests)
        await check_arrived(client, registry, image)


@pytest.mark.parametrize("status", [307, 308])
async def test_redirected_uploads(client: Client, registry: FaultyRegistry, image: Image, status: int):
    """A redirect that keeps the method is followed with the content read anew, and without credentials elsewhere."""
    async with open_registry(host="127.0.0.2", content=registry.content) as storage:
        storage.service = registry.service
        storage._handler = storage._guarded
        registry.require_basic("me", "c4n4ry")
        registry.fault(
            Redirect(f"{storage.url}{{target}}", status),
            method="PUT",
            path=UPLOADS,
            match=lambda r: "Authorization" in r.headers,
        )
        options = attrs.evolve(IMPATIENT, credentials={registry.address: ("me", "c4n4ry")})
        await push(client, registry, image, options)
        assert storage.mentioning("c4n4ry") == []
        await check_arrived(client, registry, image)


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_redirects_that_change_the_method(
    client: Client, registry: FaultyRegistry, image: Image, status: int, method: str
):
    """What would turn an upload into a GET is refused by type."""
    registry.fault(Redirect(f"{registry.url}/elsewhere", status), method=method, path=UPLOADS)
    with pytest.raises(RegistryError):
        await push(client, registry, image)
    assert registry.matching("/elsewhere") == []
    await check_afterlife(client, registry, image)


async def test_redirects_without_end(client: Client, registry: FaultyRegistry, image: Image):
    """An upload that is sent round in a circle ends."""
    registry.fault(Redirect(f"{registry.url}{{target}}"), method="PUT", path=UPLOADS)
    with pytest.raises(RegistryError, match="for ever"):
        await push(client, registry, image)
    await check_afterlife(client, registry, image)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "http://user:pw@127.0.0.1/x", "//", "http://127.0.0.1:0/", "gopher://127.0.0.1/"]
)
async def test_places_that_are_none(client: Client, registry: FaultyRegistry, image: Image, location: str):
    """A Location nobody can upload to is a typed error."""
    registry.fault(SetHeaders({"Location": location}), method="POST", path=UPLOADS)
    with pytest.raises(RegistryError):
        await push(client, registry, image)
    await check_afterlife(client, registry, image)


async def test_uploads_do_not_leave_tls(client: Client, image: Image, tmp_path: Path):
    """A registry behind TLS that names itself over plain HTTP is meant; any other plain place is refused."""
    authority = Authority()
    options = attrs.evolve(IMPATIENT, ca=authority.write(tmp_path))
    async with open_registry(tls=authority.server()) as registry, open_registry() as plain:

        async def at(origin: str, request):
            response = await registry.service.handle(request)
            response.headers.set("Location", f"{origin}{response.headers.get('Location')}")
            return response

        rule = registry.fault(Call(lambda request: at(plain.url, request)), method="POST", path=UPLOADS)

        with pytest.raises(RegistryError, match="leaves TLS"):
            await push(client, registry, image, options)
        rule.assert_fired()
        registry.clear()
        registry.fault(Call(lambda request: at(f"http://{registry.address}", request)), method="POST", path=UPLOADS)
        await push(client, registry, image, options)
        await check_arrived(client, registry, image)
        assert plain.requests == []


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryError),
        (401, RegistryAuthenticationError),
        (403, RegistryPermissionError),
        (405, RegistryError),
        (409, RegistryError),
        (413, RegistryError),
        (429, RegistryRateLimitedError),
        (451, RegistryError),
        (500, RegistryUnavailableError),
        (503, RegistryUnavailableError),
        (507, RegistryUnavailableError),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "manifest"])
async def test_refusals_are_typed(
    client: Client, registry: FaultyRegistry, image: Image, status: int, kind: type[RegistryError], method: str
):
    """Each refusal of each request comes out by type, with the registry's words, after a bounded number of tries."""
    where = {"path": MANIFESTS, "method": "PUT"} if method == "manifest" else {"path": UPLOADS, "method": method}
    rule = registry.fault(Respond(status, code="DENIED", message="not here, not today"), **where)
    with pytest.raises(kind, match="not here, not today") as caught:
        await push(client, registry, image)
    assert caught.value.status == status
    assert rule.fired <= QUICK.attempts * 3  # two blobs may be under way at once
    assert registry.content.repository("team/app").tags == {}
    await check_afterlife(client, registry, image)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
async def test_a_broken_registry_is_tried_again(
    client: Client, registry: FaultyRegistry, image: Image, status: int, method: str
):
    """One failure of each kind, at each request, is tried again."""
    registry.fault(Respond(status), method=method, nth=1)
    await push(client, registry, image)
    await check_arrived(client, registry, image)


async def test_a_rate_limit_is_obeyed(client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor):
    """Retry-After is waited for in the middle of an upload, and one that is too long is an error with its length."""
    registry.fault(too_many_requests(1), method="PUT", match=is_layer(layer), nth=1)
    started = anyio.current_time()
    await push(client, registry, image)
    assert anyio.current_time() - started >= 1
    registry.content.repositories.clear()
    registry.clear()
    registry.fault(too_many_requests(3600), method="PUT", match=is_layer(layer))
    with pytest.raises(RegistryRateLimitedError) as caught:
        await push(client, registry, image)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == 3600


async def test_a_stalled_registry_is_given_up(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """Registries that stop reading, or never answer, are given up in time, and told apart in words."""
    registry.fault(TakeNothing(10), method="PUT", match=is_layer(layer))
    with pytest.raises(RegistryStalledError, match=r"took nothing|no answer"):
        await push(client, registry, image)
    registry.clear()
    registry.fault(Stall(), method="PUT", match=is_layer(layer))
    with pytest.raises(RegistryStalledError, match="after it had got everything"):
        await push(client, registry, image)
    await check_afterlife(client, registry, image)


async def test_storing_may_take_its_time(client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor):
    """A registry that thinks for longer than a stall after the last byte is waited for."""
    registry.fault(Delay(0.8), method="PUT", match=is_layer(layer))
    await push(client, registry, image)
    await check_arrived(client, registry, image)


# ── lies ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_registry_that_lies_about_blobs(client: Client, registry: FaultyRegistry, image: Image):
    """HEAD says that blobs are there, the manifest is refused for lack of them: they are sent, and it is put again."""
    registry.fault(Respond(200), method="HEAD", path="/blobs/")
    await push(client, registry, image)
    await check_arrived(client, registry, image)


async def test_a_registry_that_lies_for_ever(client: Client, registry: FaultyRegistry, image: Image):
    """A manifest that stays refused for lack of blobs is a typed error."""
    registry.fault(Respond(404, code="MANIFEST_BLOB_UNKNOWN", message="no blob"), method="PUT", path=MANIFESTS)
    with pytest.raises(RegistryError, match="no blob"):
        await push(client, registry, image)
    await check_afterlife(client, registry, image)


async def test_a_blob_of_another_size_is_no_such_blob(
    client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """A blob the registry has with another length is sent again."""
    registry.content.repository("team/app").blobs[layer.digest] = b"cut short"
    await push(client, registry, image)
    assert len(registry.content.repository("team/app").blobs[layer.digest]) == layer.size
    await check_arrived(client, registry, image)


@pytest.mark.parametrize("path", [UPLOADS, MANIFESTS])
async def test_a_registry_that_stores_something_else(client: Client, registry: FaultyRegistry, image: Image, path):
    """A registry that confirms another digest than was sent is not believed."""
    registry.fault(SetHeaders({"Docker-Content-Digest": f"sha256:{'0' * 64}"}), method="PUT", path=path)
    with pytest.raises(DigestMismatchError, match="0000"):
        await push(client, registry, image)
    registry.content.repositories.clear()
    await check_afterlife(client, registry, image)


async def test_accepted_is_not_stored(client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor):
    """202 to the last byte is looked after: the blob comes, or it is an error."""
    registry.fault(Respond(202), method="PUT", match=is_layer(layer))
    with pytest.raises(RegistryError, match="does not have it"):
        await push(client, registry, image)
    await check_afterlife(client, registry, image)


# ── content here ────────────────────────────────────────────────────────────────────────────────────────────────────


@ON_ALL
async def test_damaged_content_is_told_as_ours(
    client: Client, daemon, registry: FaultyRegistry, image: Image, layer: Descriptor
):
    """Where the registry finds another digest since the content store is damaged, the error says so."""
    blob = daemon.root / "io.containerd.content.v1.content/blobs/sha256" / layer.digest.removeprefix("sha256:")
    data = bytearray(blob.read_bytes())
    data[MIB] ^= 0xFF
    blob.chmod(0o644)
    blob.write_bytes(data)
    try:
        with pytest.raises(DigestMismatchError, match="content store") as caught:
            await push(client, registry, image)
    finally:
        data[MIB] ^= 0xFF
        blob.write_bytes(data)
    assert caught.value.expected == layer.digest
    await check_afterlife(client, registry, image)


@ON_ALL
async def test_content_deleted_in_the_middle(client: Client, registry: FaultyRegistry, image: Image, layer: Descriptor):
    """Content that somebody deletes while it is to be pushed is NotFound."""
    rule = registry.fault(Delay(0.3), method="POST", path=UPLOADS)
    with pytest.raises(NotFoundError) as caught:
        async with client.open_push(ref_of(registry), source=image, registry=IMPATIENT, via="client") as pushing:
            await rule.wait_fired()
            await client.content.delete(layer.digest)
            await pushing.wait()
    assert not isinstance(caught.value, RegistryError)
    assert (await left_in(client)).leases == 0


async def test_a_token_that_expires_in_the_middle_is_renewed(client: Client, registry: FaultyRegistry, image: Image):
    """A token that ends between two requests is fetched anew, also in the middle of an upload."""
    async with open_token_server(users={"me": "c4n4ry"}) as tokens:
        registry.require_tokens(tokens)
        options = attrs.evolve(IMPATIENT, credentials={registry.address: ("me", "c4n4ry")})
        renewed = False
        async with client.open_push(ref_of(registry), source=image, registry=options, via="client") as pushing:
            async for progress in pushing:
                if progress.event == "uploading" and progress.total > MIB and not renewed:
                    renewed = True
                    tokens.revoke_all()
        await check_arrived(client, registry, image)
        assert len(tokens.issued) == 2  # one for all that goes on at once, and another one after it


# ── by transfer ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, RegistryAuthenticationError),
        (403, RegistryPermissionError),
        (429, RegistryRateLimitedError),
        (500, RegistryUnavailableError),
    ],
)
async def test_refusals_of_a_transfer_are_typed(
    client: Client, registry: FaultyRegistry, image: Image, status: int, kind: type[RegistryError]
):
    """What a registry refuses the daemon comes out by the same types as what it refuses us, and leaves nothing."""
    registry.fault(Respond(status, code="DENIED"), method="PUT", path=MANIFESTS)
    with anyio.fail_after(30), pytest.raises(kind):
        await client.push(ref_of(registry), source=image, via="transfer")
    await check_afterlife(client, registry, image)


async def test_a_transfer_to_nobody_is_typed(client: Client, image: Image):
    """A registry that does not answer the daemon is unavailable; an image that is gone is not found, and not there."""
    with pytest.raises(RegistryUnavailableError):
        await client.push("127.0.0.1:1/team/app", source=image, via="transfer")
    with pytest.raises(NotFoundError) as caught:
        await client.push("127.0.0.1:1/team/app", source="no/such/image", via="transfer")
    assert not isinstance(caught.value, RegistryError)


# ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--storm", default=False) else EVERY


@ON_ALL
@pytest.mark.timeout(900)
@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_a_push_cancelled_anywhere_leaves_nothing(
    client: Client, registry: FaultyRegistry, every: int, via: str, daemon_line: str
):
    """Cancelled at any suspension point, in any way, a push leaves nothing here, and the same push succeeds."""
    if via == "transfer" and daemon_line != "2.1":
        via = "auto"  # which is us, over plain HTTP
    async with open_registry(host="127.0.0.2") as source:
        source.add_image([tar_layer("a"), tar_layer("b", 300_000, seed=1)], compress=True)
        image = await client.pull(source.reference("library/test"), unpack=False, via="client")
    before = await left_in(client)

    async def flow() -> None:
        await client.push(ref_of(registry), source=image, via=via)

    tally = Tally()
    modes = tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)
    async for outcome in sweep(flow, every=every, modes=modes):
        outcome.check()
        tally.add(outcome)
        assert await left_in(client) == before, outcome
        registry.content.repositories.clear()
    assert tally.delivered > 10, str(tally)
    await flow()
    await image.delete(synchronous=True)


@ON_ALL
async def test_a_daemon_killed_in_mid_push(own_daemon, namespace: str, registry: FaultyRegistry):
    """SIGKILL of the daemon is a typed error, though the registry is silent; the next push succeeds."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        async with open_registry(host="127.0.0.2") as source:
            source.add_image([tar_layer("b", LAYER_SIZE)])
            image = await client.pull(source.reference("library/test"), unpack=False, via="client")
        stall = registry.fault(Stall(), method="PUT", path=UPLOADS, nth=1)
        with anyio.fail_after(30), pytest.raises(UnavailableError):
            async with client.open_push(ref_of(registry), source=image, via="client") as pushing:
                await stall.wait_fired()
                await own_daemon.kill()
                await pushing.wait()
        await own_daemon.restart()
        await client.push(ref_of(registry), source=image, via="client")
        left = await left_in(client)
        assert (left.leases, left.ingests) == (0, 0)
        await image.delete(synchronous=True)
