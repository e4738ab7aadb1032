"""The faulty registry is a correct one until it is told otherwise, does every wrong exactly as told, and remembers."""

import base64
import gzip
import hashlib
import http.client
import json
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import attrs
import pytest

from containerd_py.types import Platform
from tests.harness.http_origin import Origin
from tests.harness.http_wire import Request, Response
from tests.harness.registry import (
    BLOBS,
    MANIFESTS,
    PING,
    Authority,
    FaultyRegistry,
    TokenServer,
    digest_of,
    open_registry,
    open_token_server,
)
from tests.harness.registry_actions import (
    Action,
    Call,
    Chunked,
    Corrupt,
    DeclareLength,
    Delay,
    Drop,
    DropUpload,
    Encode,
    IgnoreRange,
    Lengthen,
    Pass,
    Raw,
    Redirect,
    ReplaceBody,
    Respond,
    SetHeaders,
    Shorten,
    Slow,
    Stall,
    json_response,
    range_not_satisfiable,
    too_many_requests,
    unauthorized,
)

pytestmark = pytest.mark.anyio
BLOB = bytes(range(256)) * 4096  # 1 MiB
DIGEST = digest_of(BLOB)
BLOB_PATH = f"/v2/library/test/blobs/{DIGEST}"


@attrs.frozen(kw_only=True)
class Answer:
    """What a plain client got."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


async def ask(
    origin: Origin,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
    timeout: float = 5.0,
) -> Answer:
    """Send one request with the standard library's client."""

    def work() -> Answer:
        kind = http.client.HTTPConnection if tls is None else http.client.HTTPSConnection
        options: dict[str, Any] = {} if tls is None else {"context": tls}
        connection = kind(origin.host, origin.port, timeout=timeout, **options)
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(status=response.status, headers=response.headers, body=response.read())
        finally:
            connection.close()

    return await anyio.to_thread.run_sync(work)


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    """Serve one blob."""
    async with open_registry() as registry:
        registry.add_blob(BLOB, repository="library/test")
        yield registry


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_an_image_is_served_whole(registry: FaultyRegistry) -> None:
    """Manifest by tag and by digest, configuration and layers hang together."""
    manifest = registry.add_image([b"layer one", b"layer two"], repository="app", tag="v1", compress=True)

    by_tag = await ask(registry, "/v2/app/manifests/v1")
    by_digest = await ask(registry, f"/v2/app/manifests/{manifest.digest}")

    assert by_tag.body == by_digest.body
    assert by_tag.headers["Docker-Content-Digest"] == manifest.digest == digest_of(by_tag.body)
    assert by_tag.headers["Content-Type"] == manifest.media_type == by_tag.document["mediaType"]
    assert len(by_tag.body) == manifest.size
    config = (await ask(registry, f"/v2/app/blobs/{by_tag.document['config']['digest']}")).document
    layers = [await ask(registry, f"/v2/app/blobs/{layer['digest']}") for layer in by_tag.document["layers"]]
    assert [gzip.decompress(layer.body) for layer in layers] == [b"layer one", b"layer two"]
    assert config["rootfs"]["diff_ids"] == [digest_of(gzip.decompress(layer.body)) for layer in layers]
    assert registry.served(manifest.digest) == manifest.size


async def test_an_index_names_platforms(registry: FaultyRegistry) -> None:
    """An index lists what it was given."""
    arm = registry.add_image([b"x"], tag=None, platform=Platform(os="linux", architecture="arm64", variant="v8"))
    index = registry.add_index([arm], tag="multi")

    answer = await ask(registry, "/v2/library/test/manifests/multi")

    assert answer.headers["Content-Type"] == index.media_type
    assert answer.document["manifests"] == [
        {
            "mediaType": arm.media_type,
            "digest": arm.digest,
            "size": arm.size,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        }
    ]


