"""Images made of files, archives, commands and containers, on all lines: they run, for ctr too, and nothing is lost."""

import hashlib
import io
import os
import re
import tarfile
from pathlib import Path

import anyio
import pytest

from containerd_py import (
    Client,
    ConfigChanges,
    DirectoryLayer,
    Image,
    RunLayer,
    TarLayer,
    connect,
    deleting,
)
from containerd_py.errors import (
    ArchiveError,
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ProcessExitError,
    UnpackError,
)
from containerd_py.services.tasks import TaskState
from tests.integration.authored import EPOCH, application, busybox_tar
from tests.integration.pulled import left_in

REF = "registry.example/built:1"
OTHER = "registry.example/other:2"
SLEEP = ["/bin/sleep", "1000"]


# ── build ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_an_image_built_of_everything_runs(client: Client, tmp_path: Path, compression, ctr):
    """An archive, a directory and a command make an image that runs, under ctr as well, and goes without a trace."""
    image = await client.build_image(
        REF,
        layers=[
            TarLayer(busybox_tar(tmp_path)),
            DirectoryLayer(application(tmp_path), destination="/opt/app"),
            RunLayer(["/bin/sh", "-c", "echo $WHO > /opt/who; rm /opt/app/link"], env={"WHO": "world"}),
        ],
        config=ConfigChanges(cmd=["/bin/sh", "-c", "/opt/app/greet; cat /opt/who; ls -l /opt/app"], env={"A": "b"}),
        compression=compression,
    )
    assert await image.is_unpacked()
    output = (await client.run(image)).stdout.decode()
    assert output.startswith("hello\nworld\n")
    assert "link" not in output
    assert re.search(r"-rwxr-xr-x +1 root +root .* greet\n", output)
    assert re.search(r"-rw-r--r-- +2 root +root .* same\n", output), "hard links stay links"
    assert {layer.media_type.rpartition(".")[2] for layer in (await image.manifest()).layers} == {
        {"gzip": "tar+gzip", "zstd": "tar+zstd", "none": "tar"}[compression]
    }
    assert (await image.config()).env == ("A=b",)
    assert "hello\nworld\n" in await ctr("run", "--rm", REF, "by-ctr")
    await image.delete(synchronous=True)
    left = await left_in(client)
    assert (left.images, left.content, left.snapshots, left.ingests, left.unfinished) == ({}, {}, {}, 0, 0)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_the_same_input_gives_the_same_digest(client: Client, tmp_path: Path, compression, monkeypatch):
    """With SOURCE_DATE_EPOCH, as argument or in the environment, an image built again is the same, commands and all."""
    tar, root = busybox_tar(tmp_path), application(tmp_path)
    digests = []
    for attempt, argument in enumerate([EPOCH, None]):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "77" if argument else str(EPOCH))
        for path in (root, *root.rglob("*")):
            os.utime(path, (EPOCH + 9 + attempt, EPOCH + 9 + attempt), follow_symlinks=False)
        image = await client.build_image(
            f"{REF}{attempt}",
            layers=[
                TarLayer(tar),
                DirectoryLayer(root, destination="/opt/app"),
                RunLayer(["/bin/sh", "-c", "date > /opt/fixed; echo x > /opt/fixed; rm /etc/hostname; mkdir -p /a/b"]),
            ],
            config=ConfigChanges(cmd=["/bin/true"]),
            compression=compression,
            source_date_epoch=argument,
        )
        digests.append(image.target.digest)
        await anyio.sleep(0 if attempt else 1.1)  # so that times in seconds differ
    assert digests[0] == digests[1]
    listing = (await client.run(image, ["/bin/stat", "-c", "%Y", "/opt/fixed", "/opt/app/greet", "/a/b"])).stdout
    assert listing.split() == [str(EPOCH).encode()] * 3
    config = await image.config()
    assert config.created is not None
    assert config.created.timestamp() == EPOCH
    await client.untag(f"{REF}0")
    await client.untag(f"{REF}1", synchronous=True)


async def test_without_an_epoch_times_are_the_files_own(client: Client, tmp_path: Path):
    """A directory's layer has the files' own times and, on demand, owners, or one time for all."""
    root = application(tmp_path)
    os.utime(root / "greet", (12345, 12345))
    os.chown(root / "greet", 12, 34)
    image = await client.build_image(
        REF,
        layers=[
            TarLayer(busybox_tar(tmp_path)),
            DirectoryLayer(root, destination="/own", owner=None, exclude=["data/*", "link", "same"]),
            DirectoryLayer(root, destination="/given", owner=(7, 8)),
        ],
    )
    show = ["/bin/stat", "-c", "%n %Y %u:%g", "/own/greet", "/given/greet"]
    assert (await client.run(image, show)).stdout == b"/own/greet 12345 12:34\n/given/greet 12345 7:8\n"
    assert set((await client.run(image, ["/bin/find", "/own"])).stdout.split()) == {
        b"/own",
        b"/own/data",
        b"/own/greet",
    }
    await image.delete(synchronous=True)


