"""Registries as people run them, each pulled from and pushed to on a real daemon: passwords, tokens, TLS, mirrors."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import attrs
import pytest

from containerd_py import Client, Image, Registry, connect, deleting
from containerd_py.errors import (
    RegistryAuthenticationError,
    RegistryError,
    RegistryPermissionError,
    RegistryTLSError,
)
from containerd_py.remotes.docker_config import DockerConfig
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.testing.registry import LocalRegistry
from containerd_py.testing.registry import open_registry as open_local_registry
from containerd_py.types import Descriptor
from tests.conftest import Ctr
from tests.faults.layers import tar_layer
from tests.harness.registry import BLOBS, Authority, FaultyRegistry, open_registry
from tests.harness.registry_actions import Action, Exchange, Redirect, Respond, too_many_requests
from tests.integration.pulled import left_in
from tests.integration.token_service import TokenService, open_token_service

MIB = 1024 * 1024
USER, PASSWORD = "somebody", "a secret of mine"
QUICK = RegistryLimits(connect_timeout=2.0, stall_timeout=2.0, first_backoff=0.01, max_backoff=0.05)


async def round_trip(client: Client, source: Image, ref: str, registry: Registry, *, via: str = "client") -> None:
    """Push an image, delete what is here under that name, pull it again, and see that it is whole."""
    pushed = await client.push(ref, source=source, registry=registry, via=via)
    assert pushed == source.target
    async with deleting(await client.pull(ref, registry=registry, via=via)) as again:
        assert again.target.digest == pushed.digest
        assert await again.is_unpacked()


# ── who we are ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_anonymous(client: Client, layered: Image, local_registry: LocalRegistry, namespace: str):
    """A registry that asks nobody anything is used without credentials, also where some are configured."""
    ref = local_registry.reference(f"anonymous/{namespace}")
    await round_trip(client, layered, ref, Registry(credentials={local_registry.address: (USER, PASSWORD)}))


@pytest.mark.parametrize("source", ["mapping", "callable", "docker config"])
async def test_htpasswd(client: Client, layered: Image, tmp_path: Path, source: str):
    """User name and password, from wherever they come, let in; wrong ones and none are typed, and leave nothing."""
    async with open_local_registry(users={USER: PASSWORD}) as registry:
        address = registry.address
        ref = registry.reference("private/app")
        entry = {"username": USER, "password": PASSWORD}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {address: entry}}))
        credentials = {
            "mapping": {address: (USER, PASSWORD)},
            "callable": lambda host: (USER, PASSWORD) if host == address else None,
            "docker config": DockerConfig(tmp_path / "config.json"),
        }[source]
        await round_trip(client, layered, ref, Registry(credentials=credentials))
        for wrong in ({address: (USER, "not it")}, None):
            with pytest.raises(RegistryAuthenticationError):
                await client.push(ref, source=layered, registry=Registry(credentials=wrong), via="client")
    assert (await left_in(client)).leases == 0


@pytest.mark.lines("2.1")
async def test_htpasswd_by_transfer(client: Client, layered: Image):
    """The daemon asks us who we are when it pushes and pulls."""
    async with open_local_registry(users={USER: PASSWORD}) as registry:
        ref = registry.reference("private/app")
        known = Registry(credentials={registry.address: (USER, PASSWORD)})
        await round_trip(client, layered, ref, known, via="transfer")
        with pytest.raises(RegistryAuthenticationError):
            await client.push(ref, source=layered, via="transfer")


@asynccontextmanager
async def tokens_and_registry(
    folder: Path, *, readers: frozenset[str] = frozenset()
) -> AsyncIterator[tuple[TokenService, LocalRegistry]]:
    """Run a token service, and a registry that believes it and nobody else."""
    async with (
        open_token_service(folder, users={USER: PASSWORD}, readers=readers) as tokens,
        open_local_registry(token=tokens.options) as registry,
    ):
        yield tokens, registry


async def test_tokens(client: Client, layered: Image, tmp_path: Path):
    """Tokens of a token service are asked for with just the scopes needed, mounts included, and verified for real."""
    async with tokens_and_registry(tmp_path) as (tokens, registry):
        known = Registry(credentials={registry.address: (USER, PASSWORD)})
        await round_trip(client, layered, registry.reference("team/app"), known)
        assert {"repository:team/app:pull,push", "repository:team/app:pull"} <= set(tokens.scopes)
        async with deleting(await client.pull(registry.reference("team/app"), registry=known, via="client")) as app:
            await round_trip(client, app, registry.reference("team/other"), known)
        assert "repository:team/app:pull" in tokens.scopes
        assert await known.list_repositories(registry.address) == ["team/app", "team/other"]
        with pytest.raises(RegistryAuthenticationError):
            await client.push(registry.reference("team/app"), source=layered, via="client")


async def test_tokens_that_do_not_suffice(client: Client, layered: Image, tmp_path: Path):
    """Who may only read gets a typed error from a push, and no endless exchange of tokens."""
    async with tokens_and_registry(tmp_path, readers=frozenset({USER})) as (tokens, registry):
        known = Registry(credentials={registry.address: (USER, PASSWORD)})
        with pytest.raises((RegistryAuthenticationError, RegistryPermissionError)):
            await client.push(registry.reference("team/app"), source=layered, registry=known, via="client")
        assert len(tokens.requests) <= 16


@pytest.mark.lines("2.1")
async def test_tokens_by_transfer(client: Client, layered: Image, tmp_path: Path):
    """The daemon fetches tokens itself, with our credentials."""
    async with tokens_and_registry(tmp_path) as (_, registry):
        known = Registry(credentials={registry.address: (USER, PASSWORD)})
        await round_trip(client, layered, registry.reference("team/app"), known, via="transfer")


async def test_a_private_authority(client: Client, layered: Image, tls_registry: LocalRegistry, namespace: str):
    """A registry with a private authority is trusted where that is given, and a typed error elsewhere."""
    ref = tls_registry.reference(f"private-ca/{namespace}")
    assert tls_registry.tls is not None
    await round_trip(client, layered, ref, Registry(ca=tls_registry.tls.ca))
    with pytest.raises(RegistryTLSError):
        await client.push(ref, source=layered, registry=Registry(plain_http=False), via="client")
    await round_trip(client, layered, ref, Registry(skip_verify=True))


async def test_a_client_certificate(client: Client, layered: Image, tmp_path: Path):
    """A registry that wants a certificate of its clients gets ours, from the option or the hosts directory."""
    authority = Authority()
    certificate, key = authority.write_client(tmp_path)
    ca = authority.write(tmp_path)
    async with open_registry(tls=authority.server(client_required=True)) as registry:
        ref = registry.reference("team/app")
        await round_trip(client, layered, ref, Registry(ca=ca, client_cert=(certificate, key)))
        folder = tmp_path / "hosts" / registry.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(
            f'server = "{registry.url}"\nca = "{ca}"\nclient = [["{certificate}", "{key}"]]\n'
        )
        await round_trip(client, layered, registry.reference("team/other"), Registry(hosts_dir=tmp_path / "hosts"))
        with pytest.raises(RegistryError):
            await client.push(ref, source=layered, registry=Registry(ca=ca), via="client")


# ── mirrors, storage elsewhere, limits ──────────────────────────────────────────────────────────────────────────────


@attrs.frozen
class Mirrored:
    """A registry that exists in a hosts directory only, and a mirror that is asked before it."""

    origin: FaultyRegistry
    mirror: FaultyRegistry
    hosts_dir: Path
    layer: Descriptor
    ref: str = "registry.example/library/test:latest"

    @property
    def registry(self) -> Registry:
        return Registry(hosts_dir=self.hosts_dir)


@pytest.fixture
async def mirrored(tmp_path: Path) -> AsyncIterator[Mirrored]:
    async with open_registry() as origin, open_registry(content=origin.content) as mirror:
        origin.add_image([tar_layer("file", MIB)])
        blobs = origin.content.repository("library/test").blobs
        digest = max(blobs, key=lambda name: len(blobs[name]))
        folder = tmp_path / "registry.example"
        folder.mkdir()
        (folder / "hosts.toml").write_text(
            f'server = "{origin.url}"\n[host."{mirror.url}"]\ncapabilities = ["pull", "resolve"]\n'
        )
        layer = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=digest, size=len(blobs[digest]))
        yield Mirrored(origin, mirror, tmp_path, layer)


@pytest.fixture
def via(request: pytest.FixtureRequest, daemon_line: str) -> str:
    """Name who talks to the registry: daemons before 2.0 do not with hosts directories, and so we do."""
    return request.param if daemon_line == "2.1" else "client"


BOTH = pytest.mark.parametrize("via", ["client", "transfer"], indirect=True)


@BOTH
async def test_the_mirror_is_asked_first(client: Client, mirrored: Mirrored, via: str):
    """What the mirror has never reaches the registry itself, and the mirror is told for whom it stands in."""
    async with deleting(await client.pull(mirrored.ref, registry=mirrored.registry, via=via)) as image:
        assert await image.is_unpacked()
    assert mirrored.origin.requests == []
    assert all("ns=registry.example" in each.target for each in mirrored.mirror.requests)


@BOTH
async def test_a_mirror_that_is_down(client: Client, mirrored: Mirrored, via: str):
    """A mirror that ends every connection is passed over."""
    mirrored.mirror.accept = "close"
    async with deleting(await client.pull(mirrored.ref, registry=mirrored.registry, via=via)) as image:
        assert await image.is_unpacked()
    assert mirrored.mirror.connections > 0
    assert mirrored.origin.served(mirrored.layer.digest) == mirrored.layer.size


@BOTH
async def test_a_mirror_that_lacks_the_blob(client: Client, mirrored: Mirrored, via: str):
    """A mirror that knows the manifest and not the layer is asked for both; the layer comes from the registry."""
    mirrored.mirror.fault(Respond(404, code="BLOB_UNKNOWN"), path=mirrored.layer.digest)
    async with deleting(await client.pull(mirrored.ref, registry=mirrored.registry, via=via)) as image:
        assert await image.is_unpacked()
    mirrored.mirror.assert_all_fired()
    assert [each.path for each in mirrored.origin.matching(method="GET")] == [
        f"/v2/library/test/blobs/{mirrored.layer.digest}"
    ]


async def test_a_push_passes_mirrors_by(client: Client, layered: Image, mirrored: Mirrored):
    """A push goes to the registry itself: mirrors are not for writing."""
    await client.push("registry.example/pushed/app", source=layered, registry=mirrored.registry, via="client")
    assert mirrored.mirror.requests == []
    assert mirrored.origin.content.repository("pushed/app").tags == {"latest": layered.target.digest}


@BOTH
async def test_blobs_on_another_host(client: Client, mirrored: Mirrored, via: str):
    """Blobs that the registry keeps on another host are fetched there, with nothing of ours shown."""
    async with open_registry(host="127.0.0.2", content=mirrored.origin.content) as storage:
        mirrored.mirror.require_basic(USER, PASSWORD)
        mirrored.mirror.fault(Redirect(f"{storage.url}{{target}}"), path=BLOBS, method="GET")
        known = attrs.evolve(mirrored.registry, credentials={mirrored.mirror.address: (USER, PASSWORD)})
        async with deleting(await client.pull(mirrored.ref, registry=known, via=via)) as image:
            assert await image.is_unpacked()
        assert storage.served(mirrored.layer.digest) == mirrored.layer.size
        assert storage.mentioning(PASSWORD) == []


async def test_a_rate_limit_is_waited_for(client: Client, layered: Image, mirrored: Mirrored):
    """A registry that asks to come back in a second is asked again in a second, by pulls and by pushes."""
    mirrored.mirror.fault(too_many_requests(1), path=BLOBS, nth=1)
    started = anyio.current_time()
    async with deleting(await client.pull(mirrored.ref, registry=mirrored.registry, via="client")) as image:
        assert await image.is_unpacked()
    assert anyio.current_time() - started >= 1
    for method in ("HEAD", "POST", "PUT"):
        mirrored.origin.fault(too_many_requests(1), method=method, path="/pushed/", nth=1)
    await client.push("registry.example/pushed/app", source=layered, registry=mirrored.registry, via="client")
    mirrored.origin.assert_all_fired()


# ── connections that break, and several who pull ────────────────────────────────────────────────────────────────────


@attrs.frozen
class DropSomewhere(Action):
    """End the connection somewhere in the first megabyte of the body, but not before it has got anywhere."""

    dice: random.Random

    def after(self, exchange: Exchange) -> None:
        exchange.cut_at = self.dice.randrange(8 * 1024, MIB)
        exchange.end = "close"


async def test_fifty_broken_connections_in_one_pull(client: Client):
    """A pull whose connections break at 50 random places ends well, and no byte is fetched twice that had arrived."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with open_registry() as registry:
        registry.add_image([tar_layer("a", 24 * MIB), tar_layer("b", 24 * MIB, seed=1)])
        rule = registry.fault(DropSomewhere(dice), path=BLOBS, times=50)
        async with deleting(
            await client.pull(registry.reference("library/test"), via="client", registry=Registry(limits=QUICK))
        ) as image:
            assert await image.is_unpacked()
            layers = (await image.manifest()).layers
        rule.assert_fired(50)
        for layer in layers:
            position = 0
            for each in registry.blob_requests(layer.digest):
                asked = each.headers.get("Range").removeprefix("bytes=").removesuffix("-") or "0"
                assert int(asked) <= position  # nothing is left out
                position = int(asked) + each.sent
            # What is on its way when a connection ends is the only thing that may come twice.
            assert registry.served(layer.digest) <= layer.size + 50 * 256 * 1024


