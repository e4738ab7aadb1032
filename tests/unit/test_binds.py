"""What a spec mounts of this machine's, read from anybody's spec."""

import json

import pytest

from containerd_py.oci.spec_json import spec_from_json
from containerd_py.trees.binds import Bind, binds_of


def bind(source: object = "/srv/x", destination: object = "/x", **more: object) -> dict[str, object]:
    return {"source": source, "destination": destination, "type": "bind", **more}


def test_binds_are_read_from_a_spec():
    """By type or by option, in their order, with the destination without detours."""
    mounts = [
        {"source": "proc", "destination": "/proc", "type": "proc"},
        bind(options=["rbind", "ro"]),
        {"source": "/srv/y", "destination": "data/../y/", "options": ["rbind"]},
        {"source": "/srv/y", "destination": "/data/../y/", "options": ["rbind"]},
        bind("/srv/file", "/etc/hosts", type="none", options=["bind", "rw"]),
    ]
    assert binds_of(spec_from_json(json.dumps({"ociVersion": "1.0.2", "mounts": mounts}).encode())) == [
        Bind(source="/srv/x", destination="/x", read_only=True),
        Bind(source="/srv/y", destination="/y"),
        Bind(source="/srv/file", destination="/etc/hosts"),
    ]


@pytest.mark.parametrize(
    "mounts",
    [
        None,
        "/srv",
        ["/srv"],
        [{}],
        [bind(source=5)],
        [bind(source="srv")],
        [bind(source="/srv/\0")],
        [bind(source="/srv/\ud800")],
        [bind(destination=None)],
        [bind(destination="/x\0")],
        [bind(destination="/")],
        [bind(destination="/x/..")],
        [bind(destination="/proc/x")],
        [bind(destination="/a/../sys")],
        [bind(source="/")],
        [bind(source="/srv/..")],
        [bind(source="/dev/null")],
        [bind(source="/sys/fs/cgroup")],
        [bind(options="rbind")],
        [bind(options=["idmap"])],
        [bind(uidMappings=[{"containerID": 0, "hostID": 1000, "size": 1}])],
        [{"source": "/srv", "destination": "/x", "type": "tmpfs"}],
    ],
)
def test_what_is_no_bind_is_passed_over(mounts: object):
    """Hostile and damaged entries, what the kernel makes up, and ID-mapped mounts name nothing to be mounted."""
    assert binds_of({"ociVersion": "1.0.2", "mounts": mounts}) == []
