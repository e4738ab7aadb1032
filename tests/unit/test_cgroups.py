"""Cgroups of containers: where a spec's path leads, and what is removed there."""

from pathlib import Path

import attrs
import pytest

from containerd_py._daemon.cgroups import cgroup_place, hierarchies, remove_tree
from containerd_py._flows.lost_cgroups import cgroup_of
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue

MOUNTS = """\
24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 1 0:29 / /run/other/rootfs/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 24 0:29 / /sys/fs/cgroups rw - cgroup cgroup rw,memory
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/default/web", "default/web"),
        ("/pods/a:b:c", "pods/a:b:c"),
        ("/a" * 2047, ("/a" * 2047)[1:]),
        ("/a" * 2048, ""),  # longer than a path can be
        ("", ""),
        ("/", ""),  # the hierarchy itself
        ("default/web", ""),  # below the cgroup of whoever runs runc
        ("system.slice:runc:web", ""),
        ("/../other", ""),
        ("/default/../..", ""),
        ("/default/./web", ""),
        ("//default", ""),
        ("/default/", ""),
        ("/default/web\0", ""),
        ("/" + "n" * 256, ""),
    ],
)
def test_a_path_leads_below_the_hierarchy_or_nowhere(path: str, place: str):
    """Only an absolute path without tricks is followed: a spec is whatever others have written."""
    assert cgroup_place(path) == place


def test_hierarchies_are_found_where_they_are_mounted():
    """Both versions count, and only below /sys/fs/cgroup: what is mounted elsewhere is a container's."""
    expected = [Path("/sys/fs/cgroup") / name for name in ("unified", "cpu,cpuacct", "memory")]
    assert hierarchies(MOUNTS) == expected
    assert hierarchies("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n") == [Path("/sys/fs/cgroup")]


def test_a_tree_goes_from_the_bottom(tmp_path: Path):
    """Cgroups in a cgroup go first; one that is not there is fine."""
    (tmp_path / "web/inner/inmost").mkdir(parents=True)
    (tmp_path / "web/other").mkdir()
    assert remove_tree(tmp_path / "web") == []
    assert remove_tree(tmp_path / "web") == []
    assert list(tmp_path.iterdir()) == []


def test_a_tree_with_a_process_in_it_stays_whole(tmp_path: Path):
    """One process anywhere keeps all of it, the empty ones as well."""
    (tmp_path / "web/empty").mkdir(parents=True)
    (tmp_path / "web/used").mkdir()
    (tmp_path / "web/used/cgroup.procs").write_text("12\n345\n")
    assert remove_tree(tmp_path / "web") == [f"{tmp_path}/web is in use by process 12, process 345"]
    assert sorted(path.name for path in (tmp_path / "web").iterdir()) == ["empty", "used"]


def test_what_cannot_be_removed_is_told(tmp_path: Path):
    """The kernel's word is passed on."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/file").touch()
    assert remove_tree(tmp_path / "web") == [f"{tmp_path}/web stays: Directory not empty"]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (b'{"linux":{"cgroupsPath":"/pods/web"}}', "/pods/web"),
        (b'{"linux":{"cgroupsPath":"a.slice:runc:web"}}', "a.slice:runc:web"),
        (b'{"linux":{"cgroupsPath":""}}', "/default/web"),
        (b'{"linux":{"cgroupsPath":["/pods"]}}', "/default/web"),
        (b'{"linux":"/pods"}', "/default/web"),
        (b"{}", "/default/web"),
        (b"no JSON", "/default/web"),
        (None, "/default/web"),
    ],
)
def test_a_containers_cgroup_is_read_from_its_spec(spec: bytes | None, path: str):
    """What a spec says counts where it can be read; else the default, which nobody else uses."""
    record = ContainerRecord(id="web", runtime=Runtime(name="io.containerd.runc.v2"))
    if spec is not None:
        record = attrs.evolve(record, spec=TypedValue(type_url=RUNTIME_SPEC, value=spec))
    assert cgroup_of(record, "default") == path


def test_names_of_other_mounts_hide_no_hierarchy():
    """A mount point may be called anything, line ends of other alphabets and carriage returns included."""
    odd = "29 24 0:25 / /srv/a\u2028b\rc\x0cd rw - tmpfs tmpfs rw\n"
    assert hierarchies(odd + MOUNTS + odd) == hierarchies(MOUNTS) != []