async def test_head_tells_the_length_and_sends_nothing(registry: FaultyRegistry) -> None:
    """HEAD answers as GET does, without the body."""
    answer = await ask(registry, BLOB_PATH, method="HEAD")

    assert answer.headers["Content-Length"] == str(len(BLOB))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.body == b""
    assert registry.served(DIGEST) == 0


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-9", 0, 9),
        ("100-", 100, len(BLOB) - 1),
        ("-5", len(BLOB) - 5, len(BLOB) - 1),
        ("5-99999999", 5, len(BLOB) - 1),
    ],
)
async def test_ranges(registry: FaultyRegistry, asked: str, first: int, last: int) -> None:
    """A satisfiable range is answered with 206 and says what it is."""
    answer = await ask(registry, BLOB_PATH, headers={"Range": f"bytes={asked}"})

    assert answer.status == 206
    assert answer.body == BLOB[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(BLOB)}"


async def test_ranges_that_cannot_be(registry: FaultyRegistry) -> None:
    """A range past the end is 416; several ranges are answered with the whole."""
    past = await ask(registry, BLOB_PATH, headers={"Range": f"bytes={len(BLOB)}-"})
    several = await ask(registry, BLOB_PATH, headers={"Range": "bytes=0-1,3-4"})

    assert past.status == 416
    assert past.headers["Content-Range"] == f"bytes */{len(BLOB)}"
    assert (several.status, len(several.body)) == (200, len(BLOB))


async def test_what_is_not_there(registry: FaultyRegistry) -> None:
    """Errors are documents of the distribution specification."""
    codes = {
        "/v2/library/test/manifests/none": "MANIFEST_UNKNOWN",
        f"/v2/other/blobs/{DIGEST}": "BLOB_UNKNOWN",
        "/v2/nowhere/tags/list": "NAME_UNKNOWN",
        "/elsewhere": "NAME_UNKNOWN",
    }
    for path, code in codes.items():
        answer = await ask(registry, path)
        assert (answer.status, answer.document["errors"][0]["code"]) == (404, code)


async def test_lists(registry: FaultyRegistry) -> None:
    """Tags come in pages, referrers as an index."""
    subject = registry.add_image([b"x"], tag="a")
    registry.add_image([b"y"], tag="b")
    document = {"schemaVersion": 2, "artifactType": "application/x-test", "subject": {"digest": subject.digest}}
    referrer = registry.add_manifest(document, repository="library/test")

    first = await ask(registry, "/v2/library/test/tags/list?n=1")
    rest = await ask(registry, first.headers["Link"].partition(">")[0].removeprefix("<"))
    referrers = await ask(registry, f"/v2/library/test/referrers/{subject.digest}")

    assert (first.document["tags"], rest.document["tags"]) == (["a"], ["b"])
    assert rest.headers["Link"] is None
    assert [each["digest"] for each in referrers.document["manifests"]] == [referrer.digest]
    assert (await ask(registry, "/v2/_catalog")).document == {"repositories": ["library/test"]}
    assert (await ask(registry, "/v2/")).status == 200


# -- writing ----------------------------------------------------------------------------------------------------------


