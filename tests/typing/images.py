"""Checked by mypy, never run: what pulls and images give."""

from datetime import timedelta
from typing import assert_type

from containerd_py import (
    Client,
    Descriptor,
    HistoryEntry,
    Image,
    ImageRecord,
    ImageUsage,
    Lease,
    Platform,
    Progress,
    Pull,
    Registry,
    Secret,
    connect,
    deleting,
)


async def connecting() -> None:
    async with connect("unix:///run/containerd/containerd.sock", namespace="demo") as client:
        assert_type(client, Client)
        assert_type(client.namespace, str)
        assert_type(client.in_namespace("k8s.io"), Client)
        async with client.hold_lease(id="mine", expires_in=timedelta(hours=1), labels={"a": "b"}) as leased:
            assert_type(leased, Client)


async def pulling(client: Client, registry: Registry) -> None:
    assert_type(await client.pull("alpine", platform="linux/arm64", registry=registry, via="client"), Image)
    assert_type(await client.ensure_image("alpine", policy="never", all_platforms=True), Image)
    async with client.open_pull("alpine", labels={"team": "blue"}) as pull:
        assert_type(pull, Pull)
        async for progress in pull:
            assert_type(progress, Progress)
            assert_type(progress.event, str)
            assert_type(progress.total, int)
            assert_type(progress.descriptor, Descriptor | None)
    assert_type(pull.image, Image)
    await client.pull("alpine", via="daemon")  # type: ignore[arg-type]
    await client.ensure_image("alpine", policy="sometimes")  # type: ignore[arg-type]
    await client.pull("alpine", timeout=3)  # type: ignore[call-arg]


async def images(client: Client, image: Image) -> None:
    assert_type(image.name, str)
    assert_type(image.target, Descriptor)
    assert_type(await image.record(), ImageRecord)
    assert_type(await image.diff_ids(), list[str])
    assert_type(await image.platforms(), list[Platform])
    assert_type(await image.usage(), ImageUsage)
    assert_type(await image.history(), list[HistoryEntry])
    assert_type(await image.is_unpacked("overlayfs"), bool)
    assert_type(await image.tag("demo:1"), Image)
    assert_type(await client.list_images(['name~="alpine"']), list[Image])
    assert_type(await client.read_blob(image.target), bytes)
    async with deleting(image) as lent:
        assert_type(lent, Image)
    async with deleting(await client.leases.create("mine")) as lease:
        assert_type(lease, Lease)


async def _look_up(host: str) -> tuple[str, Secret] | None:
    return (host, Secret("hidden"))


def registries() -> None:
    Registry(credentials={"registry.example.com": ("user", "secret")}, ca="ca.pem", hosts_dir="/etc/containerd/certs.d")
    Registry(credentials=_look_up, client_cert=("client.pem", "client.key"), token_servers=["auth.example.com"])
    Registry(credentials={"registry.example.com": "secret"})  # type: ignore[dict-item]
    Registry("registry.example.com")  # type: ignore[call-arg]
