"""The configuration file of a private daemon: TOML that says what was asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from containerd_py._daemon.configuration import CRI_PLUGIN, TRANSFER_PLUGIN, DaemonConfiguration
from containerd_py.errors import InvalidArgumentError


def made(**options):
    configuration = DaemonConfiguration(
        root=Path("/r"), state=Path("/s"), address="/h/api.sock", debug_address="/h/debug.sock", **options
    )
    return tomllib.loads(configuration.text())


def test_places_and_sockets():
    """Root, state and sockets are where they were put, and nothing is in a default place."""
    settings = made()
    assert (settings["version"], settings["root"], settings["state"]) == (2, "/r", "/s")
    assert settings["grpc"]["address"] == "/h/api.sock"
    assert settings["debug"]["address"] == "/h/debug.sock"
    assert settings["plugins"]["io.containerd.internal.v1.opt"]["path"] == "/r/opt"
    assert settings["plugins"]["io.containerd.nri.v1.nri"]["disable"] is True


def test_kubernetes_is_off_unless_wanted():
    """The CRI plugin is disabled by default, and only by default."""
    assert made()["disabled_plugins"] == [CRI_PLUGIN]
    assert made(disabled_plugins=())["disabled_plugins"] == []


@pytest.mark.parametrize(
    ("snapshotter", "targets"),
    [("overlayfs", ["overlayfs", "native"]), ("native", ["native"]), ("btrfs", ["btrfs", "native"])],
)
def test_the_daemon_unpacks_into_the_snapshotter(snapshotter, targets):
    """The chosen snapshotter comes first; native works everywhere and so is always there, once."""
    unpack = made(snapshotter=snapshotter)["plugins"][TRANSFER_PLUGIN]["unpack_config"]
    assert [target["snapshotter"] for target in unpack] == targets
    assert all(target["platform"].startswith("linux/") for target in unpack)


def test_plugin_settings_are_added_and_win():
    """A setting of the caller's replaces ours of the same name, and leaves the others."""
    plugins = made(
        plugins={
            TRANSFER_PLUGIN: {"config_path": "/etc/certs", "unpack_config": []},
            "io.containerd.gc.v1.scheduler": {"pause_threshold": 0.5, "startup_delay": "1s", "deletion_threshold": 3},
            "custom": {"nested": {"a b": [True, "c"], "empty": {}}},
        }
    )["plugins"]
    assert plugins[TRANSFER_PLUGIN] == {"config_path": "/etc/certs", "unpack_config": []}
    assert plugins["io.containerd.gc.v1.scheduler"]["pause_threshold"] == 0.5
    assert plugins["custom"] == {"nested": {"a b": [True, "c"], "empty": {}}}
    assert "io.containerd.nri.v1.nri" in plugins


@pytest.mark.parametrize(
    "text", ['quote " and \\ backslash', "line\nbreak\ttab", "ünïcode 🐋", "del \x7f", "nul \0", ""]
)
def test_any_text_survives(text):
    """No string breaks out of the file."""
    assert made(plugins={text or "p": {text: text}})["plugins"][text or "p"] == {text: text}


def test_what_toml_has_not():
    """A value without a TOML form is refused, not guessed."""
    with pytest.raises(InvalidArgumentError, match="NoneType"):
        made(plugins={"p": {"key": None}})