async def test_uploads_in_every_way(registry: FaultyRegistry) -> None:
    """POST with the digest, POST and PUT, and chunks by PATCH all end in the same blob; a bad digest in none."""
    data, uploads = b"x" * 1000, "/v2/new/blobs/uploads/"
    digest = digest_of(data)
    at_once = await ask(registry, f"{uploads}?digest={digest}", method="POST", body=data)
    assert (at_once.status, at_once.headers["Docker-Content-Digest"]) == (201, digest)
    assert (await ask(registry, at_once.headers["Location"])).body == data
    assert (await ask(registry, at_once.headers["Location"], method="DELETE")).status == 202

    started = await ask(registry, uploads, method="POST")
    put = await ask(registry, f"{started.headers['Location']}?digest={digest}", method="PUT", body=data)
    assert (started.status, put.status) == (202, 201)

    location = (await ask(registry, uploads, method="POST")).headers["Location"]
    await ask(registry, location, method="PATCH", body=data[:600], headers={"Content-Range": "0-599"})
    wrong = await ask(registry, location, method="PATCH", body=data[:9], headers={"Content-Range": "0-8"})
    status = await ask(registry, location)
    await ask(registry, location, method="PATCH", body=data[600:], headers={"Content-Range": "600-999"})
    finished = await ask(registry, f"{location}?digest={digest}", method="PUT")
    assert (wrong.status, status.status, finished.status) == (416, 204, 201)
    assert status.headers["Range"] == "0-599"

    location = (await ask(registry, uploads, method="POST")).headers["Location"]
    bad = await ask(registry, f"{location}?digest={DIGEST}", method="PUT", body=data)
    assert (bad.status, bad.document["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert (await ask(registry, location, method="PUT")).status == 404


async def test_a_chunked_upload(registry: FaultyRegistry) -> None:
    """A body of unknown length is read as well."""
    digest = digest_of(b"abc" * 100)

    def work() -> int:
        connection = http.client.HTTPConnection(registry.host, registry.port, timeout=5)
        target = f"/v2/new/blobs/uploads/?digest={digest}"
        connection.request("POST", target, body=iter([b"abc"] * 100), encode_chunked=True)
        status = connection.getresponse().status
        connection.close()
        return status

    assert await anyio.to_thread.run_sync(work) == 201
    assert registry.content.repository("new").blobs[digest] == b"abc" * 100


async def test_mounts(registry: FaultyRegistry) -> None:
    """A blob of another repository is mounted; one that is not there starts an upload."""
    uploads = "/v2/new/blobs/uploads/"
    mounted = await ask(registry, f"{uploads}?mount={DIGEST}&from=library/test", method="POST")
    missing = await ask(registry, f"{uploads}?mount={digest_of(b'')}&from=library/test", method="POST")

    assert (mounted.status, missing.status) == (201, 202)
    assert (await ask(registry, f"/v2/new/blobs/{DIGEST}")).body == BLOB


async def test_manifests_are_put_after_what_they_name(registry: FaultyRegistry) -> None:
    """A manifest is taken when all it names is there, and is then found by tag and digest."""
    document = {"schemaVersion": 2, "config": {"digest": DIGEST}, "layers": []}
    data = json.dumps(document).encode()
    headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}

    early = await ask(registry, "/v2/other/manifests/v1", method="PUT", body=data, headers=headers)
    put = await ask(registry, "/v2/library/test/manifests/v1", method="PUT", body=data, headers=headers)
    bad = await ask(registry, "/v2/library/test/manifests/v2", method="PUT", body=b"{", headers=headers)

    assert (early.status, early.document["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert (bad.status, bad.document["errors"][0]["code"]) == (400, "MANIFEST_INVALID")
    assert put.status == 201
    assert (await ask(registry, put.headers["Location"])).body == data
    assert (await ask(registry, "/v2/library/test/manifests/v1", method="DELETE")).status == 202
    assert (await ask(registry, "/v2/library/test/manifests/v1")).status == 404


# -- faults -----------------------------------------------------------------------------------------------------------


async def test_a_status_with_an_error_document(registry: FaultyRegistry) -> None:
    """A rule strikes the requests it names, as often as it says, and counts."""
    rule = registry.fault(Respond(503, code="UNAVAILABLE", headers={"Retry-After": "1"}), path=BLOBS, times=2)

    answers = [await ask(registry, BLOB_PATH) for _ in range(3)]
    await ask(registry, "/v2/")

    assert [answer.status for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert answers[0].document["errors"][0]["code"] == "UNAVAILABLE"
    assert (rule.fired, rule.seen) == (2, 3)
    rule.assert_fired(2)
    with pytest.raises(AssertionError, match="fired 2 times"):
        rule.assert_fired(1)


async def test_the_nth_request(registry: FaultyRegistry) -> None:
    """Rules choose among the requests that match, by method, path and number."""
    registry.fault(Respond(500), method="HEAD")
    registry.fault(Respond(502), method="GET", path=BLOBS, nth=(2, 3))

    assert [(await ask(registry, BLOB_PATH)).status for _ in range(4)] == [200, 502, 502, 200]
    assert (await ask(registry, BLOB_PATH, method="HEAD")).status == 500
    registry.assert_all_fired()
    registry.clear()
    registry.fault(Pass(), path=MANIFESTS)
    with pytest.raises(AssertionError, match="fired 0 times"):
        registry.assert_all_fired()


async def test_a_dropped_body(registry: FaultyRegistry) -> None:
    """The connection ends after exactly so many bytes of a body whose length was promised."""
    registry.fault(Drop(1000), path=BLOBS, times=1)

    with pytest.raises(http.client.IncompleteRead) as caught:
        await ask(registry, BLOB_PATH)

    assert caught.value.partial == BLOB[:1000]
    assert caught.value.expected == len(BLOB) - 1000
    assert registry.served(DIGEST) == 1000
    assert not registry.requests[-1].complete
    assert (await ask(registry, BLOB_PATH)).body == BLOB
    assert registry.requests[-1].complete


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Drop(None), http.client.RemoteDisconnected),
        (Drop(None, reset=True), ConnectionResetError),
        (Raw(b"garbage\r\n\r\n"), http.client.BadStatusLine),
        (Stall(), TimeoutError),
        (Stall(10), TimeoutError),
        (Slow(10, 0.5), TimeoutError),
        (Delay(1.0), TimeoutError),
    ],
    ids=str,
)
async def test_no_answer_or_half_of_one(registry: FaultyRegistry, action: Action, error: type[Exception]) -> None:
    """Connections that end or stall before or within the answer."""
    rule = registry.fault(action, path=BLOBS)

    with anyio.fail_after(30), pytest.raises(error):
        answer = await ask(registry, BLOB_PATH, timeout=0.2)
        assert answer.body != BLOB

    assert rule.fired == 1


async def test_a_stall_notices_that_the_client_left(registry: FaultyRegistry) -> None:
    """The record tells when a client gave up on a stalled response."""
    registry.fault(Stall(10), path=BLOBS)
    with pytest.raises(TimeoutError):
        await ask(registry, BLOB_PATH, timeout=0.1)
    with anyio.fail_after(2):
        while not registry.requests[-1].client_left:
            await anyio.sleep(0.01)
    assert registry.requests[-1].sent == 10


async def test_spoilt_bodies(registry: FaultyRegistry) -> None:
    """Wrong bytes of the right length, other bodies, shorter and longer ones."""
    expected: list[tuple[Action, bytes]] = [
        (Corrupt(5), BLOB[:5] + bytes([BLOB[5] ^ 0xFF]) + BLOB[6:]),
        (ReplaceBody(b"other"), b"other"),
        (Shorten(100), BLOB[:100]),
        (Lengthen(1 << 20), BLOB + bytes(1 << 20)),
        (Lengthen(100, declared=False), BLOB),
        (Chunked(), BLOB),
        (Encode("gzip"), gzip.compress(BLOB)),
        (IgnoreRange(), BLOB),
    ]
    for action, body in expected:
        registry.fault(action, path=BLOBS)
        answer = await ask(
            registry, BLOB_PATH, headers={"Range": "bytes=0-"} if isinstance(action, IgnoreRange) else {}
        )
        assert answer.status == 200
        if isinstance(action, Encode):
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(answer.body) == BLOB
        else:
            assert answer.body == body, action
        registry.assert_all_fired()
        registry.clear()


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_a_bomb_is_small_on_the_wire(registry: FaultyRegistry, coding: Any, wbits: int) -> None:
    """A decompression bomb takes next to nothing to send, and is a valid stream."""
    registry.fault(Encode(coding, bomb=(32 << 20) + 5), path=BLOBS)

    answer = await ask(registry, BLOB_PATH)

    assert len(answer.body) < 100_000
    assert zlib.decompress(answer.body, wbits=wbits) == bytes((32 << 20) + 5)


async def test_bytes_beyond_the_declared_end(registry: FaultyRegistry) -> None:
    """What follows an undeclared end reaches a client that reads on."""
    registry.fault(Lengthen(100, declared=False), path=BLOBS)
    registry.fault(DeclareLength(7), path=PING)

    async with await anyio.connect_tcp(registry.host, registry.port) as stream:
        await stream.send(f"GET {BLOB_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b"".join([chunk async for chunk in stream])
    async with await anyio.connect_tcp(registry.host, registry.port) as stream:
        await stream.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        short = b"".join([chunk async for chunk in stream])

    assert received.partition(b"\r\n\r\n")[2] == BLOB + bytes(100)
    assert b"Content-Length: 7\r\n" in short
    assert short.endswith(b"\r\n\r\n{}")


async def test_headers_can_be_anything(registry: FaultyRegistry) -> None:
    """Headers are set, doubled and left out; the length too."""
    values = {"Content-Range": "bytes 9-1/3", "Content-Length": ["5", "6"], "ETag": None}
    registry.fault(SetHeaders(values), path=BLOBS)

    answer = await ask(registry, BLOB_PATH, method="HEAD")

    assert answer.headers["Content-Range"] == "bytes 9-1/3"
    assert answer.headers.get_all("Content-Length") == ["5", "6"]
    assert answer.headers["ETag"] is None


async def test_ready_made_statuses(registry: FaultyRegistry) -> None:
    """416, 429 and 401 come with what belongs to them."""
    registry.fault(range_not_satisfiable(), nth=1)
    registry.fault(too_many_requests("-1"), nth=2)
    registry.fault(unauthorized("Negotiate"), nth=3)

    answers = [await ask(registry, BLOB_PATH) for _ in range(3)]

    assert [answer.status for answer in answers] == [416, 429, 401]
    assert answers[1].headers["Retry-After"] == "-1"
    assert answers[2].headers["WWW-Authenticate"] == "Negotiate"


async def test_redirects_to_another_origin(registry: FaultyRegistry) -> None:
    """A redirect keeps the target, and the other origin shares the content."""
    async with open_registry(host="127.0.0.2", content=registry.content) as other:
        registry.fault(Redirect(f"{other.url}{{target}}", 302), path=BLOBS)

        answer = await ask(registry, f"{BLOB_PATH}?ns=x")
        location = urlsplit(answer.headers["Location"])

        assert answer.status == 302
        assert (location.hostname, location.port) == ("127.0.0.2", other.port)
        assert (await ask(other, f"{location.path}?{location.query}")).body == BLOB
        assert other.requests[0].origin == other.url == f"http://127.0.0.2:{other.port}"


async def test_a_function_of_the_test_answers(registry: FaultyRegistry) -> None:
    """What no action does, a test does itself."""

    async def respond(request: Request) -> Response:
        return json_response({"asked": request.path, "body": request.body.decode()}, status=418)

    registry.fault(Call(respond), path="^/v2/tea$")

    answer = await ask(registry, "/v2/tea", method="POST", body=b"leaf")

    assert answer.status == 418
    assert answer.document == {"asked": "/v2/tea", "body": "leaf"}


async def test_a_dropped_upload(registry: FaultyRegistry) -> None:
    """An upload may be cut in the middle of its body."""
    rule = registry.fault(DropUpload(1000, reset=True), method="POST")

    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        await ask(registry, "/v2/new/blobs/uploads/", method="POST", body=bytes(8 << 20))

    assert rule.fired == 1
    assert registry.requests[-1].body_size == 1000


@pytest.mark.parametrize("accept", ["close", "reset", "stall"])
async def test_connections_can_be_accepted_badly(registry: FaultyRegistry, accept: Any) -> None:
    """A server may be there and yet not serve."""
    registry.accept = accept
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError, TimeoutError)):
        await ask(registry, "/v2/", timeout=0.2)
    registry.accept = "serve"
    assert (await ask(registry, "/v2/")).status == 200
    assert registry.connections == 2