async def test_a_base_is_kept_and_laid_over(client: Client, layered: Image, tmp_path: Path):
    """The base's layers stay, its configuration is changed where asked for, and its history goes on."""
    async with deleting(
        await client.build_image(
            REF,
            base=layered,
            layers=[DirectoryLayer(application(tmp_path), destination="/data")],
            config=ConfigChanges(
                env={"GREETING": "bye", "PATH": None, "NEW": "1"},
                cmd=["more"],
                labels={"org.example.kind": None, "org.example.new": "yes"},
                exposed_ports=["443"],
                volumes=["/srv"],
                user="0:0",
                workdir="/",
                stop_signal="SIGTERM",
            ),
            author="somebody",
        )
    ) as image:
        config, below = await image.config(), await layered.config()
        assert config.env == ("GREETING=bye", "NEW=1")
        assert (config.entrypoint, config.cmd) == (below.entrypoint, ("more",))
        assert dict(config.labels) == {"org.example.new": "yes"}
        assert set(config.exposed_ports) == {"80/tcp", "443/tcp"}
        assert set(config.volumes) == {"/var/lib/app", "/srv"}
        assert (config.user, config.cwd, config.stop_signal, config.author) == ("0:0", "/", "SIGTERM", "somebody")
        assert config.diff_ids[:-1] == below.diff_ids
        assert (await image.manifest()).layers[:-1] == (await layered.manifest()).layers
        history = await image.history()
        assert [step.history.created_by for step in history][-2:] == ["directory to /data", "configuration"]
        assert [step.layer for step in history if step.layer] == [*(await image.manifest()).layers]
        assert (await client.run(image, ["x"])).stdout == b"x\n"


async def test_commands_run_as_the_base_says(client: Client, layered: Image):
    """A command of a build has the base's environment, user and directory, not its entrypoint, or what it is given."""
    async with deleting(
        await client.build_image(
            REF,
            base=layered,
            layers=[
                RunLayer(["/bin/sh", "-c", 'echo "$GREETING $(id -un) $PWD" > /tmp/base']),
                RunLayer(["/bin/sh", "-c", "id -un > /tmp/other; pwd >> /tmp/other"], user="root", cwd="/opt"),
            ],
        )
    ) as image:
        done = await client.run(image, spec_options=(), args=["-"], check=False)
        assert done.exit_code == 0, "the entrypoint is the base's"
        tool = await client.build_image(OTHER, base=image, config=ConfigChanges(entrypoint=["/bin/cat"]))
        shown = await client.run(tool, ["/tmp/base", "/tmp/other"])
        assert shown.stdout == b"hello world app /data\nroot\n/opt\n"
        await tool.delete()


async def test_a_command_that_fails_fails_the_build(client: Client, busybox: Image, namespace: str):
    """The error has code and output; what the name stood for before stays; containers and snapshots are gone."""
    before = await busybox.tag(REF)
    with pytest.raises(ProcessExitError) as caught:
        await client.build_image(
            REF, base=busybox, layers=[RunLayer(["/bin/sh", "-c", "echo out; echo no >&2; exit 3"])]
        )
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (3, b"out\n", b"no\n")
    assert (await client.load_image(REF)).target == before.target
    assert await client.list_containers() == []
    await before.delete()