async def test_several_pull_the_same_and_each_byte_comes_once(client: Client, ctr: Ctr, daemon, daemon_line: str):
    """Two clients of ours and ctr pull one image at once: all end well, and no layer is fetched twice."""
    async with open_registry() as registry:
        registry.add_image([tar_layer(f"file{number}", 4 * MIB, seed=number) for number in range(3)], compress=True)
        ref = registry.reference("library/test:latest")
        async with connect(daemon.address, namespace=client.namespace) as other, anyio.create_task_group() as group:
            group.start_soon(lambda: client.pull(ref, via="client"))
            group.start_soon(lambda: other.pull(ref, via="client"))
            local = ["--local"] if daemon_line == "2.1" else []
            group.start_soon(lambda: ctr("images", "pull", "--plain-http", *local, ref))
        async with deleting(await client.load_image(ref)) as image:
            assert await image.is_unpacked()
            for layer in (await image.manifest()).layers:
                assert registry.served(layer.digest) == layer.size
            left = await left_in(client)
            assert (len(left.images), len(left.snapshots), left.unfinished, left.leases, left.ingests) == (
                1,
                3,
                0,
                0,
                0,
            )


async def test_two_push_the_same_at_once(client: Client, layered: Image, daemon, local_registry, namespace: str):
    """Two clients push one image to one place at the same time: both end well."""
    ref = local_registry.reference(f"twice/{namespace}")
    async with connect(daemon.address, namespace=client.namespace) as other, anyio.create_task_group() as group:
        for pusher in (client, other):
            group.start_soon(lambda pusher=pusher: pusher.push(ref, source=layered.name, via="client"))
    async with Registry().open_repository(ref) as repository:
        assert (await repository.resolve()).digest == layered.target.digest