async def test_bad_requests_are_told(registry: FaultyRegistry) -> None:
    """A client that does not speak HTTP gets 400, and the server lives on."""
    for line in (b"nonsense\r\n\r\n", b"POST /v2/ HTTP/1.1\r\nContent-Length: 10\r\n\r\nx"):
        async with await anyio.connect_tcp(registry.host, registry.port) as stream:
            await stream.send(line)
            await stream.send_eof()
            assert (await stream.receive()).startswith(b"HTTP/1.1 400")
    assert (await ask(registry, "/v2/")).status == 200


async def test_connections_are_kept(registry: FaultyRegistry) -> None:
    """Several requests go over one connection."""

    def work() -> None:
        connection = http.client.HTTPConnection(registry.host, registry.port, timeout=5)
        for _ in range(3):
            connection.request("GET", BLOB_PATH)
            assert connection.getresponse().read() == BLOB
        connection.close()

    await anyio.to_thread.run_sync(work)
    assert (len(registry.requests), registry.connections) == (3, 1)
    assert registry.served(DIGEST) == 3 * len(BLOB)
    assert [each.path for each in registry.blob_requests(DIGEST)] == [BLOB_PATH] * 3


# -- who may ----------------------------------------------------------------------------------------------------------


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_basic_authentication(registry: FaultyRegistry) -> None:
    """Without the right password nothing is served."""
    registry.require_basic("me", "pass:word")

    without = await ask(registry, BLOB_PATH)

    assert (without.status, without.headers["WWW-Authenticate"]) == (401, 'Basic realm="registry.test"')
    assert (await ask(registry, BLOB_PATH, headers=basic("me", "wrong"))).status == 401
    assert (await ask(registry, BLOB_PATH, headers={"Authorization": "Basic \xff"})).status == 401
    assert (await ask(registry, BLOB_PATH, headers=basic("me", "pass:word"))).status == 200


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    """Serve tokens to one user."""
    async with open_token_server(users={"me": "secret"}, host="127.0.0.2") as server:
        yield server