async def test_archives_come_in_any_form(client: Client, tmp_path: Path):
    """A tar archive may be a stream or bytes, compressed or not, with whiteouts; its bytes are its diff ID's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in (("etc/.wh.hosts", b""), ("etc/added", b"added\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

    async def chunks():
        for start in range(0, len(stream.getvalue()), 1000):
            yield stream.getvalue()[start : start + 1000]

    image = await client.build_image(REF, layers=[TarLayer(str(busybox_tar(tmp_path))), TarLayer(chunks())])
    shown = await client.run(image, ["/bin/sh", "-c", "cat /etc/added; test -e /etc/hosts || echo hidden"])
    assert shown.stdout == b"added\nhidden\n"
    whole = await client.build_image(REF, base=image, layers=[TarLayer(stream.getvalue())])
    assert (await whole.diff_ids())[-2:] == [f"sha256:{hashlib.sha256(stream.getvalue()).hexdigest()}"] * 2
    await whole.delete(synchronous=True)


@pytest.mark.parametrize(
    "layers, error",
    [
        (lambda folder: [TarLayer(folder / "absent.tar")], NotFoundError),
        (lambda folder: [DirectoryLayer(folder / "absent")], NotFoundError),
        (lambda folder: [DirectoryLayer(folder / "busybox.tar")], InvalidArgumentError),
        (lambda folder: [DirectoryLayer(folder / "whiteout")], InvalidArgumentError),
        (lambda folder: [TarLayer(folder / "cut.gz")], ArchiveError),
        (lambda folder: [TarLayer(folder / "cut.tar")], UnpackError),
        (lambda _folder: [RunLayer(["/bin/absent"])], ContainerdError),
        (lambda folder: [folder], InvalidArgumentError),
    ],
)
async def test_what_cannot_be_built_leaves_nothing(client: Client, tmp_path: Path, layers, error):
    """A layer that is missing, damaged or means something else is refused with a typed error, and nothing is kept."""
    tar = busybox_tar(tmp_path)
    (tmp_path / "cut.tar").write_bytes(tar.read_bytes()[:100_000])
    packed = max((tmp_path / "layout" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    (tmp_path / "cut.gz").write_bytes(packed.read_bytes()[:-20])
    (tmp_path / "whiteout").mkdir()
    (tmp_path / "whiteout" / ".wh.etc").touch()
    with pytest.raises(error):
        await client.build_image(REF, layers=[TarLayer(tar), *layers(tmp_path)])
    assert await client.list_images() == []
    left = await left_in(client)
    assert (left.leases, left.ingests, left.unfinished) == (0, 0, 0)


async def test_names_with_digests_and_docker_with_zstd_are_refused(client: Client, seeded_images):
    """An image cannot be named by a digest; on Docker's media types there is no zstd that all lines know."""
    with pytest.raises(InvalidArgumentError, match="digest"):
        await client.build_image(f"x@sha256:{'0' * 64}")
    with pytest.raises(InvalidArgumentError, match="list of strings"):
        RunLayer("/bin/true")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="layers must be a list"):
        await client.build_image(REF, layers=RunLayer(["/bin/true"]))  # type: ignore[arg-type]
    async with deleting(await client.pull(seeded_images.docker, via="client")) as docker:
        with pytest.raises(InvalidArgumentError, match="Docker"):
            await client.build_image(REF, base=docker, compression="zstd")
        async with deleting(
            await client.build_image(REF, base=docker, layers=[RunLayer(["/bin/touch", "/new"])])
        ) as image:
            assert image.target.media_type == docker.target.media_type
            assert {layer.media_type for layer in (await image.manifest()).layers} == {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            assert (await client.run(image, ["/bin/ls", "/new"])).stdout == b"/new\n"


async def test_an_image_for_another_snapshotter(client: Client, tmp_path: Path):
    """A build may use any snapshotter; an unpack to a second one makes the image run there too."""
    image = await client.build_image(
        REF,
        layers=[TarLayer(busybox_tar(tmp_path)), RunLayer(["/bin/sh", "-c", "echo native > /made"])],
        snapshotter="native",
    )
    assert (await image.is_unpacked("native"), await image.is_unpacked("overlayfs")) == (True, False)
    assert (await client.run(image, ["/bin/cat", "/made"], snapshotter="native")).stdout == b"native\n"
    await image.unpack("overlayfs")
    assert (await image.check()).unpacked_in == ("native", "overlayfs")
    assert (await client.run(image, ["/bin/cat", "/made"])).stdout == b"native\n"
    await image.delete(synchronous=True)
    assert await client.snapshotter("native").list() == []


# ── commit ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_commit_has_what_the_container_changed(client: Client, busybox: Image, compression, ctr):
    """What a running container wrote and removed is in the image, which ctr runs; the container runs on."""
    change = "echo new > /new; rm /etc/hostname; mkdir /folder; sleep 1000"
    async with client.open_run(busybox, ["/bin/sh", "-c", change]) as task:
        while (await task.run_exec(["/bin/test", "-d", "/folder"], check=False)).exit_code:
            await anyio.sleep(0.02)
        image = await client.commit(
            await client.load_container(task.id),
            REF,
            author="somebody",
            message="as it was",
            changes=ConfigChanges(cmd=["/bin/cat", "/new"], labels={"org.example.a": "b"}),
            compression=compression,
        )
        assert (await task.status()).state is TaskState.RUNNING
    async with deleting(image):
        assert (await client.run(image)).stdout == b"new\n"
        assert (await client.run(image, ["/bin/ls", "/etc/hostname"], check=False)).exit_code == 1
        assert await ctr("run", "--rm", REF, "by-ctr") == "new\n"
        config, below = await image.config(), await busybox.config()
        assert config.diff_ids[:-1] == below.diff_ids
        assert (config.env, config.author, dict(config.labels)) == (below.env, "somebody", {"org.example.a": "b"})
        step = (await image.history())[-1]
        assert (step.history.author, step.history.comment) == ("somebody", "as it was")
        assert step.history.created_by == f"/bin/sh -c {change}"
        assert step.diff_id == config.diff_ids[-1]
        labels = (await client.content.info(image.target.digest)).labels
        manifest = await image.manifest()
        assert dict(labels) == {
            "containerd.io/gc.ref.content.config": manifest.config.digest,
            "containerd.io/gc.ref.content.l.0": manifest.layers[0].digest,
            "containerd.io/gc.ref.content.l.1": manifest.layers[1].digest,
        }
        uncompressed = (await client.content.info(manifest.layers[1].digest)).labels["containerd.io/uncompressed"]
        assert uncompressed == step.diff_id


async def test_a_commit_freezes_the_task_only_while_it_reads(client: Client, busybox: Image):
    """The task is paused and resumed; with pause=False never; one paused by somebody else stays so."""
    seen: list[str] = []
    async with (
        client.open_run(busybox, SLEEP) as task,
        client.events.subscribe(f'namespace=={client.namespace},topic~="/tasks/(paused|resumed)"') as envelopes,
    ):
        await client.commit(task.id, REF)
        await client.commit(task.id, REF, pause=False)
        await task.pause()
        await client.commit(task.id, REF)
        assert (await task.status()).state is TaskState.PAUSED
        await task.resume()
        with anyio.fail_after(10):
            async for envelope in envelopes:
                seen.append(type(envelope.event).__name__)
                if len(seen) == 4:
                    break
    assert seen == ["TaskPaused", "TaskResumed", "TaskPaused", "TaskResumed"]
    await client.untag(REF, synchronous=True)


async def test_a_container_without_a_task_is_committed(client: Client, busybox: Image):
    """A container that never ran, or whose task is gone, is committed as its snapshot is."""
    container = await client.create_container(image=busybox, args=SLEEP)
    async with deleting(container), deleting(await client.commit(container, REF)) as image:
        assert (await client.run(image, ["/bin/echo", "same"])).stdout == b"same\n"


async def test_the_parent_is_the_image_the_container_came_from(client: Client, busybox: Image, layered: Image):
    """When the name means another image by now, the commit still stands on the one the container was created from."""
    first = await busybox.tag(OTHER)
    container = await client.create_container(image=first, args=SLEEP)
    await layered.tag(OTHER)
    async with deleting(container), deleting(await client.commit(container, REF)) as image:
        assert (await image.diff_ids())[:-1] == await busybox.diff_ids()
        assert (await image.config()).user == ""
    await client.untag(OTHER)


async def test_a_lost_parent_is_told(client: Client, busybox: Image):
    """When the documents of the container's image are gone, the commit says so and makes nothing."""
    only = await client.build_image(OTHER, base=busybox, layers=[RunLayer(["/bin/touch", "/x"])])
    async with deleting(await client.create_container(image=only, args=SLEEP)) as container:
        await only.delete(synchronous=True)
        with pytest.raises(FailedPreconditionError, match="no longer here"):
            await client.commit(container, REF)
        with pytest.raises(NotFoundError):
            await client.load_image(REF)


async def test_a_container_of_nothing_is_committed(client: Client, busybox: Image):
    """A container that stands on an image without layers is committed with all its files."""
    empty = await client.build_image(OTHER, config=ConfigChanges(cmd=["/bin/x"]))
    container = await client.create_container(image=empty, user="0:0")
    async with deleting(empty), deleting(container), deleting(await client.commit(container, REF)) as image:
        assert len(await image.diff_ids()) == 1
        assert (await image.config()).cmd == ("/bin/x",)


# ── garbage collection ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_collected_while_it_is_built(client: Client, busybox: Image, daemon, namespace: str):
    """Garbage collections that run all the time take nothing of an image on its way."""

    async def collect(times: anyio.Event) -> None:
        async with connect(daemon.address, namespace=namespace) as other:
            while not times.is_set():
                lease = await other.leases.create(f"gc-{anyio.current_time()}")
                await other.leases.delete(lease.id, synchronous=True)

    done = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(collect, done)
        for _ in range(3):
            image = await client.build_image(
                REF, base=busybox, layers=[RunLayer(["/bin/touch", "/a"]), RunLayer(["/bin/touch", "/b"])]
            )
            assert (await image.check(verify=True)).is_whole
            async with client.open_run(image, SLEEP) as task:
                second = await client.commit(task.id, OTHER)
            assert (await client.run(second, ["/bin/ls", "/a", "/b"])).stdout == b"/a\n/b\n"
            copy = await client.convert_image(REF, f"{REF}-copy", compression="zstd")
            assert (await copy.check(verify=True)).is_whole
            for made in (copy, second, image):
                await made.delete(synchronous=True)
        done.set()
