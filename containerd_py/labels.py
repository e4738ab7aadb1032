"""Label keys that containerd gives a meaning, and the rules labels obey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from containerd_py.errors import InvalidArgumentError

MAX_LABEL_SIZE: Final = 4096  # bytes of key and value together (containerd, pkg labels)

GC_ROOT: Final = "containerd.io/gc.root"
GC_EXPIRE: Final = "containerd.io/gc.expire"  # RFC 3339
GC_FLAT: Final = "containerd.io/gc.flat"
GC_REF_CONTENT: Final = "containerd.io/gc.ref.content"
GC_REF_SNAPSHOT: Final = "containerd.io/gc.ref.snapshot"  # + "." + snapshotter
DISTRIBUTION_SOURCE: Final = "containerd.io/distribution.source"  # + "." + registry host
UNCOMPRESSED: Final = "containerd.io/uncompressed"  # a layer blob's diff ID
SNAPSHOT_REF: Final = "containerd.io/snapshot.ref"  # the chain ID an extraction will become
DEFAULT_SNAPSHOTTER: Final = "containerd.io/defaults/snapshotter"  # on a namespace
DEFAULT_RUNTIME: Final = "containerd.io/defaults/runtime"  # on a namespace
CHECKPOINT: Final = "containerd.io/checkpoint"  # on an image
STOP_SIGNAL: Final = "io.containerd.image.config.stop-signal"
NERDCTL: Final = "nerdctl/"  # before everything that nerdctl keeps in labels
NERDCTL_HEALTH_CHECK: Final = "nerdctl/healthcheck"  # Docker's JSON
NERDCTL_LOG_CONFIG: Final = "nerdctl/log-config"  # JSON
NERDCTL_LOG_URI: Final = "nerdctl/log-uri"  # what its `start` has the shim log to
NERDCTL_MOUNTS: Final = "nerdctl/mounts"  # a JSON array, or, followed by "." and a number, one of its objects
NERDCTL_NAME: Final = "nerdctl/name"  # what users call the container
NERDCTL_NAMESPACE: Final = "nerdctl/namespace"
NERDCTL_NETWORKS: Final = "nerdctl/networks"  # a JSON array
NERDCTL_PLATFORM: Final = "nerdctl/platform"
NERDCTL_STATE_DIR: Final = "nerdctl/state-dir"  # the container's own directory on the daemon's host
LOG_FOLDER: Final = "containerd-py/log-folder"  # ours, on a container: where its json-file log is


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels the daemon would refuse, naming the one at fault.

    Raises:
        InvalidArgumentError: A key is empty, or key and value together exceed 4,096 bytes.
    """
    for key, value in labels.items():
        if not key:
            raise InvalidArgumentError("a label key is empty: give every label a name")
        for part in (key, value):
            if not isinstance(part, str):
                raise InvalidArgumentError(f"label {key!r}: {part!r} must be a string")
        size = len(key.encode()) + len(value.encode())
        if size > MAX_LABEL_SIZE:
            raise InvalidArgumentError(
                f"label {key[:64]!r} takes {size} bytes: containerd allows {MAX_LABEL_SIZE} for key and value together"
            )
