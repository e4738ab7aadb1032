"""Pulling by transfer, over TLS that the daemon trusts, and next to it the same pull client-side: the same result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs
import pytest
import trustme
from anyio.from_thread import BlockingPortal

from containerd_py import Client, connect, deleting
from containerd_py.daemon import Daemon, open_daemon
from containerd_py.errors import (
    NotFoundError,
    RegistryAuthenticationError,
    RegistryNotFoundError,
    RegistryTLSError,
    RegistryUnavailableError,
)
from containerd_py.remotes.registry import Registry
from containerd_py.testing.images import busybox_layout, this_platform
from containerd_py.testing.registry import LocalRegistry, open_registry
from containerd_py.testing.registry_options import TLSFiles
from containerd_py.types import Platform
from tests.conftest import LAYERED, LAYERED_OPTIONS, SeededImages
from tests.integration.pulled import left_in

pytestmark = pytest.mark.lines("1.7", "2.1")
USER, PASSWORD = "somebody", "a secret"


@attrs.frozen(kw_only=True)
class Secured:
    """A registry that speaks TLS and wants a password, and what is in it."""

    registry: LocalRegistry
    ca: Path
    layered: str
    index: str

    def options(self, via: str, *, credentials: object = None) -> Registry:
        """Say how to talk to it: we need to be told the authority, the daemon trusts it already."""
        source = {self.registry.address: (USER, PASSWORD)} if credentials is None else credentials
        return Registry(credentials=source, plain_http=False, ca=self.ca if via == "client" else None)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return TLSFiles(certificate=folder / "server.pem", key=folder / "server.pem", ca=folder / "ca.pem")


@pytest.fixture(scope="module")
def secured(containerd_portal: BlockingPortal, tls: TLSFiles, tmp_path_factory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    foreign = Platform(os="linux", architecture="arm64", variant="v8")
    layouts = {
        "layered": busybox_layout(folder / "layered", layers=LAYERED, options=LAYERED_OPTIONS),
        "index": busybox_layout(folder / "index", platforms=[this_platform(), foreign]),
    }
    with containerd_portal.wrap_async_context_manager(open_registry(tls=tls, users={USER: PASSWORD})) as registry:
        for name, layout in layouts.items():
            containerd_portal.call(registry.push, layout, name)
        yield Secured(registry=registry, ca=tls.ca, **{name: registry.reference(name) for name in layouts})


@pytest.fixture(scope="module")
def daemon(
    daemon_line: str, daemon_bin: Path, containerd_portal: BlockingPortal, tls: TLSFiles, tmp_path_factory
) -> Iterator[Daemon]:
    """Lend a daemon that trusts the registry's authority."""
    log_path = tmp_path_factory.mktemp(f"trusting-{daemon_line}") / "log"
    env = {"SSL_CERT_FILE": str(tls.ca)}
    opening = open_daemon(containerd=daemon_bin / "containerd", log_path=log_path, env=env)
    with containerd_portal.wrap_async_context_manager(opening) as daemon:
        yield daemon


async def clear(client: Client) -> None:
    for record in await client.images.list():
        await client.images.delete(record.name, synchronous=True)


@pytest.mark.parametrize("kind", ["layered", "index"])
async def test_both_ways_leave_the_same(client: Client, secured: Secured, kind: str):
    """Record, content, snapshots and all labels are the same, whoever pulls."""
    ref = getattr(secured, kind)
    left = {}
    for via in ("client", "transfer"):
        image = await client.pull(ref, via=via, labels={"mine": "1"}, registry=secured.options(via))
        assert await image.is_unpacked()
        left[via] = await left_in(client)
        await clear(client)
    assert left["client"] == left["transfer"]
    assert left["client"].leases == left["client"].ingests == left["client"].unfinished == 0


async def test_auto_lets_the_daemon_do_it(client: Client, secured: Secured):
    """auto pulls by transfer where the daemon can: this program does not even trust the registry's authority."""
    async with deleting(await client.pull(secured.layered, registry=secured.options("transfer"))) as image:
        assert await image.is_unpacked()


async def test_auto_pulls_itself_where_the_daemon_is_not_trusting(
    daemon_bin: Path, secured: Secured, monkeypatch, namespace: str
):
    """A daemon that does not trust the registry is no obstacle to auto, if this program does trust it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.ca))
    async with (
        open_daemon(containerd=daemon_bin / "containerd", env={"SSL_CERT_FILE": "/dev/null"}) as distrusting,
        connect(distrusting.address, namespace=namespace) as client,
    ):
        options = secured.options("auto")
        with pytest.raises(RegistryTLSError):
            await client.pull(secured.layered, via="transfer", registry=options)
        assert await (await client.pull(secured.layered, via="auto", registry=options)).is_unpacked()


async def test_progress_of_a_transfer_is_read_to_its_end(client: Client, secured: Secured):
    """Every piece of content ends complete, with its bytes, in the daemon's own words."""
    last = {}
    async with client.open_pull(secured.layered, via="transfer", registry=secured.options("transfer")) as pull:
        async for progress in pull:
            last[progress.name or progress.event] = progress
    async with deleting(pull.image):
        manifest = await pull.image.manifest()
        for kind, blob in [("config", manifest.config), *(("layer", layer) for layer in manifest.layers)]:
            progress = last[f"{kind}-{blob.digest}"]
            assert (progress.event, progress.progress, progress.total) == ("complete", blob.size, blob.size)
            assert progress.parents == (f"manifest-{pull.image.target.digest}",)
        assert last[pull.ref].event == "saved"
        assert f"Completed pull from OCI Registry ({pull.ref})" in last