async def test_bearer_tokens(registry: FaultyRegistry, tokens: TokenServer) -> None:
    """A token is good for its scope, until it expires."""
    registry.require_tokens(tokens)
    scope = "repository:library/test:pull"

    challenge = (await ask(registry, BLOB_PATH)).headers["WWW-Authenticate"]
    granted = await ask(tokens, f"/token?service=registry.test&scope={scope}", headers=basic("me", "secret"))
    bearer = {"Authorization": f"Bearer {granted.document['token']}"}

    assert challenge == f'Bearer realm="{tokens.realm}",service="registry.test",scope="{scope}"'
    assert granted.document["expires_in"] == 300
    assert (await ask(registry, BLOB_PATH, headers=bearer)).status == 200
    assert (await ask(registry, f"/v2/other/blobs/{DIGEST}", headers=bearer)).status == 401
    push = await ask(registry, "/v2/library/test/blobs/uploads/", method="POST", headers=bearer)
    assert push.headers["WWW-Authenticate"].endswith('scope="repository:library/test:pull,push"')
    tokens.revoke_all()
    assert (await ask(registry, BLOB_PATH, headers=bearer)).status == 401
    assert [(issued.user, set(issued.scopes)) for issued in tokens.issued] == [("me", {scope})]


async def test_tokens_by_form_and_anonymously(tokens: TokenServer) -> None:
    """Tokens are given for a form, and to the anonymous unless refused; never for a wrong password."""
    tokens.field, tokens.expires_in = "access_token", None
    form = b"grant_type=password&username=me&password=%s&scope=repository:a:pull,push+repository:b:pull"

    right = await ask(tokens, "/token", method="POST", body=form % b"secret")
    wrong = await ask(tokens, "/token", method="POST", body=form % b"wrong")
    anonymous = await ask(tokens, "/token?scope=repository:a:pull")
    tokens.refuse_anonymous = True
    refused = await ask(tokens, "/token?scope=repository:a:pull")

    assert set(right.document) == {"access_token"}
    assert set(tokens.issued[0].scopes) == {"repository:a:pull", "repository:a:push", "repository:b:pull"}
    assert [answer.status for answer in (wrong, anonymous, refused)] == [401, 200, 401]
    assert tokens.issued[1].user is None


