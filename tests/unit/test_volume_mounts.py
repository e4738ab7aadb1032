"""Which volumes a container gets: as given, as the image declares, and never where they would do harm."""

import json

import pytest

from containerd_py import VolumeMount
from containerd_py._flows.volume_mounts import (
    MountedVolume,
    all_mounts,
    own_volumes,
    parse_volume,
    volume_labels,
    volume_wishes,
    volumes_in_labels,
)
from containerd_py._flows.volume_store import Volume
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.image_spec import ImageConfig


def mounted(destination: str, name: str | None = None, *, read_only: bool = False) -> MountedVolume:
    wish = VolumeMount(destination=destination, name=name, read_only=read_only)
    return MountedVolume(wish=wish, volume=Volume(name=name or "f" * 64, path=f"/store/{name}/_data"))


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("/data", VolumeMount(destination="/data")),
        ("web:/data", VolumeMount(destination="/data", name="web")),
        ("web:/data:rw", VolumeMount(destination="/data", name="web")),
        ("web:/data:ro", VolumeMount(destination="/data", name="web", read_only=True)),
    ],
)
def test_short_forms(text: str, volume: VolumeMount):
    """A volume is written as for nerdctl's -v."""
    assert parse_volume(text) == volume


@pytest.mark.parametrize(
    "text",
    [
        *("", "x:/y", "../up:/data", "./here:/data", "/host:/data", "data:relative", "data:/", "/proc/x", "/dev"),
        *("web:/sys", "web:/b:rx", "web:/a:ro:x", "a/b:/data", "/a/../proc", "/a\0", "//", "/./", "//proc"),
    ],
)
def test_what_is_no_volume(text: str):
    """Neither paths of the host nor places of the kernel's own file systems are taken."""
    with pytest.raises(InvalidArgumentError):
        parse_volume(text)


def test_the_images_volumes():
    """They come after what is given, only where nothing is mounted, and only when asked for."""
    config = ImageConfig(volumes=("/data", "relative", "/given/", "/bound", "/a/../../deep/one", "/data/"))
    bound = {"destination": "/bound/", "type": "bind", "source": "/host"}
    wishes = volume_wishes(["web:/given"], config, of_image=True, mounts=[bound])
    assert [(wish.place, wish.name) for wish in wishes] == [
        ("/given", "web"),
        ("/data", None),
        ("/relative", None),
        ("/deep/one", None),
    ]
    assert volume_wishes([], config, of_image=False, mounts=[bound]) == []


@pytest.mark.parametrize("volumes", [("/",), ("/proc",), ("/../dev/x",), tuple(f"/v{n}" for n in range(101))])
def test_images_that_are_not_to_be_trusted(volumes: tuple[str, ...]):
    """An image can neither cover what the runtime mounts nor have any number of directories made."""
    with pytest.raises(InvalidArgumentError):
        volume_wishes([], ImageConfig(volumes=volumes), of_image=True, mounts=[])


def test_one_place_one_mount():
    """Two things at one place are refused, however the place is written."""
    for given, mounts in ((["a1:/x", "b1:/x/"], []), (["a1:/x"], [{"destination": "/x/."}])):
        with pytest.raises(InvalidArgumentError, match="/x"):
            volume_wishes(given, ImageConfig(), of_image=False, mounts=mounts)


def test_outer_mounts_come_first():
    """No mount covers another one that is to be seen."""
    mounts = all_mounts(
        [mounted("/a/b", "one"), mounted("/a", "two")], [{"destination": "/a/b/c"}, {"destination": "/z"}]
    )
    assert [mount["destination"] for mount in mounts] == ["/z", "/a", "/a/b", "/a/b/c"]


def test_labels_that_nerdctl_reads():
    """Every mount has a label of its own; the volumes without a name are listed."""
    bind = {"destination": "/host", "type": "bind", "source": "/srv", "options": ["rbind", "ro", "rslave"]}
    labels = volume_labels([mounted("/data", "web", read_only=True), mounted("/own")], [bind, {"destination": "/tmp"}])
    assert json.loads(labels["nerdctl/mounts.0"]) == {
        "Type": "bind",
        "Source": "/srv",
        "Destination": "/host",
        "Mode": "ro",
        "RW": False,
        "Propagation": "rslave",
    }
    assert json.loads(labels["nerdctl/mounts.1"]) == {
        "Type": "volume",
        "Name": "web",
        "Source": "/store/web/_data",
        "Destination": "/data",
        "Driver": "local",
        "Mode": "ro",
        "RW": False,
        "Propagation": "rprivate",
    }
    assert json.loads(labels["nerdctl/anonymous-volumes"]) == ["f" * 64]
    assert volumes_in_labels(labels) == {"web", "f" * 64}
    assert own_volumes(labels) == ["f" * 64]
    assert volume_labels([], [bind]) == {}


@pytest.mark.parametrize(
    "value", ["", "[", "null", "[[]]", "[1]", '{"Type": "volume"}', '[{"Type": "volume", "Name": 7}]', "\ud800"]
)
def test_damaged_labels_name_nothing(value: str):
    """Whatever stands in the labels, reading them fails nothing."""
    assert volumes_in_labels({"nerdctl/mounts": value, "nerdctl/mounts.0": value}) == set()
    assert own_volumes({"nerdctl/anonymous-volumes": value}) == []


def test_the_old_label_is_read_as_well():
    """One label with all mounts, as older nerdctl wrote it, counts like many."""
    assert volumes_in_labels({"nerdctl/mounts": '[{"Type": "volume", "Name": "old"}, {"Type": "bind"}]'}) == {"old"}
    assert own_volumes({"nerdctl/anonymous-volumes": '["../x", "ok-name", 7]'}) == ["ok-name"]


def test_a_string_is_no_list():
    """A single volume without its list is told, and not taken apart into letters."""
    with pytest.raises(InvalidArgumentError, match="list"):
        volume_wishes("/data", ImageConfig(), of_image=False, mounts=[])
