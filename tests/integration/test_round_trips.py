"""Images on their way around: made here, sent away, forgotten, brought back and run."""

from pathlib import Path

from containerd_py import Client, ConfigChanges, DirectoryLayer
from containerd_py.testing.registry import LocalRegistry
from tests.conftest import SeededImages


async def test_built_pushed_deleted_pulled_and_run(
    client: Client, seeded_images: SeededImages, local_registry: LocalRegistry, namespace: str, tmp_path: Path
):
    """What was built is the same after a push, a deletion and a pull, and runs."""
    (tmp_path / "greeting").write_text("built here\n")
    ref = local_registry.reference(f"{namespace}/built")
    base = await client.pull(seeded_images.busybox, via="client")
    built = await client.build_image(
        ref,
        base=base,
        layers=[DirectoryLayer(tmp_path, destination="/srv")],
        config=ConfigChanges(entrypoint=("/bin/cat",), cmd=("/srv/greeting",)),
    )
    assert (await client.push(ref)).digest == built.target.digest
    await built.delete(synchronous=True)
    await base.delete(synchronous=True)
    assert await client.content.list() == []
    pulled = await client.pull(ref)
    assert pulled.target.digest == built.target.digest
    assert (await client.run(pulled)).stdout == b"built here\n"
    await pulled.delete(synchronous=True)


async def test_pulled_exported_deleted_imported_and_run(client: Client, seeded_images: SeededImages, tmp_path: Path):
    """What was exported is the same after a deletion and an import, and runs."""
    image = await client.pull(seeded_images.layered)
    before = (await client.run(image, ["a", "b"])).stdout
    await client.export_images([image.name], tmp_path / "image.tar")
    await image.delete(synchronous=True)
    (imported,) = await client.import_images(tmp_path / "image.tar")
    assert (imported.name, imported.target.digest) == (image.name, image.target.digest)
    assert (await client.run(imported, ["a", "b"])).stdout == before
    await imported.delete(synchronous=True)