async def test_a_token_server_has_faults_too(tokens: TokenServer) -> None:
    """Rules work on every origin."""
    rule = tokens.fault(Respond(500), times=1)
    assert [(await ask(tokens, "/token")).status for _ in range(2)] == [500, 200]
    rule.assert_fired(1)


async def test_secrets_are_found_in_every_form(registry: FaultyRegistry) -> None:
    """A secret is seen as it is, quoted, in base64 and in a Basic header, in target, headers or body."""
    secret = "s3cret/+word"
    encoded = base64.b64encode(secret.encode()).decode()
    await ask(registry, "/v2/?clean")
    await ask(registry, "/v2/?password=s3cret%2F%2Bword")
    await ask(registry, "/v2/", headers={"X-Note": encoded})
    await ask(registry, "/v2/", headers=basic("user", secret))
    await ask(registry, "/v2/x", method="POST", body=b"password=s3cret/+word")

    assert registry.mentioning(secret) == registry.requests[1:]


# -- transport --------------------------------------------------------------------------------------------------------


async def test_tls_with_an_authority_of_our_own(tmp_path: Path) -> None:
    """Whoever trusts the authority is served; others, and bad certificates, end in the handshake."""
    authority = Authority()
    trusting = ssl.create_default_context(cafile=authority.write(tmp_path))
    async with open_registry(tls=authority.server()) as registry:
        registry.add_blob(BLOB, repository="library/test")
        assert registry.url.startswith("https://")
        assert (await ask(registry, BLOB_PATH, tls=trusting)).body == BLOB
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(registry, "/v2/", tls=ssl.create_default_context())
        with pytest.raises((http.client.BadStatusLine, OSError)):
            await ask(registry, "/v2/")
        assert len(registry.failed_handshakes) == 2
    async with open_registry(tls=authority.server(expired=True)) as registry:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await ask(registry, "/v2/", tls=authority.client())
    async with open_registry(tls=authority.server("elsewhere.test")) as registry:
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            await ask(registry, "/v2/", tls=authority.client())


