"""Checked by mypy, never run: what making images and looking after them gives."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_type

from containerd_py import (
    CleanupReport,
    Client,
    ConfigChanges,
    Container,
    DirectoryLayer,
    Image,
    ImageCheck,
    ImageDetails,
    LayerSource,
    PruneReport,
    RunLayer,
    SnapshotterInfo,
    TarLayer,
)


async def _stream() -> AsyncIterator[bytes]:
    yield b""


async def making(client: Client, container: Container, base: Image) -> None:
    layers: list[LayerSource] = [
        DirectoryLayer(Path("x"), destination="/x", owner=None, mtime=datetime.now(UTC), exclude=["*.pyc"]),
        TarLayer("x.tar"),
        TarLayer(_stream(), created_by="me"),
        RunLayer(["true"], env={"A": "b"}, network="host"),
    ]
    changes = ConfigChanges(cmd=["x"], env={"A": "1", "B": None}, exposed_ports=["80"], user="1:1")
    assert_type(await client.build_image("x", base=base, layers=layers, config=changes, source_date_epoch=0), Image)
    assert_type(await client.build_image("x", base="y", policy="never", compression="zstd"), Image)
    assert_type(await client.commit(container, "x", author="a", message="m", changes=changes, pause=False), Image)
    assert_type(await client.commit("id", "x", compression="none"), Image)
    assert_type(await client.convert_image("x", "y", platforms=["linux/arm64"], media_types="docker"), Image)
    await client.build_image("x", compression="xz")  # type: ignore[arg-type]
    await client.convert_image("x", "y", media_types="other")  # type: ignore[arg-type]
    ConfigChanges({})  # type: ignore[call-arg]


async def looking_after(client: Client, image: Image) -> None:
    assert_type(await image.inspect(), ImageDetails)
    assert_type(await image.check(verify=True), ImageCheck)
    assert_type(await image.labels(), Mapping[str, str])
    assert_type(await image.set_labels({"a": ""}), Mapping[str, str])
    await client.untag("x", synchronous=True)
    assert_type(await client.prune_images(unused=True, filters=['name~="x"'], dry_run=True), PruneReport)
    assert_type(await client.cleanup_snapshots("native", dry_run=True), CleanupReport)
    assert_type((await client.snapshotter_info("overlayfs")).size, int)
    assert_type(await client.snapshotter_info("overlayfs"), SnapshotterInfo)
