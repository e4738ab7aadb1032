"""A registry of one's own: holds what was pushed, asks for what it was told to ask for, and goes away."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from anyio import to_thread

from containerd_py.errors import DaemonStartError, InvalidArgumentError, RegistryError
from containerd_py.oci.media_types import MEDIA_TYPE_MANIFEST
from containerd_py.testing.images import busybox_layout
from containerd_py.testing.registry import open_registry
from containerd_py.testing.registry_options import TLSFiles, TokenAuth


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return busybox_layout(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def tls(tls_files):
    return tls_files


async def get(url, *, user=None, ca=None):
    """Return status, headers and body of a request, whatever the status."""

    def request():
        asked = urllib.request.Request(url, headers={"Accept": MEDIA_TYPE_MANIFEST})
        if user is not None:
            asked.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        context = ssl.create_default_context(cafile=ca) if ca is not None else None
        try:
            with urllib.request.urlopen(asked, context=context, timeout=10) as reply:
                return reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return await to_thread.run_sync(request)


async def test_holds_what_was_pushed(layout):
    """Tag, manifest and blobs are there after a push, also after a restart, and gone with the registry."""
    async with open_registry() as registry:
        pushed = await registry.push(layout, "some/where", "v1")
        assert pushed == layout.target
        assert registry.reference("some/where", "v1") == f"{registry.address}/some/where:v1"
        await registry.restart()
        _, headers, body = await get(f"{registry.url}/v2/some/where/manifests/{pushed.digest}")
        assert headers["Docker-Content-Digest"] == pushed.digest
        assert json.loads(body) == layout.read_json(pushed)
        _, _, tags = await get(f"{registry.url}/v2/some/where/tags/list")
        assert json.loads(tags)["tags"] == ["v1"]
    assert not registry.storage.parent.exists()
    assert not Path(f"/proc/{registry.pid}").exists()


async def test_users(layout):
    """Without a user's password there is no access; pushing uses one of them."""
    async with open_registry(users={"ann": "pässword"}) as registry:
        await registry.push(layout, "private")
        address = f"{registry.url}/v2/private/tags/list"
        assert (await get(address))[0] == 401
        assert (await get(address, user="ann:wrong"))[0] == 401
        assert (await get(address, user="ann:pässword"))[0] == 200
        assert "pässword" not in repr(registry)


async def test_tls(layout, tls):
    """It serves the given certificate; who does not trust that has no access."""
    async with open_registry(tls=tls) as registry:
        assert registry.url.startswith("https://")
        await registry.push(layout, "secure")
        assert (await get(f"{registry.url}/v2/secure/tags/list", ca=tls.ca))[0] == 200
        with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
            await get(f"{registry.url}/v2/")


@pytest.mark.lines("2.1")  # in earlier lines it is ctr itself that pulls
async def test_the_session_has_one_that_daemons_trust(tls_registry, ctr):
    """A daemon of the tests pulls from `tls_registry` without being told more."""
    assert (await get(f"{tls_registry.url}/v2/_catalog", ca=tls_registry.tls.ca))[0] == 200
    await ctr("images", "pull", tls_registry.reference("busybox"))
    await ctr("images", "remove", "--sync", tls_registry.reference("busybox"))


async def test_tokens(tls, layout):
    """It sends clients to the token service; pushing without a token is refused."""
    token = TokenAuth(
        realm="http://127.0.0.1:1/token", service="registry", issuer="tests", root_certificates=tls.certificate
    )
    async with open_registry(token=token) as registry:
        status, headers, _ = await get(f"{registry.url}/v2/")
        assert status == 401
        assert headers["WWW-Authenticate"].startswith('Bearer realm="http://127.0.0.1:1/token",service="registry"')
        with pytest.raises(RegistryError, match="401") as raised:
            await registry.push(layout, "private")
        assert raised.value.status == 401


async def test_pull_through(layout):
    """A mirror fetches what it lacks from its upstream."""
    async with open_registry() as upstream, open_registry(upstream=upstream.url) as mirror:
        await upstream.push(layout, "library/busybox")
        status, headers, _ = await get(f"{mirror.url}/v2/library/busybox/manifests/{layout.target.digest}")
        assert (status, headers["Docker-Content-Digest"]) == (200, layout.target.digest)


async def test_passwords_and_tokens_exclude_each_other(tls):
    """A registry has one kind of authentication."""
    token = TokenAuth(realm="r", service="s", issuer="i", root_certificates=tls.ca)
    with pytest.raises(InvalidArgumentError):
        async with open_registry(users={"a": "b"}, token=token):
            pass


async def test_a_missing_program_says_what_to_install(monkeypatch):
    """No docker-registry, no registry."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DaemonStartError, match="apt-get install docker-registry"):
        async with open_registry():
            pass


async def test_a_registry_that_cannot_start_shows_its_words(tls):
    """What it said before it ended is in the error."""
    broken = TLSFiles(certificate=Path("/no/such/certificate"), key=tls.key, ca=tls.ca)
    with pytest.raises(DaemonStartError, match="no such file"):
        async with open_registry(tls=broken):
            pass
