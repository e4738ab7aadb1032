"""Limits are laid over those of a spec."""

from containerd_py._flows.update_resources import with_merged_resources


def test_what_is_not_mentioned_stays():
    """Members merge to the leaves, lists are replaced, unknown members stay, and the spec given does not change."""
    spec = {
        "ociVersion": "1.1.0",
        "linux": {
            "resources": {"memory": {"limit": 1, "swap": 2}, "devices": [{"allow": False}], "unknown": 1},
            "seccomp": {"defaultAction": "x"},
        },
    }
    changed = with_merged_resources(spec, {"memory": {"limit": 3}, "pids": {"limit": 4}, "devices": []})
    assert changed["linux"]["resources"] == {
        "memory": {"limit": 3, "swap": 2},
        "pids": {"limit": 4},
        "devices": [],
        "unknown": 1,
    }
    assert changed["linux"]["seccomp"] == {"defaultAction": "x"}
    assert spec["linux"]["resources"]["memory"] == {"limit": 1, "swap": 2}
    assert with_merged_resources({"ociVersion": "1"}, {"pids": {"limit": 1}})["linux"] == {
        "resources": {"pids": {"limit": 1}}
    }