async def test_client_certificates(tmp_path: Path) -> None:
    """A server may ask for a certificate of its own authority."""
    authority = Authority()
    async with open_registry(tls=authority.server(client_required=True)) as registry:
        context = authority.client()
        with pytest.raises(OSError, match=r"certificate required|reset|EOF|closed"):
            await ask(registry, "/v2/", tls=context)
        context.load_cert_chain(*authority.write_client(tmp_path))
        assert (await ask(registry, "/v2/", tls=context)).status == 200


async def test_old_tls_is_refused_by_clients() -> None:
    """A server that only speaks what is out of use cannot be talked to."""
    authority = Authority()
    with pytest.warns(DeprecationWarning):
        context = authority.server(newest_version=ssl.TLSVersion.TLSv1)
    async with open_registry(tls=context) as registry:
        with pytest.raises(ssl.SSLError, match=r"(?i)version|protocol|legacy"):  # as this OpenSSL is set up
            await ask(registry, "/v2/", tls=authority.client())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 in this Python")
async def test_addresses_of_version_six() -> None:
    """An origin may have an IPv6 address."""
    async with open_registry(host="::1") as registry:
        assert registry.address == f"[::1]:{registry.port}"
        assert (await ask(registry, "/v2/")).status == 200


async def test_the_error_of_a_test_comes_out_as_it_is() -> None:
    """A failing block fails with its own error, not with a group of errors."""
    with pytest.raises(ValueError, match="mine") as caught:
        async with open_registry():
            raise ValueError("mine")
    assert caught.value.__context__ is None


async def test_large_layers_are_served_whole(registry: FaultyRegistry) -> None:
    """A blob of 64 MiB arrives whole."""
    data = bytes(64 << 20)
    large = registry.add_blob(data, repository="library/test")

    def work() -> str:
        connection = http.client.HTTPConnection(registry.host, registry.port, timeout=30)
        connection.request("GET", f"/v2/library/test/blobs/{large.digest}")
        response = connection.getresponse()
        size, buffer = 0, bytearray(1 << 20)
        while read := response.readinto(buffer):
            size += read
        connection.close()
        return f"{size}"

    assert await anyio.to_thread.run_sync(work) == f"{64 << 20}"
    assert hashlib.sha256(data).hexdigest() in large.digest
