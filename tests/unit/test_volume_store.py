"""Volumes as files: what nerdctl has written is read, what is damaged is told, and half of one is none."""

import json
from pathlib import Path

import pytest

from containerd_py._flows.volume_store import ANONYMOUS, Volume, VolumeStore
from containerd_py.errors import InvalidArgumentError, NotFoundError


@pytest.fixture
def store(tmp_path: Path) -> VolumeStore:
    path = tmp_path / "store" / "volumes" / "ns"
    path.mkdir(parents=True)
    return VolumeStore(str(path))


def describe(store: VolumeStore, name: str, description: str | bytes) -> None:
    folder = Path(store.path, name)
    (folder / "_data").mkdir(parents=True)
    data = description.encode() if isinstance(description, str) else description
    (folder / "volume.json").write_bytes(data)


def test_what_nerdctl_writes_is_read(store: VolumeStore):
    """With labels, without, and with null, which its encoder makes of none."""
    describe(store, "one", '{\n    "labels": {"a": "b", "A": "c"}\n}')
    describe(store, "two", '{"labels": null}')
    describe(store, "three", "{}")
    describe(store, "four", json.dumps({"labels": {ANONYMOUS: ""}}))
    assert [volume.name for volume in store.list()] == ["four", "one", "three", "two"]
    assert store.load("one") == Volume(name="one", path=f"{store.path}/one/_data", labels={"a": "b", "A": "c"})
    assert [volume.is_anonymous for volume in store.list()] == [True, False, False, False]
    assert store.load("five") is None


@pytest.mark.parametrize(
    "description", ["", "[]", "{", '{"labels": []}', '{"labels": {"a": 1}}', b"\xff", b" " * (2 << 20)]
)
def test_what_is_damaged_is_told(store: VolumeStore, description: str | bytes):
    """A description that cannot be read fails the one who asks for it, and nobody who lists."""
    describe(store, "bad", description)
    with pytest.raises(InvalidArgumentError):
        store.load("bad")
    assert store.list() == []


def test_what_is_no_volume_is_left_out(store: VolumeStore, tmp_path: Path):
    """Files, half-made ones, half-removed ones and other names are none; a store that is not there is empty."""
    Path(store.path, "file").touch()
    Path(store.path, "half-made").mkdir()
    Path(store.path, "-odd").mkdir()
    describe(store, ".going-x", "{}")
    assert store.list() == []
    assert VolumeStore(str(tmp_path / "nowhere")).list() == []


def test_half_made_is_finished(store: VolumeStore):
    """What a program that was killed has begun does not keep the next one from making it."""
    Path(store.path, "data", "_data").mkdir(parents=True)
    volume = store.create("data", {"a": "b"})
    assert store.load("data") == volume
    assert Path(volume.path).stat().st_mode & 0o777 == 0o755


def test_removed_in_one_step(store: VolumeStore, monkeypatch: pytest.MonkeyPatch):
    """A removal that fails in the middle leaves no volume, and the next one of that name is a new one."""
    volume = store.create("data", {})
    Path(volume.path, "file").touch()
    calls: list[str] = []

    def fail(path: str) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise PermissionError(path)

    with monkeypatch.context() as patched:
        patched.setattr("containerd_py._flows.volume_store.remove_tree", fail)
        with pytest.raises(PermissionError):
            store.remove("data")
    assert store.load("data") is None
    assert list(Path(store.create("data", {}).path).iterdir()) == []
    store.remove("data")
    assert list(Path(store.path).iterdir()) == []


def test_remains_are_removed(store: VolumeStore):
    """What is left of a removal that was killed goes at the next occasion."""
    describe(store, ".going-data", "{}")
    store.remove_remains()
    assert list(Path(store.path).iterdir()) == []


def test_what_is_not_there_cannot_be_removed(store: VolumeStore):
    """A name without a volume is told, and a file of that name stays."""
    with pytest.raises(NotFoundError):
        store.remove("data")
    Path(store.path, "file").touch()
    Path(store.path, "link").symlink_to(store.path)
    for name in ("file", "link"):
        with pytest.raises(NotFoundError):
            store.remove(name)
        assert Path(store.path, name).exists()