@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_wrong_credentials_are_an_authentication_error(client: Client, secured: Secured, via):
    """A refused password, and none at all, are told as what they are; no secret is in the message."""
    for credentials in ({secured.registry.address: (USER, "a wrong one")}, {}):
        with pytest.raises(RegistryAuthenticationError) as caught:
            await client.pull(secured.layered, via=via, registry=secured.options(via, credentials=credentials))
        assert "a wrong one" not in repr(caught.value)
    assert (await left_in(client)).leases == 0


@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_credentials_are_asked_of_a_callable(client: Client, secured: Secured, via):
    """A callable is asked for the registry's host, asynchronously if it likes."""
    asked = []

    async def look_up(host: str) -> tuple[str, str]:
        asked.append(host)
        await anyio.sleep(0)
        return USER, PASSWORD

    image = await client.pull(secured.layered, via=via, registry=secured.options(via, credentials=look_up))
    assert set(asked) == {secured.registry.address}
    await image.delete()


@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_a_failing_callable_is_the_pulls_failure(client: Client, secured: Secured, via):
    """What the caller's own callable raises comes out as itself, and the daemon is not left waiting for an answer."""

    def look_up(host: str) -> tuple[str, str]:
        raise KeyError("the keyring is locked")

    with anyio.fail_after(20), pytest.raises(KeyError, match="the keyring is locked"):
        await client.pull(secured.layered, via=via, registry=secured.options(via, credentials=look_up))
    async with deleting(await client.pull(secured.layered, via=via, registry=secured.options(via))):
        assert (await left_in(client)).leases == 0


@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_failures_are_typed_alike(client: Client, secured: Secured, via):
    """What is not there, and who cannot be reached, are told by type whoever pulls."""
    missing = secured.registry.reference("no/such")
    with pytest.raises(RegistryNotFoundError):
        await client.pull(missing, via=via, registry=secured.options(via))
    with pytest.raises(RegistryUnavailableError):
        await client.pull("127.0.0.1:1/busybox", via=via, registry=secured.options(via))
    with pytest.raises(NotFoundError, match=r"linux/s390x.*linux/amd64.*linux/arm64") as caught:
        await client.pull(secured.index, platform="linux/s390x", via=via, registry=secured.options(via))
    assert not isinstance(caught.value, RegistryNotFoundError)


async def test_what_the_daemon_does_not_unpack_we_do(client: Client, secured: Secured):
    """A platform the daemon is not configured to unpack is unpacked all the same."""
    options = secured.options("transfer")
    image = await client.pull(secured.index, platform="linux/arm64", via="transfer", registry=options)
    assert await image.is_unpacked()
    async with deleting(
        await client.pull(secured.layered, snapshotter="native", via="transfer", registry=options)
    ) as other:
        assert await other.is_unpacked("native")
        assert not await other.is_unpacked("overlayfs")
    await image.delete()


async def test_without_unpacking(client: Client, secured: Secured):
    """unpack=False and all_platforms make no snapshots, by transfer too."""
    options = secured.options("transfer")
    await client.pull(secured.layered, unpack=False, via="transfer", registry=options)
    await client.pull(secured.index, all_platforms=True, via="transfer", registry=options)
    left = await left_in(client)
    assert left.snapshots == {}
    assert len(left.content) == 7 + 5  # two images with the same base layer
    await clear(client)


async def test_labels_of_others_stay(client: Client, secured: Secured):
    """Labels that a record has besides survive a transfer, which replaces them all."""
    image = await client.pull(secured.index, labels={"mine": "1", "both": "old"}, registry=secured.options("auto"))
    await client.pull(secured.index, labels={"both": "new"}, via="transfer", registry=secured.options("transfer"))
    assert dict((await image.record()).labels) == {"mine": "1", "both": "new"}
    await image.delete()


async def test_leaving_early_cancels(client: Client, secured: Secured):
    """A transfer whose block is left ends at the daemon as well, and leaves no image and no lease."""
    async with client.open_pull(secured.layered, via="transfer", registry=secured.options("transfer")) as pull:
        async for progress in pull:
            if progress.event.startswith("Resolving"):
                break
    left = await left_in(client)
    assert (left.images, left.leases) == ({}, 0)


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_hosts_directories_are_honoured(client: Client, seeded_images: SeededImages, tmp_path: Path, via):
    """A registry that exists only in a hosts directory is pulled from, whoever pulls."""
    folder = tmp_path / "registry.example"
    folder.mkdir()
    (folder / "hosts.toml").write_text(f'server = "{seeded_images.registry.url}"\n')
    registry = Registry(hosts_dir=tmp_path)
    async with deleting(await client.pull("registry.example/layered", via=via, registry=registry)) as image:
        assert image.name == "registry.example/layered:latest"
        assert await image.is_unpacked()


@pytest.mark.lines("2.1")
async def test_plain_http_by_transfer(client: Client, seeded_images: SeededImages):
    """The daemon pulls over plain HTTP where that is the registry's way."""
    async with deleting(await client.pull(seeded_images.layered, via="transfer")) as image:
        assert await image.is_unpacked()


async def test_the_user_agent_is_passed_on(client: Client, secured: Secured):
    """A user agent is no obstacle to a transfer: the daemon takes it as a header."""
    options = attrs.evolve(secured.options("transfer"), user_agent="tests/1")
    async with deleting(await client.pull(secured.layered, via="transfer", registry=options)) as image:
        assert await image.is_unpacked()
